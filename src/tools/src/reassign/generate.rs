//! `kafka-reassign-partitions --generate`

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use serde::Deserialize;
use strandline_client::Cluster;

use super::current::{as_json, current};
use super::error;
use super::options::Options;
use super::plan::{ANY, Key, PROPOSED, PlannedPartition, alternating, place, plan_json};
use crate::command::{Failure, Outcome, read_json};
use crate::replica_moves::joined;

#[derive(Deserialize)]
struct TopicsToMove {
    version: i32,
    topics: Vec<TopicToMove>,
}

#[derive(Deserialize)]
struct TopicToMove {
    topic: String,
}

pub(super) async fn generate(cluster: &Cluster, options: &Options) -> Outcome {
    let (Some(path), Some(brokers)) = (&options.topics_to_move_json_file, &options.broker_list)
    else {
        return Err(Failure::stderr(
            "--generate needs --topics-to-move-json-file and --broker-list",
        ));
    };
    let given: TopicsToMove = read_json(path).map_err(error)?;
    if given.version != 1 {
        return Err(error(format!(
            "Not supported version field value {}",
            given.version
        )));
    }
    let brokers: Result<Vec<i32>, _> = brokers.split(',').map(|id| id.trim().parse()).collect();
    let brokers = brokers.map_err(|_| error("--broker-list is not a list of broker ids"))?;
    let unique: BTreeSet<i32> = brokers.iter().copied().collect();
    if unique.len() < brokers.len() {
        return Err(error(format!(
            "Broker list contains duplicate entries: {}",
            joined(&brokers)
        )));
    }
    let topics: BTreeSet<String> = given.topics.into_iter().map(|t| t.topic).collect();
    let current = current(cluster, &topics).await?;
    let nodes = cluster.nodes();
    if let Some(unknown) = brokers.iter().find(|id| !nodes.contains_key(id)) {
        return Err(error(format!("Unknown broker id {unknown}")));
    }
    let racks: BTreeMap<i32, String> = brokers
        .iter()
        .map(|id| {
            let rack = nodes.get(id).and_then(|n| n.rack.clone());
            (
                *id,
                rack.filter(|_| !options.disable_rack_aware)
                    .unwrap_or_default(),
            )
        })
        .collect();
    let order = alternating(&racks);
    let mut proposed = Vec::new();
    for topic in &topics {
        let partitions: Vec<(&Key, &Vec<i32>)> =
            current.iter().filter(|((t, _), _)| t == topic).collect();
        let start = rand::rng().random_range(0..order.len());
        for (index, ((topic, partition), replicas)) in partitions.into_iter().enumerate() {
            if replicas.len() > order.len() {
                return Err(error(format!(
                    "Replication factor: {} larger than available brokers: {}",
                    replicas.len(),
                    order.len()
                )));
            }
            let shift = index / order.len();
            let chosen = place(&order, &racks, replicas.len(), start + index, shift);
            proposed.push(PlannedPartition {
                topic: topic.clone(),
                partition: *partition,
                log_dirs: vec![ANY.into(); chosen.len()],
                replicas: chosen,
            });
        }
    }
    println!(
        "Current partition replica assignment\n{}\n\n{PROPOSED}\n{}",
        as_json(cluster, &current).await,
        plan_json(proposed)
    );
    Ok(())
}
