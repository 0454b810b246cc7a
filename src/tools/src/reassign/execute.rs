//! `kafka-reassign-partitions --execute`

use std::collections::BTreeSet;
use std::time::Duration;

use strandline_client::Cluster;

use super::current::{as_json, current};
use super::options::Options;
use super::plan::{Current, Key, PlannedPartition, log_dir_moves, name, names};
use super::requests::{alter_reassignments, move_between_directories};
use super::throttles::set_throttles;
use super::{error, of_client};
use crate::command::{Failure, Outcome};
use crate::replica_moves;

pub(super) async fn execute(
    cluster: &Cluster,
    options: &Options,
    plan: &[PlannedPartition],
) -> Outcome {
    let topics: BTreeSet<String> = plan.iter().map(|p| p.topic.clone()).collect();
    cluster
        .metadata(Some(&[]))
        .await
        .map_err(|e| of_client(&e))?;
    let nodes = cluster.nodes();
    let unknown = plan.iter().flat_map(|p| &p.replicas);
    if let Some(unknown) = unknown.copied().find(|id| !nodes.contains_key(id)) {
        return Err(error(format!("Unknown broker id {unknown}")));
    }
    let moving = replica_moves::list(cluster, None).await;
    let moving = moving.map_err(|e| of_client(&e))?;
    if !moving.is_empty() && !options.additional {
        return Err(Failure {
            stdout: Some(
                "Cannot execute because there is an existing partition assignment.  Use --additional to override this and create a new partition assignment in addition to the existing one. The --additional flag can also be used to change the throttle by resubmitting the current reassignment.".into(),
            ),
            stderr: None,
        });
    }
    let all = current(cluster, &topics).await?;
    let mut affected = Current::new();
    for p in plan {
        let key = (p.topic.clone(), p.partition);
        let replicas = all
            .get(&key)
            .ok_or_else(|| error(format!("Partition {} does not exist.", name(&key))))?;
        affected.insert(key, replicas.clone());
    }
    println!(
        "Current partition replica assignment\n\n{}\n\nSave this to use as the --reassignment-json-file option during rollback",
        as_json(cluster, &affected).await
    );
    set_throttles(cluster, options, plan, &affected, &moving).await?;
    reassign(cluster, options, plan).await?;
    let moves = log_dir_moves(plan);
    if !moves.is_empty() {
        move_between_directories(cluster, moves, Duration::from_millis(options.timeout)).await?;
    }
    Ok(())
}

/// Asks for new replicas; reports the reassignments that have begun.
pub(super) async fn reassign(
    cluster: &Cluster,
    options: &Options,
    plan: &[PlannedPartition],
) -> Outcome {
    let targets = plan.iter().map(|p| {
        let target = Some(p.replicas.as_slice());
        ((p.topic.clone(), p.partition), target)
    });
    let failures = alter_reassignments(cluster, targets, options).await?;
    if !failures.is_empty() {
        let told: Vec<String> = failures
            .iter()
            .map(|(key, e)| format!("{}: {}", name(key), e.reason()))
            .collect();
        return Err(error(format!(
            "Error reassigning partition(s):\n{}",
            told.join("\n")
        )));
    }
    let keys: BTreeSet<Key> = plan
        .iter()
        .map(|p| (p.topic.clone(), p.partition))
        .collect();
    let plural = if keys.len() == 1 { "" } else { "s" };
    println!(
        "Successfully started partition reassignment{plural} for {}",
        names(keys.iter())
    );
    Ok(())
}
