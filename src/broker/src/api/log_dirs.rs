//! `DescribeLogDirs`: what lies on this broker's disks. Bytes in the cold tier are not on them and not counted.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::messages as m;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
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
        for partition in table.values().filter(|p| p.log_dir == index) {
            let tp = &partition.topic_partition;
            let asked = |w: &HashMap<String, Vec<i32>>| {
                w.get(&*tp.topic).is_some_and(|p| p.contains(&tp.partition))
            };
            if wanted.as_ref().is_some_and(|w| !asked(w)) {
                continue;
            }
            let described = DescribeLogDirsPartition::default()
                .with_partition_index(tp.partition)
                .with_partition_size(partition.view().local_bytes() as i64)
                .with_offset_lag(0);
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
    m::DescribeLogDirsResponse::default().with_results(results.collect())
}
