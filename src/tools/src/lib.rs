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
mod group_options;
mod leader_election;
mod log_dirs;
mod metadata_quorum;
pub mod migrate_groups;
mod producer_perf;
mod properties;
mod purpose;
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

/// The options of a tool, for help, completions and manual pages.
pub fn command_of(tool: &'static str) -> clap::Command {
    use command::described;
    match tool {
        "kafka-broker-api-versions" => described::<broker_api_versions::Options>(tool),
        "kafka-cluster" => described::<cluster::Options>(tool),
        "kafka-configs" => described::<configs::Options>(tool),
        "kafka-console-consumer" => described::<console_consumer::Options>(tool),
        "kafka-console-producer" => described::<console_producer::Options>(tool),
        "kafka-consumer-groups" => described::<group_options::Options>(tool),
        "kafka-consumer-perf-test" => described::<consumer_perf::Options>(tool),
        "kafka-delete-records" => described::<delete_records::Options>(tool),
        "kafka-features" => described::<features::Options>(tool),
        "kafka-get-offsets" => described::<get_offsets::Options>(tool),
        "kafka-leader-election" => described::<leader_election::Options>(tool),
        "kafka-log-dirs" => described::<log_dirs::Options>(tool),
        "kafka-metadata-quorum" => described::<metadata_quorum::Options>(tool),
        "kafka-preferred-replica-election" => described::<leader_election::PreferredOptions>(tool),
        "kafka-producer-perf-test" => described::<producer_perf::Options>(tool),
        "kafka-reassign-partitions" => described::<reassign::Options>(tool),
        _ => described::<topics::Options>(tool),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn undescribed(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        let text = |help: Option<&clap::builder::StyledStr>| {
            help.map(ToString::to_string).unwrap_or_default()
        };
        if text(command.get_about()).is_empty() {
            found.push(path.to_owned());
        }
        for argument in command.get_arguments() {
            let id = argument.get_id().as_str();
            if text(argument.get_help()).is_empty() && id != "help" && id != "version" {
                found.push(format!("{path} {id}"));
            }
        }
        for inner in command.get_subcommands() {
            undescribed(inner, &format!("{path} {}", inner.get_name()), found);
        }
    }

    #[test]
    fn every_tool_begins_with_its_purpose_and_describes_every_option() {
        let mut found = Vec::new();
        let mut purposes = std::collections::BTreeSet::new();
        for tool in TOOLS {
            let command = command_of(tool);
            undescribed(&command, tool, &mut found);
            let help = command.clone().render_long_help().to_string();
            let first = help.lines().next().unwrap_or_default().to_owned();
            assert!(!first.contains("How a tool"), "{tool}: {first}");
            assert!(purposes.insert(first.clone()), "{tool}: {first}");
        }
        assert!(found.is_empty(), "without a description: {found:#?}");
    }
}
