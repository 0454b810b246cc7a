//! `kafka-reassign-partitions --cancel`

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use strandline_client::Cluster;

use super::current::{current, replica_directories};
use super::options::Options;
use super::plan::{Key, LogDirMoves, PlannedPartition, log_dir_moves, name, names};
use super::requests::{alter_reassignments, move_between_directories};
use super::throttles::clear_throttles;
use super::{error, of_client};
use crate::command::Outcome;
use crate::replica_moves;

pub(super) async fn cancel(
    cluster: &Cluster,
    options: &Options,
    plan: &[PlannedPartition],
) -> Outcome {
    let moving = replica_moves::list(cluster, None).await;
    let moving = moving.map_err(|e| of_client(&e))?;
    let meant: BTreeSet<Key> = plan
        .iter()
        .map(|p| (p.topic.clone(), p.partition))
        .filter(|key| moving.contains_key(key))
        .collect();
    if meant.is_empty() {
        println!("None of the specified partition reassignments are active.");
    } else {
        let targets = meant.iter().map(|key| (key.clone(), None));
        let failures = alter_reassignments(cluster, targets, options).await?;
        if let Some((key, e)) = failures.first() {
            return Err(error(format!(
                "Error cancelling partition reassignment for {}: {}",
                name(key),
                e.reason()
            )));
        }
        let plural = if meant.len() == 1 { "" } else { "s" };
        println!(
            "Successfully cancelled partition reassignment{plural} for: {}",
            names(meant.iter())
        );
    }
    let topics: BTreeSet<String> = plan.iter().map(|p| p.topic.clone()).collect();
    let current = current(cluster, &topics).await?;
    let wished = log_dir_moves(plan);
    let found = if wished.is_empty() {
        BTreeMap::new()
    } else {
        replica_directories(cluster, &current).await
    };
    // A move to where the replica is calls it off.
    let mut back = LogDirMoves::new();
    for key in wished.keys() {
        if let Some((path, Some(_))) = found.get(key) {
            back.insert(key.clone(), path.clone());
        }
    }
    if back.is_empty() {
        print!("None of the specified partition moves are active.");
    } else {
        let moves: Vec<String> = back
            .keys()
            .map(|(t, p, b)| format!("{t}-{p}-{b}"))
            .collect();
        move_between_directories(cluster, back, Duration::from_millis(options.timeout)).await?;
        println!("Successfully cancelled moves for: {}", moves.join(","));
    }
    if options.preserve_throttles {
        println!();
        return Ok(());
    }
    clear_throttles(cluster, plan).await
}
