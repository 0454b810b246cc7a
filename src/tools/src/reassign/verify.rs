//! `kafka-reassign-partitions --verify`

use std::collections::{BTreeMap, BTreeSet};

use strandline_client::Cluster;

use super::current::{current, replica_directories};
use super::of_client;
use super::options::Options;
use super::plan::{PlannedPartition, log_dir_moves, name};
use super::throttles::clear_throttles;
use crate::command::Outcome;
use crate::replica_moves::{self, joined};

pub(super) async fn verify(
    cluster: &Cluster,
    options: &Options,
    plan: &[PlannedPartition],
) -> Outcome {
    let topics: BTreeSet<String> = plan.iter().map(|p| p.topic.clone()).collect();
    let moving = replica_moves::list(cluster, None).await;
    let moving = moving.map_err(|e| of_client(&e))?;
    let current = current(cluster, &topics).await?;
    println!("Status of partition reassignment:");
    let mut goes_on = false;
    for p in plan {
        let key = (p.topic.clone(), p.partition);
        let shown = name(&key);
        if moving.contains_key(&key) {
            goes_on = true;
            println!("Reassignment of partition {shown} is still in progress.");
            continue;
        }
        match current.get(&key) {
            Some(replicas) if *replicas == p.replicas => {
                println!("Reassignment of partition {shown} is completed.");
            }
            Some(replicas) => println!(
                "There is no active reassignment of partition {shown}, but replica set is {} rather than {}.",
                joined(replicas),
                joined(&p.replicas)
            ),
            None => println!("Partition {shown} does not exist."),
        }
    }
    let wished = log_dir_moves(plan);
    let found = if wished.is_empty() {
        BTreeMap::new()
    } else {
        replica_directories(cluster, &current).await
    };
    let mut lines = Vec::new();
    for ((topic, partition, broker), dir) in &wished {
        let replica = format!("{topic}-{partition}-{broker}");
        let line = match found.get(&(topic.clone(), *partition, *broker)) {
            None => format!(
                "Replica {replica} cannot be found in any live log directory on broker {broker}."
            ),
            Some((_, Some(future))) if future == dir => {
                goes_on = true;
                format!("Reassignment of replica {replica} is still in progress.")
            }
            Some((_, Some(future))) => format!(
                "Partition {topic}-{partition} on broker {broker} is being moved to log dir {future} instead of {dir}."
            ),
            Some((path, None)) if path == dir => {
                format!("Reassignment of replica {replica} completed successfully.")
            }
            Some((path, None)) => format!(
                "Partition {topic}-{partition} on broker {broker} is not being moved from log dir {path} to {dir}."
            ),
        };
        lines.push(line);
    }
    println!("{}", lines.join("\n"));
    if goes_on || !moving.is_empty() || options.preserve_throttles {
        return Ok(());
    }
    clear_throttles(cluster, plan).await
}
