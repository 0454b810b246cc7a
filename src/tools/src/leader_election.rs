//! `kafka-leader-election`, and `kafka-preferred-replica-election`, which Kafka had before it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kafka_protocol::messages as m;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use serde::Deserialize;
use strandline_client::{ClientError, check};
use strandline_wire::{ErrorCode, StrBytes};

use crate::command::{
    Connect, Failure, Outcome, exactly_one, parse, partition_name, read_json, told,
};

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

#[derive(clap::Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    connect: Connect,
    /// preferred or unclean
    #[arg(long)]
    election_type: String,
    /// The topic of the partition.
    #[arg(long)]
    topic: Option<String>,
    /// The number of the partition.
    #[arg(long)]
    partition: Option<i32>,
    /// Every partition.
    #[arg(long)]
    all_topic_partitions: bool,
    /// {"partitions": [{"topic": "t", "partition": 0}]}
    #[arg(long)]
    path_to_json_file: Option<PathBuf>,
}

/// The options of the older tool.
#[derive(clap::Parser)]
pub(crate) struct PreferredOptions {
    #[command(flatten)]
    connect: Connect,
    /// A JSON file that names partitions.
    #[arg(long)]
    path_to_json_file: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Plan {
    partitions: Vec<PlannedPartition>,
}

#[derive(Deserialize)]
struct PlannedPartition {
    topic: String,
    partition: i32,
}

type Partitions = BTreeMap<String, Vec<i32>>;

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: Options = parse(tool, arguments)?;
    let kind = match options.election_type.to_lowercase().as_str() {
        "preferred" => PREFERRED,
        "unclean" => UNCLEAN,
        other => {
            return Err(Failure::stderr(format!(
                "'{other}' is not a valid election type: preferred or unclean"
            )));
        }
    };
    let scopes = [
        options.all_topic_partitions,
        options.topic.is_some(),
        options.path_to_json_file.is_some(),
    ];
    exactly_one(
        &scopes,
        "One and only one of the following options is required: topic, all-topic-partitions, path-to-json-file",
    )?;
    let partitions = match (
        &options.topic,
        options.partition,
        &options.path_to_json_file,
    ) {
        (Some(topic), Some(partition), _) => {
            Some(Partitions::from([(topic.clone(), vec![partition])]))
        }
        (Some(_), None, _) => {
            return Err(Failure::stderr(
                "Missing required option(s): partition. It must be given with topic",
            ));
        }
        (None, Some(_), _) => {
            return Err(Failure::stderr(
                "Option partition is only allowed if topic is used",
            ));
        }
        (None, None, Some(path)) => Some(read_plan(path)?),
        (None, None, None) => None,
    };
    elect(&options.connect, kind, partitions).await
}

/// Every partition, or those of a file, gets back the leader that it prefers.
pub async fn run_preferred(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: PreferredOptions = parse(tool, arguments)?;
    eprintln!(
        "Kafka has replaced {tool} by kafka-leader-election --election-type preferred --all-topic-partitions."
    );
    let partitions = options
        .path_to_json_file
        .as_deref()
        .map(read_plan)
        .transpose()?;
    elect(&options.connect, PREFERRED, partitions).await
}

fn read_plan(path: &Path) -> Result<Partitions, Failure> {
    let plan: Plan = read_json(path).map_err(Failure::stderr)?;
    let mut partitions = Partitions::new();
    for p in plan.partitions {
        let of_topic = partitions.entry(p.topic.clone()).or_default();
        if of_topic.contains(&p.partition) {
            let name = partition_name(&p.topic, p.partition);
            return Err(Failure::stderr(format!(
                "Replica election data contains duplicate partitions: {name}"
            )));
        }
        of_topic.push(p.partition);
    }
    if partitions.is_empty() {
        return Err(Failure::stderr("Replica election data is empty"));
    }
    Ok(partitions)
}

async fn elect(connect: &Connect, kind: i8, partitions: Option<Partitions>) -> Outcome {
    let cluster = connect.cluster("adminclient-1")?;
    let topics = partitions.map(|partitions| {
        let topics = partitions.into_iter().map(|(topic, indexes)| {
            TopicPartitions::default()
                .with_topic(m::TopicName(StrBytes::from_string(topic)))
                .with_partitions(indexes)
        });
        topics.collect()
    });
    let request = m::ElectLeadersRequest::default()
        .with_election_type(kind)
        .with_topic_partitions(topics)
        .with_timeout_ms(cluster.options.request_timeout.as_millis() as i32);
    let failed = |error: ClientError| Failure {
        stdout: Some("Error while making request".into()),
        stderr: Some(told(&error)),
    };
    let answer = cluster.call_any("electLeaders", &request).await;
    let answer = answer.map_err(failed)?;
    check("elections", answer.error_code, None).map_err(failed)?;
    let kind = if kind == PREFERRED {
        "PREFERRED"
    } else {
        "UNCLEAN"
    };
    let (mut elected, mut unneeded, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for topic in &answer.replica_election_results {
        for p in &topic.partition_result {
            let name = partition_name(&topic.topic, p.partition_id);
            match check(&name, p.error_code, p.error_message.as_ref()) {
                Ok(()) => elected.push(name),
                Err(e) if e.code() == Some(ErrorCode::ElectionNotNeeded) => unneeded.push(name),
                Err(error) => failures.push((name, error)),
            }
        }
    }
    if !elected.is_empty() {
        println!(
            "Successfully completed leader election ({kind}) for partitions {}",
            elected.join(", ")
        );
    }
    if !unneeded.is_empty() {
        println!(
            "Valid replica already elected for partitions {}",
            unneeded.join(", ")
        );
    }
    for (name, error) in &failures {
        println!(
            "Error completing leader election ({kind}) for partition: {name}: {}",
            error.java()
        );
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::stderr(format!(
        "{} replica(s) could not be elected",
        failures.len()
    )))
}
