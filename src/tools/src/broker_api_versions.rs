//! `kafka-broker-api-versions`

use std::collections::BTreeMap;
use std::ffi::OsString;

use kafka_protocol::protocol::VersionRange;
use strandline_wire::ApiKey;

use crate::command::{Connect, Outcome, parse};

#[derive(clap::Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    connect: Connect,
}

fn versions(range: VersionRange) -> String {
    if range.min == range.max {
        range.min.to_string()
    } else {
        format!("{} to {}", range.min, range.max)
    }
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let options: Options = parse(tool, arguments)?;
    let cluster = options.connect.cluster("admin")?;
    cluster.metadata(Some(&[])).await?;
    for (id, node) in cluster.nodes() {
        let rack = node.rack.as_deref().unwrap_or("null");
        let name = format!(
            "{}:{} (id: {id} rack: {rack} isFenced: false)",
            node.host, node.port
        );
        let channel = match cluster.broker(id).await {
            Ok(channel) => channel,
            Err(error) => {
                println!("{name} -> ERROR: {}", error.java());
                continue;
            }
        };
        let ranges: BTreeMap<i16, VersionRange> =
            channel.versions().iter().map(|(k, v)| (*k, *v)).collect();
        let lines: Vec<String> = ranges
            .iter()
            .map(|(key, range)| {
                let api = ApiKey::try_from(*key);
                let name = api.map_or_else(|()| "UNKNOWN".into(), |api| format!("{api:?}"));
                let usable = api.ok().map(|api| api.valid_versions()).and_then(|ours| {
                    let newest = ours.max.min(range.max);
                    (newest >= ours.min.max(range.min)).then_some(newest)
                });
                let usable = usable.map_or_else(
                    || "[unusable]".to_owned(),
                    |newest| format!("[usable: {newest}]"),
                );
                format!("\t{name}({key}): {} {usable}", versions(*range))
            })
            .collect();
        println!("{name} -> (\n{}\n)", lines.join(",\n"));
    }
    Ok(())
}
