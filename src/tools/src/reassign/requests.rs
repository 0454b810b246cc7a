//! The requests that move replicas: between brokers, and between directories of a broker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::messages as m;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use strandline_client::{ClientError, Cluster, check};
use strandline_wire::{ErrorCode, text};

use super::options::Options;
use super::plan::{Key, LogDirMoves, name};
use super::{error, of_client};
use crate::command::{Failure, Outcome};

/// Between looks at whether replicas are there that are to move between directories.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// `None` as a target cancels a reassignment. Returns the refused reassignments.
pub(super) async fn alter_reassignments<'a>(
    cluster: &Cluster,
    targets: impl Iterator<Item = (Key, Option<&'a [i32]>)>,
    options: &Options,
) -> Result<Vec<(Key, ClientError)>, Failure> {
    let mut topics: BTreeMap<String, Vec<ReassignablePartition>> = BTreeMap::new();
    for ((topic, partition), target) in targets {
        let replicas = target.map(|ids| ids.iter().copied().map(m::BrokerId).collect());
        let asked = ReassignablePartition::default()
            .with_partition_index(partition)
            .with_replicas(replicas);
        topics.entry(topic).or_default().push(asked);
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        ReassignableTopic::default()
            .with_name(m::TopicName(text(&topic)))
            .with_partitions(partitions)
    });
    let mut request = m::AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(cluster.options.request_timeout.as_millis() as i32)
        .with_topics(topics.collect());
    if options.disallow_replication_factor_change {
        request = request.with_allow_replication_factor_change(false);
    }
    let answer = cluster
        .call_any("alterPartitionReassignments", &request)
        .await;
    let answer = answer.map_err(|e| of_client(&e))?;
    let whole = check(
        "reassignment",
        answer.error_code,
        answer.error_message.as_ref(),
    );
    whole.map_err(|e| of_client(&e))?;
    let mut failures = Vec::new();
    for topic in &answer.responses {
        for p in &topic.partitions {
            let key = (topic.name.to_string(), p.partition_index);
            if let Err(e) = check(&name(&key), p.error_code, p.error_message.as_ref()) {
                failures.push((key, e));
            }
        }
    }
    Ok(failures)
}

/// Moves replicas between directories of their brokers, as soon as the brokers have them.
pub(super) async fn move_between_directories(
    cluster: &Cluster,
    mut pending: LogDirMoves,
    limit: Duration,
) -> Outcome {
    let began = Instant::now();
    let mut started = LogDirMoves::new();
    loop {
        for ((topic, partition, broker), dir) in pending.clone() {
            let one = AlterReplicaLogDirTopic::default()
                .with_name(m::TopicName(text(&topic)))
                .with_partitions(vec![partition]);
            let to = AlterReplicaLogDir::default()
                .with_path(text(&dir))
                .with_topics(vec![one]);
            let request = m::AlterReplicaLogDirsRequest::default().with_dirs(vec![to]);
            let answer = cluster.call_broker(broker, &request).await;
            let answer = answer.map_err(|e| of_client(&e))?;
            let code = answer
                .results
                .iter()
                .flat_map(|t| &t.partitions)
                .map(|p| p.error_code)
                .next();
            match check(&topic, code.unwrap_or(0), None) {
                Ok(()) => {
                    let key = (topic, partition, broker);
                    pending.remove(&key);
                    started.insert(key, dir);
                }
                // The request is still on its way to the broker.
                Err(e) if e.code() == Some(ErrorCode::ReplicaNotAvailable) => {}
                Err(e) => return Err(of_client(&e)),
            }
        }
        if pending.is_empty() || began.elapsed() > limit {
            break;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    for ((topic, partition, broker), dir) in &started {
        println!(
            "Successfully started moving log directory to {dir} for replica {topic}-{partition} with broker {broker} "
        );
    }
    if pending.is_empty() {
        return Ok(());
    }
    let left: Vec<String> = pending
        .keys()
        .map(|(topic, partition, broker)| format!("{topic}-{partition}-{broker}"))
        .collect();
    Err(error(format!(
        "Timed out waiting for log directory moves to start: {}",
        left.join(",")
    )))
}
