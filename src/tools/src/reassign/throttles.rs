//! The settings of `--throttle`, which are removed when the moves are complete.

use std::collections::{BTreeMap, BTreeSet};

use strandline_client::Cluster;

use super::plan::{Current, Key, PlannedPartition, log_dir_moves};
use super::{Options, of_client};
use crate::command::Outcome;
use crate::configs::{BROKER, TOPIC, alter_resource};
use crate::replica_moves::{ReplicaMove, joined};

const TOPIC_THROTTLES: [&str; 2] = [
    "leader.replication.throttled.replicas",
    "follower.replication.throttled.replicas",
];
const BROKER_THROTTLES: [&str; 2] = [
    "leader.replication.throttled.rate",
    "follower.replication.throttled.rate",
];
const LOG_DIR_THROTTLE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";
/// Sets or takes back throttles of a topic or a broker.
async fn throttle<'a>(
    cluster: &Cluster,
    resource: (i8, &str),
    changes: impl IntoIterator<Item = (&'a str, Option<String>)>,
) -> Outcome {
    let done = alter_resource(cluster, resource, changes.into_iter()).await;
    done.map_err(|e| of_client(&e))
}

pub(super) async fn set_throttles(
    cluster: &Cluster,
    options: &Options,
    plan: &[PlannedPartition],
    current: &Current,
    moving: &BTreeMap<Key, ReplicaMove>,
) -> Outcome {
    let inter_broker = options.throttle.filter(|t| *t >= 0);
    let between_dirs = options.replica_alter_log_dirs_throttle.filter(|t| *t >= 0);
    if inter_broker.is_none() && between_dirs.is_none() {
        return Ok(());
    }
    println!(
        "Warning: You must run --verify periodically, until the reassignment completes, to ensure the throttle is removed."
    );
    if let Some(rate) = inter_broker {
        // For every partition: the brokers that send and those that receive.
        let mut givers: BTreeMap<&str, BTreeSet<(i32, i32)>> = BTreeMap::new();
        let mut takers: BTreeMap<&str, BTreeSet<(i32, i32)>> = BTreeMap::new();
        for p in plan {
            let key = (p.topic.clone(), p.partition);
            let arriving = moving
                .get(&key)
                .map(|m| m.adding.clone())
                .unwrap_or_default();
            let sources = current[&key].iter().filter(|id| !arriving.contains(id));
            let sources: BTreeSet<i32> = sources.copied().collect();
            let of_topic = takers.entry(&p.topic).or_default();
            let new = p.replicas.iter().filter(|id| !sources.contains(id));
            of_topic.extend(new.map(|id| (p.partition, *id)));
            let of_topic = givers.entry(&p.topic).or_default();
            of_topic.extend(sources.iter().map(|id| (p.partition, *id)));
        }
        let listed = |pairs: Option<&BTreeSet<(i32, i32)>>| {
            let pairs = pairs.into_iter().flatten();
            let pairs: Vec<String> = pairs.map(|(p, id)| format!("{p}:{id}")).collect();
            pairs.join(",")
        };
        for topic in givers.keys() {
            let changes = [
                (TOPIC_THROTTLES[0], Some(listed(givers.get(topic)))),
                (TOPIC_THROTTLES[1], Some(listed(takers.get(topic)))),
            ];
            throttle(cluster, (TOPIC, topic), changes).await?;
        }
        let pairs = givers.values().chain(takers.values()).flatten();
        let brokers: BTreeSet<i32> = pairs.map(|(_, id)| *id).collect();
        for broker in brokers {
            let changes = BROKER_THROTTLES.map(|key| (key, Some(rate.to_string())));
            throttle(cluster, (BROKER, &broker.to_string()), changes).await?;
        }
        println!("The inter-broker throttle limit was set to {rate} B/s");
    }
    if let Some(rate) = between_dirs {
        let brokers: BTreeSet<i32> = log_dir_moves(plan).into_keys().map(|(_, _, b)| b).collect();
        for broker in brokers {
            let changes = [(LOG_DIR_THROTTLE, Some(rate.to_string()))];
            throttle(cluster, (BROKER, &broker.to_string()), changes).await?;
        }
        println!("The replica-alter-dir throttle limit was set to {rate} B/s");
    }
    Ok(())
}

/// Removes the throttles that `--throttle` has set.
pub(super) async fn clear_throttles(cluster: &Cluster, plan: &[PlannedPartition]) -> Outcome {
    let brokers: Vec<i32> = cluster.nodes().into_keys().collect();
    println!(
        "Clearing broker-level throttles on brokers {}",
        joined(&brokers)
    );
    let all = [BROKER_THROTTLES[0], BROKER_THROTTLES[1], LOG_DIR_THROTTLE];
    for broker in &brokers {
        let changes = all.map(|key| (key, None));
        throttle(cluster, (BROKER, &broker.to_string()), changes).await?;
    }
    let topics: BTreeSet<&str> = plan.iter().map(|p| p.topic.as_str()).collect();
    let plural = if topics.len() == 1 { "" } else { "s" };
    let listed: Vec<&str> = topics.iter().copied().collect();
    println!(
        "Clearing topic-level throttles on topic{plural} {}",
        listed.join(",")
    );
    for topic in topics {
        let changes = TOPIC_THROTTLES.map(|key| (key, None));
        throttle(cluster, (TOPIC, topic), changes).await?;
    }
    Ok(())
}
