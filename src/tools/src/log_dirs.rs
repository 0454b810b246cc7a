//! `kafka-log-dirs`

use std::collections::BTreeSet;
use std::ffi::OsString;

use kafka_protocol::messages as m;
use serde::Serialize;
use strandline_client::{Cluster, check};
use strandline_wire::ErrorCode;

use crate::command::{Connect, Failure, Outcome, parse};

#[derive(clap::Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    connect: Connect,
    /// Show log directories and the sizes of replicas.
    #[arg(long)]
    describe: bool,
    /// Only these topics, separated by commas.
    #[arg(long)]
    topic_list: Option<String>,
    /// Only these brokers, separated by commas.
    #[arg(long)]
    broker_list: Option<String>,
}

#[derive(Serialize)]
struct Report {
    brokers: Vec<BrokerReport>,
    version: i32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BrokerReport {
    broker: i32,
    log_dirs: Vec<DirReport>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DirReport {
    partitions: Vec<PartitionReport>,
    error: Option<String>,
    log_dir: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PartitionReport {
    partition: String,
    size: i64,
    offset_lag: i64,
    is_future: bool,
}

fn joined<T: ToString>(ids: impl IntoIterator<Item = T>) -> String {
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    ids.join(",")
}

/// A replica in a directory of a broker.
pub struct Replica {
    pub topic: String,
    pub partition: i32,
    pub size: i64,
    pub offset_lag: i64,
    pub is_future: bool,
}

/// The directories of one broker: path, error, replicas.
pub async fn directories(
    cluster: &Cluster,
    broker: i32,
) -> Result<Vec<(String, Option<ErrorCode>, Vec<Replica>)>, strandline_client::ClientError> {
    let request = m::DescribeLogDirsRequest::default().with_topics(None);
    let answer = cluster.call_broker(broker, &request).await?;
    check("log directories", answer.error_code, None)?;
    let directories = answer.results.iter().map(|dir| {
        let error = ErrorCode::from_code(dir.error_code).filter(|c| *c != ErrorCode::None);
        let replicas = dir.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|p| Replica {
                topic: topic.name.to_string(),
                partition: p.partition_index,
                size: p.partition_size,
                offset_lag: p.offset_lag,
                is_future: p.is_future_key,
            })
        });
        (dir.log_dir.to_string(), error, replicas.collect())
    });
    Ok(directories.collect())
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: Options = parse(tool, arguments)?;
    if !options.describe {
        return Err(Failure::stderr("Missing required argument \"[describe]\""));
    }
    let topics: Option<BTreeSet<&str>> = options
        .topic_list
        .as_ref()
        .map(|list| list.split(',').filter(|t| !t.is_empty()).collect());
    let cluster = options.connect.cluster("log-dirs-tool")?;
    cluster.metadata(Some(&[])).await?;
    let existing: BTreeSet<i32> = cluster.nodes().into_keys().collect();
    let wanted: BTreeSet<i32> = match &options.broker_list {
        None => existing.clone(),
        Some(list) => {
            let ids: Result<_, _> = list.split(',').map(|id| id.trim().parse()).collect();
            ids.map_err(|_| Failure::stderr(format!("Invalid broker list: {list}")))?
        }
    };
    let unknown: Vec<i32> = wanted.difference(&existing).copied().collect();
    if !unknown.is_empty() {
        return Err(Failure::stderr(format!(
            "ERROR: The given brokers do not exist from --broker-list: {}. Current existent brokers: {}",
            joined(unknown),
            joined(existing)
        )));
    }
    println!("Querying brokers for log directories information");
    let mut report = Report {
        brokers: Vec::new(),
        version: 1,
    };
    for broker in &wanted {
        let found = directories(&cluster, *broker).await?;
        let log_dirs = found.into_iter().map(|(log_dir, error, replicas)| {
            let shown = replicas
                .into_iter()
                .filter(|r| topics.as_ref().is_none_or(|t| t.contains(r.topic.as_str())));
            let partitions = shown.map(|r| PartitionReport {
                partition: format!("{}-{}", r.topic, r.partition),
                size: r.size,
                offset_lag: r.offset_lag,
                is_future: r.is_future,
            });
            DirReport {
                partitions: partitions.collect(),
                error: error
                    .map(|code| format!("org.apache.kafka.common.errors.{}", code.exception())),
                log_dir,
            }
        });
        report.brokers.push(BrokerReport {
            broker: *broker,
            log_dirs: log_dirs.collect(),
        });
    }
    println!(
        "Received log directory information from brokers {}",
        joined(wanted)
    );
    let json = serde_json::to_string(&report);
    println!("{}", json.expect("a report is plain data"));
    Ok(())
}
