//! `kafka-delete-records`

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use kafka_protocol::messages as m;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use serde::Deserialize;
use strandline_client::{ClientError, check};
use strandline_wire::{ErrorCode, StrBytes};

use crate::command::{Connect, Failure, Outcome, parse, partition_name, read_json};

#[derive(clap::Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    connect: Connect,
    /// {"partitions": [{"topic": "t", "partition": 0, "offset": 10}], "version": 1}
    #[arg(long)]
    offset_json_file: PathBuf,
}

#[derive(Deserialize)]
struct Plan {
    #[serde(default = "first")]
    version: i32,
    partitions: Vec<PlannedPartition>,
}

fn first() -> i32 {
    1
}

#[derive(Deserialize)]
struct PlannedPartition {
    topic: String,
    partition: i32,
    offset: i64,
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: Options = parse(tool, arguments)?;
    let plan: Plan = read_json(&options.offset_json_file).map_err(Failure::stderr)?;
    if plan.version != 1 {
        return Err(Failure::stderr(format!(
            "Not supported version field value {}",
            plan.version
        )));
    }
    let mut offsets: BTreeMap<(String, i32), i64> = BTreeMap::new();
    for p in plan.partitions {
        let key = (p.topic, p.partition);
        if offsets.insert(key.clone(), p.offset).is_some() {
            return Err(Failure::stderr(format!(
                "Offset json file contains duplicate topic partitions: {}",
                partition_name(&key.0, key.1)
            )));
        }
    }
    let cluster = options.connect.cluster("adminclient-1")?;
    println!("Executing records delete operation");
    let mut results: BTreeMap<(String, i32), Result<i64, ClientError>> = BTreeMap::new();
    for (key, offset) in offsets {
        let deleting = || async {
            let metadata = cluster.metadata(Some(std::slice::from_ref(&key.0))).await?;
            let topic = metadata.topics.first();
            check(&key.0, topic.map_or(3, |t| t.error_code), None)?;
            let partition = topic
                .into_iter()
                .flat_map(|t| &t.partitions)
                .find(|p| p.partition_index == key.1);
            let leader = partition.map_or(-1, |p| p.leader_id.0);
            let missing = if partition.is_some() {
                ErrorCode::LeaderNotAvailable
            } else {
                ErrorCode::UnknownTopicOrPartition
            };
            if leader < 0 {
                check(&key.0, missing.code(), None)?;
            }
            let asked = DeleteRecordsPartition::default()
                .with_partition_index(key.1)
                .with_offset(offset);
            let topic = DeleteRecordsTopic::default()
                .with_name(m::TopicName(StrBytes::from_string(key.0.clone())))
                .with_partitions(vec![asked]);
            let request = m::DeleteRecordsRequest::default()
                .with_topics(vec![topic])
                .with_timeout_ms(cluster.options.request_timeout.as_millis() as i32);
            let answer = cluster.call_broker(leader, &request).await?;
            let result = answer.topics.iter().flat_map(|t| &t.partitions).next();
            let result = result.cloned().unwrap_or_default();
            check(&key.0, result.error_code, None)?;
            Ok(result.low_watermark)
        };
        let done = cluster.retrying(deleting).await;
        results.insert(key, done);
    }
    println!("Records delete operation completed:");
    for ((topic, partition), result) in results {
        let name = partition_name(&topic, partition);
        match result {
            Ok(low_watermark) => println!("partition: {name}\tlow_watermark: {low_watermark}"),
            Err(error) => println!("partition: {name}\terror: {}", error.java()),
        }
    }
    Ok(())
}
