//! `DescribeLogDirs`: the replicas on this broker's disks. Bytes in the cold tier do not count. `AlterReplicaLogDirs`:
//! moves of replicas to another directory.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::messages as m;
use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use strandline_types::TopicPartition;
use strandline_wire::ErrorCode;

use super::{Call, text};

pub async fn describe_log_dirs(
    call: &Call,
    request: m::DescribeLogDirsRequest,
) -> m::DescribeLogDirsResponse {
    let wanted: Option<HashMap<String, Vec<i32>>> = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|t| (t.topic.to_string(), t.partitions))
            .collect()
    });
    let table = call.context.partitions.table();
    let dirs = &call.context.partitions.log_dirs;
    let results = dirs.dirs.iter().enumerate().map(|(index, dir)| {
        let answer =
            DescribeLogDirsResult::default().with_log_dir(text(dir.path.display().to_string()));
        if dirs.is_failed(index) {
            return answer
                .with_error_code(ErrorCode::KafkaStorageError.code())
                .with_total_bytes(-1)
                .with_usable_bytes(-1);
        }
        let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
        for partition in table.values() {
            let moving = partition.moving().filter(|m| m.target == index);
            if partition.log_dir() != index && moving.is_none() {
                continue;
            }
            let tp = &partition.topic_partition;
            let asked = |w: &HashMap<String, Vec<i32>>| {
                w.get(&*tp.topic).is_some_and(|p| p.contains(&tp.partition))
            };
            if wanted.as_ref().is_some_and(|w| !asked(w)) {
                continue;
            }
            let size = partition.view().local_bytes();
            let described = DescribeLogDirsPartition::default().with_partition_index(tp.partition);
            let described = match moving {
                None => described.with_partition_size(size as i64),
                // Kafka counts records that are still to be copied; here it is bytes.
                Some(moving) => described
                    .with_is_future_key(true)
                    .with_partition_size(moving.copied_bytes() as i64)
                    .with_offset_lag(size.saturating_sub(moving.copied_bytes()) as i64),
            };
            topics
                .entry(tp.topic.to_string())
                .or_default()
                .push(described);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            DescribeLogDirsTopic::default()
                .with_name(m::TopicName(text(name)))
                .with_partitions(partitions)
        });
        answer
            .with_topics(topics.collect())
            .with_total_bytes(dir.space.total_bytes() as i64)
            .with_usable_bytes(dir.space.available_bytes() as i64)
    });
    let absent = dirs.absent.iter().map(|dir| {
        DescribeLogDirsResult::default()
            .with_log_dir(text(dir.path.display().to_string()))
            .with_error_code(ErrorCode::KafkaStorageError.code())
            .with_total_bytes(-1)
            .with_usable_bytes(-1)
    });
    m::DescribeLogDirsResponse::default().with_results(results.chain(absent).collect())
}

pub async fn alter_replica_log_dirs(
    call: &Call,
    request: m::AlterReplicaLogDirsRequest,
) -> m::AlterReplicaLogDirsResponse {
    let mut topics: BTreeMap<String, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for wanted in request.dirs {
        for topic in wanted.topics {
            for partition in topic.partitions {
                let code = move_replica(call, &topic.name, partition, &wanted.path);
                let result = AlterReplicaLogDirPartitionResult::default()
                    .with_partition_index(partition)
                    .with_error_code(code.code());
                topics
                    .entry(topic.name.to_string())
                    .or_default()
                    .push(result);
            }
        }
    }
    let results = topics.into_iter().map(|(name, partitions)| {
        AlterReplicaLogDirTopicResult::default()
            .with_topic_name(m::TopicName(text(name)))
            .with_partitions(partitions)
    });
    m::AlterReplicaLogDirsResponse::default().with_results(results.collect())
}

fn move_replica(call: &Call, topic: &str, partition: i32, path: &str) -> ErrorCode {
    let manager = &call.context.partitions;
    let Some(target) = manager.log_dir_at(path) else {
        return ErrorCode::LogDirNotFound;
    };
    if let Some(here) = manager.get(topic, partition) {
        return manager
            .move_replica(&here, target)
            .err()
            .unwrap_or(ErrorCode::None);
    }
    let image = call.context.quorum.image();
    let known = image.topic(topic);
    if known.is_none_or(|t| !t.partitions.contains_key(&partition)) {
        return ErrorCode::UnknownTopicOrPartition;
    }
    // As in Kafka: a replica that is created here later uses this directory.
    manager.prefer_log_dir(TopicPartition::new(topic, partition), target);
    ErrorCode::NotLeaderOrFollower
}
