//! The replicas of partitions as they are now, and their directories.

use std::collections::{BTreeMap, BTreeSet};

use strandline_client::{Cluster, check};
use strandline_wire::ErrorCode;

use super::plan::{ANY, Current, PlannedPartition, plan_json};
use super::{error, of_client};
use crate::command::Failure;
use crate::log_dirs::directories;

/// The replicas of every partition of some topics.
pub(super) async fn current(
    cluster: &Cluster,
    topics: &BTreeSet<String>,
) -> Result<Current, Failure> {
    let asked: Vec<String> = topics.iter().cloned().collect();
    let metadata = cluster.metadata(Some(&asked)).await;
    let metadata = metadata.map_err(|e| of_client(&e))?;
    let mut found = Current::new();
    for topic in &metadata.topics {
        let name = topic.name.as_ref().map_or("", |n| n.as_str());
        if topic.error_code == ErrorCode::UnknownTopicOrPartition.code() {
            return Err(error(format!(
                "org.apache.kafka.common.errors.UnknownTopicOrPartitionException: Topic {name} not found."
            )));
        }
        check(name, topic.error_code, None).map_err(|e| of_client(&e))?;
        for p in &topic.partitions {
            let replicas = p.replica_nodes.iter().map(|id| id.0).collect();
            found.insert((name.to_owned(), p.partition_index), replicas);
        }
    }
    Ok(found)
}

/// The directories of replicas, by partition and broker; brokers that do not answer are missing.
pub(super) async fn replica_directories(
    cluster: &Cluster,
    current: &Current,
) -> BTreeMap<(String, i32, i32), (String, Option<String>)> {
    let brokers: BTreeSet<i32> = current.values().flatten().copied().collect();
    let mut found: BTreeMap<(String, i32, i32), (String, Option<String>)> = BTreeMap::new();
    for broker in brokers {
        for (path, failed, replicas) in directories(cluster, broker).await.unwrap_or_default() {
            if failed.is_some() {
                continue;
            }
            for replica in replicas {
                let key = (replica.topic, replica.partition, broker);
                let entry = found.entry(key).or_default();
                if replica.is_future {
                    entry.1 = Some(path.clone());
                } else {
                    entry.0.clone_from(&path);
                }
            }
        }
    }
    found
}

/// An assignment as JSON, with the directories that replicas are in.
pub(super) async fn as_json(cluster: &Cluster, current: &Current) -> String {
    let found = replica_directories(cluster, current).await;
    let partitions = current.iter().map(|((topic, partition), replicas)| {
        let log_dirs = replicas.iter().map(|broker| {
            let known = found.get(&(topic.clone(), *partition, *broker));
            known
                .map(|(path, _)| path.clone())
                .filter(|path| !path.is_empty())
                .unwrap_or_else(|| ANY.into())
        });
        PlannedPartition {
            topic: topic.clone(),
            partition: *partition,
            replicas: replicas.clone(),
            log_dirs: log_dirs.collect(),
        }
    });
    plan_json(partitions.collect())
}
