//! `kafka-topics`

mod change;
mod create;
mod describe;
mod options;

use std::collections::BTreeMap;
use std::ffi::OsString;

use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use strandline_client::{ClientError, Cluster};

use self::change::{alter, delete};
use self::create::create;
use self::describe::describe;
use crate::command::{Failure, Outcome, exactly_one, include_pattern, parse, told};

pub(crate) use self::options::Options;

const CLASS: &str = "org.apache.kafka.tools.TopicCommand";

/// A failure in this tool's words.
fn failed(reason: &str, exception: &str) -> Failure {
    let reason = format!("Error while executing topic command : {reason}");
    Failure::logged(reason, exception, CLASS)
}

fn of_client(error: &ClientError) -> Failure {
    failed(&error.reason(), &told(error))
}

fn illegal(reason: &str) -> Failure {
    failed(
        reason,
        &format!("java.lang.IllegalArgumentException: {reason}"),
    )
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: Options = parse(tool, arguments)?;
    let actions = [
        options.create,
        options.list,
        options.describe,
        options.alter,
        options.delete,
    ];
    exactly_one(
        &actions,
        "Command must include exactly one action: --list, --describe, --create, --alter or --delete",
    )?;
    let needs_topic = options.create || options.alter || options.delete;
    if needs_topic && options.topic.is_none() {
        return Err(Failure::stderr("Missing required argument \"[topic]\""));
    }
    let cluster = options.connect.cluster("adminclient-1")?;
    if options.create {
        create(&cluster, &options).await
    } else if options.list {
        list(&cluster, &options).await
    } else if options.describe {
        describe(&cluster, &options).await
    } else if options.alter {
        alter(&cluster, &options).await
    } else {
        delete(&cluster, &options).await
    }
}

/// The topics that an option's regular expression means, by name.
async fn matching(
    cluster: &Cluster,
    options: &Options,
) -> Result<BTreeMap<String, MetadataResponseTopic>, Failure> {
    let metadata = cluster.metadata(None).await.map_err(|e| of_client(&e))?;
    let given = options.topic.as_deref();
    let given = given.map(|t| t.trim().trim_matches(['"', '\'']).replace(' ', ""));
    let pattern = given.as_deref().map(include_pattern).transpose();
    let pattern = pattern.map_err(|e| illegal(&e))?;
    let mut found = BTreeMap::new();
    for topic in metadata.topics {
        let Some(name) = topic.name.as_ref().map(|n| n.to_string()) else {
            continue;
        };
        if options.exclude_internal && topic.is_internal {
            continue;
        }
        if pattern.as_ref().is_none_or(|p| p.is_match(&name)) {
            found.insert(name, topic);
        }
    }
    Ok(found)
}

fn ensure_found(
    options: &Options,
    found: &BTreeMap<String, MetadataResponseTopic>,
) -> Result<(), Failure> {
    match &options.topic {
        Some(name) if found.is_empty() && !options.if_exists => Err(illegal(&format!(
            "Topic '{name}' does not exist as expected"
        ))),
        _ => Ok(()),
    }
}

async fn list(cluster: &Cluster, options: &Options) -> Outcome {
    let found = matching(cluster, options).await?;
    for name in found.keys() {
        println!("{name}");
    }
    Ok(())
}
