//! Kafka's command-line tools, by Kafka's names, options, output and exit statuses, on our own client; and one of our
//! own, [`migrate_groups`], for migrations from Kafka.
//!
//! One file a tool. [`run`] finds a tool by its name, with or without `.sh`; each tool's options are a `clap`
//! structure, and the parts that all tools share are in `command`. Output that scripts read is Kafka 4.3's to the
//! letter.

mod broker_api_versions;
mod cluster;
mod command;
pub mod configs;
mod console_consumer;
mod console_producer;
mod consumer_groups;
mod consumer_perf;
mod delete_records;
mod features;
mod get_offsets;
mod leader_election;
mod log_dirs;
mod metadata_quorum;
pub mod migrate_groups;
mod producer_perf;
mod properties;
mod quotas;
mod reassign;
mod replica_moves;
mod reset_offsets;
mod table;
mod time;
mod topics;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

pub use command::{Failure, Outcome};

/// Every tool, by the name that Kafka's script has without its `.sh`.
pub const TOOLS: [&str; 17] = [
    "kafka-broker-api-versions",
    "kafka-cluster",
    "kafka-configs",
    "kafka-console-consumer",
    "kafka-console-producer",
    "kafka-consumer-groups",
    "kafka-consumer-perf-test",
    "kafka-delete-records",
    "kafka-features",
    "kafka-get-offsets",
    "kafka-leader-election",
    "kafka-log-dirs",
    "kafka-metadata-quorum",
    "kafka-preferred-replica-election",
    "kafka-producer-perf-test",
    "kafka-reassign-partitions",
    "kafka-topics",
];

/// The tool that a program name or a command stands for.
pub fn tool_of(name: &str) -> Option<&'static str> {
    let name = Path::new(name).file_name()?.to_str()?;
    let name = name.strip_suffix(".sh").unwrap_or(name);
    TOOLS.into_iter().find(|tool| *tool == name)
}

/// Runs a tool to its end. `arguments` are those behind its name.
pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> ExitCode {
    let outcome = match tool {
        "kafka-broker-api-versions" => broker_api_versions::run(tool, arguments).await,
        "kafka-cluster" => cluster::run(tool, arguments).await,
        "kafka-configs" => configs::run(tool, arguments).await,
        "kafka-console-consumer" => console_consumer::run(tool, arguments).await,
        "kafka-console-producer" => console_producer::run(tool, arguments).await,
        "kafka-consumer-groups" => consumer_groups::run(tool, arguments).await,
        "kafka-consumer-perf-test" => consumer_perf::run(tool, arguments).await,
        "kafka-delete-records" => delete_records::run(tool, arguments).await,
        "kafka-features" => features::run(tool, arguments).await,
        "kafka-get-offsets" => get_offsets::run(tool, arguments).await,
        "kafka-leader-election" => leader_election::run(tool, arguments).await,
        "kafka-log-dirs" => log_dirs::run(tool, arguments).await,
        "kafka-metadata-quorum" => metadata_quorum::run(tool, arguments).await,
        "kafka-preferred-replica-election" => leader_election::run_preferred(tool, arguments).await,
        "kafka-producer-perf-test" => producer_perf::run(tool, arguments).await,
        "kafka-reassign-partitions" => reassign::run(tool, arguments).await,
        _ => topics::run(tool, arguments).await,
    };
    command::finish(outcome)
}
