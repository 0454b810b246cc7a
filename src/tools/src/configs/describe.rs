//! `kafka-configs --describe`

use kafka_protocol::messages as m;
use strandline_client::{ClientError, Cluster, check};
use strandline_wire::ErrorCode;

use super::Problem;
use super::entities::{Entity, resource_type};
use super::options::Options;
use super::resources::{BROKER, BROKER_LOGGER, CLIENT_METRICS, Entry, TOPIC, describe_configs};
use crate::quotas;

fn source_name(source: i8) -> &'static str {
    match source {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        5 => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        7 => "DYNAMIC_CLIENT_METRICS_CONFIG",
        8 => "DYNAMIC_GROUP_CONFIG",
        _ => "UNKNOWN",
    }
}

/// The source of values that were set for an entity itself.
fn own_source(kind: i8, is_default: bool) -> i8 {
    match kind {
        TOPIC => 1,
        BROKER if is_default => 3,
        BROKER => 2,
        BROKER_LOGGER => 6,
        CLIENT_METRICS => 7,
        _ => 8,
    }
}

pub(super) async fn describe(
    cluster: &Cluster,
    options: &Options,
    entities: &[Entity],
) -> Result<(), Problem> {
    let first = &entities[0];
    let Some(kind) = resource_type(&first.kind) else {
        return quotas::describe(cluster, entities).await;
    };
    let names = match &first.name {
        Some(name) => vec![name.clone()],
        None => all_names(cluster, kind).await?,
    };
    let singular = match first.kind.as_str() {
        "client-metrics" => "client-metric",
        plural => plural.trim_end_matches('s'),
    };
    for name in names {
        let described = describe_configs(cluster, &[(kind, name.clone())], true).await;
        let entries = match described {
            Ok(mut found) => found.remove(&(kind, name.clone())).unwrap_or_default(),
            Err(error)
                if kind == TOPIC && error.code() == Some(ErrorCode::UnknownTopicOrPartition) =>
            {
                println!("The topic '{name}' doesn't exist and doesn't have dynamic config.");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let is_default = name.is_empty();
        let what = if options.all { "All" } else { "Dynamic" };
        if is_default {
            println!("Default configs for {} in the cluster are:", first.kind);
        } else {
            println!("{what} configs for {singular} {name} are:");
        }
        let own = own_source(kind, is_default);
        let mut shown: Vec<&Entry> = entries
            .iter()
            .filter(|e| options.all || e.source == own)
            .collect();
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in shown {
            println!("  {}", entry_line(entry));
        }
    }
    Ok(())
}

fn entry_line(entry: &Entry) -> String {
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "null".into());
    let synonyms: Vec<String> = entry
        .synonyms
        .iter()
        .map(|(source, name, value)| format!("{}:{name}={}", source_name(*source), shown(value)))
        .collect();
    format!(
        "{}={} sensitive={} synonyms={{{}}}",
        entry.name,
        shown(&entry.value),
        entry.sensitive,
        synonyms.join(", ")
    )
}

/// Every entity of a type.
async fn all_names(cluster: &Cluster, kind: i8) -> Result<Vec<String>, ClientError> {
    match kind {
        TOPIC => {
            let metadata = cluster.metadata(None).await?;
            let mut names: Vec<String> = metadata
                .topics
                .iter()
                .filter_map(|t| Some(t.name.as_ref()?.to_string()))
                .collect();
            names.sort();
            Ok(names)
        }
        BROKER | BROKER_LOGGER => {
            cluster.metadata(Some(&[])).await?;
            let mut names: Vec<String> = cluster.nodes().keys().map(ToString::to_string).collect();
            if kind == BROKER {
                names.push(String::new());
            }
            Ok(names)
        }
        _ => {
            let request = m::ListConfigResourcesRequest::default().with_resource_types(vec![kind]);
            let answer = cluster.call_any("listConfigResources", &request).await?;
            check("resources", answer.error_code, None)?;
            let resources = answer.config_resources.iter();
            Ok(resources.map(|r| r.resource_name.to_string()).collect())
        }
    }
}
