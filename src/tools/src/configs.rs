//! `kafka-configs`

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use kafka_protocol::messages as m;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use strandline_client::{ClientError, Cluster, check};
use strandline_wire::{ErrorCode, text};

use crate::command::{Connect, Failure, Outcome, parse, told};
use crate::properties::Properties;
use crate::quotas;

/// `ConfigResource.Type`
pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
/// Operations of `IncrementalAlterConfigs`.
const SET: i8 = 0;
const DELETE: i8 = 1;

/// `--entity-type`
const ENTITY_TYPES: [&str; 8] = [
    "topics",
    "clients",
    "users",
    "brokers",
    "broker-loggers",
    "ips",
    "client-metrics",
    "groups",
];

#[derive(clap::Parser)]
pub(crate) struct Options {
    #[command(flatten)]
    connect: Connect,
    /// Change settings.
    #[arg(long)]
    alter: bool,
    /// Show settings.
    #[arg(long)]
    describe: bool,
    /// With --describe: also shows values that nobody has changed.
    #[arg(long)]
    all: bool,
    /// topics, brokers, broker-loggers, clients, users, ips, client-metrics or groups
    #[arg(long)]
    entity_type: Vec<String>,
    /// The name of the entity: a topic, a broker id, a user, a client id, an address, a group.
    #[arg(long)]
    entity_name: Vec<String>,
    /// The default of all entities of a type.
    #[arg(long)]
    entity_default: bool,
    /// Settings to be made: key1=value1,key2=[value21,value22].
    #[arg(long)]
    add_config: Option<String>,
    /// A properties file with the settings to add.
    #[arg(long)]
    add_config_file: Option<PathBuf>,
    /// Settings to be taken back: key1,key2.
    #[arg(long)]
    delete_config: Vec<String>,
    /// Ask nothing.
    #[arg(long)]
    force: bool,
    /// The topic, by name.
    #[arg(long)]
    topic: Option<String>,
    /// The broker, by id.
    #[arg(long)]
    broker: Option<String>,
    /// The broker, by id, whose log levels are meant.
    #[arg(long)]
    broker_logger: Option<String>,
    /// The client, by its client id.
    #[arg(long)]
    client: Option<String>,
    /// The user, by principal.
    #[arg(long)]
    user: Option<String>,
    /// The address of clients.
    #[arg(long)]
    ip: Option<String>,
    /// The subscription of client metrics, by name.
    #[arg(long)]
    client_metrics: Option<String>,
    /// The group, by id.
    #[arg(long)]
    group: Option<String>,
    /// The defaults of all brokers.
    #[arg(long)]
    broker_defaults: bool,
    /// The defaults of all clients.
    #[arg(long)]
    client_defaults: bool,
    /// The defaults of all users.
    #[arg(long)]
    user_defaults: bool,
    /// The defaults of all addresses.
    #[arg(long)]
    ip_defaults: bool,
}

/// The entity of a command: a type and, where one is meant, a name; an empty name is the default of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    pub kind: String,
    pub name: Option<String>,
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let line: Vec<String> = arguments
        .iter()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    let options: Options = parse(tool, arguments)?;
    if options.alter == options.describe {
        return Err(Failure::stderr(
            "Command must include exactly one action: --describe, --alter",
        ));
    }
    let entities = entities(&options)?;
    let cluster = options.connect.cluster("adminclient-1")?;
    let done = if options.alter {
        alter(&cluster, &options, &entities).await
    } else {
        describe(&cluster, &options, &entities).await
    };
    done.map_err(|error| match error {
        Problem::Usage(message) => Failure::stderr(message),
        Problem::Client(error) => Failure::stderr(format!(
            "Error while executing config command with args '{}'\njava.util.concurrent.ExecutionException: {}",
            line.join(" "),
            told(&error)
        )),
    })
}

pub enum Problem {
    Usage(String),
    Client(ClientError),
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

fn entities(options: &Options) -> Result<Vec<Entity>, Failure> {
    let named = [
        ("topics", &options.topic),
        ("brokers", &options.broker),
        ("broker-loggers", &options.broker_logger),
        ("users", &options.user),
        ("clients", &options.client),
        ("ips", &options.ip),
        ("client-metrics", &options.client_metrics),
        ("groups", &options.group),
    ];
    let defaults = [
        ("brokers", options.broker_defaults),
        ("users", options.user_defaults),
        ("clients", options.client_defaults),
        ("ips", options.ip_defaults),
    ];
    let mut entities: Vec<Entity> = Vec::new();
    for (kind, name) in named {
        if let Some(name) = name {
            entities.push(Entity {
                kind: kind.into(),
                name: Some(name.clone()),
            });
        }
    }
    for (kind, wanted) in defaults {
        if wanted {
            entities.push(Entity {
                kind: kind.into(),
                name: Some(String::new()),
            });
        }
    }
    let mut names = options.entity_name.iter().cloned();
    for kind in &options.entity_type {
        let name = names
            .next()
            .or_else(|| options.entity_default.then(String::new));
        entities.push(Entity {
            kind: kind.clone(),
            name,
        });
    }
    if entities.is_empty() {
        return Err(Failure::stderr(
            "At least one of --entity-type, --topic, --client, --user, --broker, --broker-logger, --ip, --client-metrics or --group must be specified",
        ));
    }
    for entity in &entities {
        if !ENTITY_TYPES.contains(&entity.kind.as_str()) {
            return Err(Failure::stderr(format!(
                "Invalid entity type {}, the entity type must be one of {} with the --bootstrap-server or --bootstrap-controller argument",
                entity.kind,
                ENTITY_TYPES.join(", ")
            )));
        }
        let id = entity.name.as_deref().unwrap_or_default();
        let numbered = matches!(entity.kind.as_str(), "brokers" | "broker-loggers");
        if numbered && !id.is_empty() && id.parse::<i32>().is_err() {
            return Err(Failure::stderr(format!(
                "The entity name for {} must be a valid integer broker id, but it is: {id}",
                entity.kind
            )));
        }
    }
    if options.alter && entities.iter().any(|e| e.name.is_none()) {
        return Err(Failure::stderr(
            "Entity type was specified, but no entity name: an entity name or default must be specified with --alter",
        ));
    }
    Ok(entities)
}

/// `key=value,key=[a,b]`: brackets keep commas together.
pub fn parse_added(given: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs: Vec<String> = Vec::new();
    let mut depth = 0;
    let mut current = String::new();
    for c in given.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            ',' if depth == 0 => {
                pairs.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    pairs.push(current);
    let mut parsed = Vec::new();
    for pair in pairs.iter().map(|p| p.trim()).filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').ok_or(
            "requirement failed: Invalid entity config: all configs to be added must be in the format \"key=val\".",
        )?;
        let value = value.trim();
        let bare = value
            .strip_prefix('[')
            .and_then(|v| v.strip_suffix(']'))
            .unwrap_or(value);
        parsed.push((key.trim().to_owned(), bare.to_owned()));
    }
    Ok(parsed)
}

fn resource_type(kind: &str) -> Option<i8> {
    Some(match kind {
        "topics" => TOPIC,
        "brokers" => BROKER,
        "broker-loggers" => BROKER_LOGGER,
        "client-metrics" => CLIENT_METRICS,
        "groups" => GROUP,
        _ => return None,
    })
}

async fn alter(cluster: &Cluster, options: &Options, entities: &[Entity]) -> Result<(), Problem> {
    let mut added = Vec::new();
    if let Some(path) = &options.add_config_file {
        let file =
            Properties::load(path).map_err(|f| Problem::Usage(f.stderr.unwrap_or_default()))?;
        added.extend(file.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
    if let Some(given) = &options.add_config {
        added.extend(parse_added(given).map_err(Problem::Usage)?);
    }
    let deleted: Vec<String> = options
        .delete_config
        .iter()
        .flat_map(|d| d.split(','))
        .map(|d| d.trim().to_owned())
        .filter(|d| !d.is_empty())
        .collect();
    if added.is_empty() && deleted.is_empty() {
        return Err(Problem::Usage(
            "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter".into(),
        ));
    }
    let first = &entities[0];
    if resource_type(&first.kind).is_none() {
        quotas::alter(cluster, entities, &added, &deleted).await?;
    } else {
        let kind = resource_type(&first.kind).expect("it was looked at");
        let name = first.name.as_deref().unwrap_or_default();
        let set = added.iter().map(|(k, v)| (k.as_str(), Some(v.clone())));
        let removed = deleted.iter().map(|k| (k.as_str(), None));
        alter_resource(cluster, (kind, name), set.chain(removed)).await?;
    }
    let kind = first.kind.trim_end_matches('s');
    let kind = if first.kind == "client-metrics" {
        "client-metric"
    } else {
        kind
    };
    match first.name.as_deref() {
        Some("") => println!(
            "Completed updating default config for {} in the cluster.",
            first.kind
        ),
        name => println!(
            "Completed updating config for {kind} {}.",
            name.unwrap_or_default()
        ),
    }
    Ok(())
}

/// Sets the keys that have a value, and deletes the others.
pub async fn alter_resource(
    cluster: &Cluster,
    (kind, name): (i8, &str),
    changes: impl Iterator<Item = (&str, Option<String>)>,
) -> Result<(), ClientError> {
    let configs = changes.map(|(key, value)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(if value.is_some() { SET } else { DELETE })
            .with_value(value.as_deref().map(text))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    let request = m::IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    // Settings of one broker are checked by that broker.
    let answer = match name.parse() {
        Ok(id) if matches!(kind, BROKER | BROKER_LOGGER) => cluster.call_broker(id, &request).await,
        _ => cluster.call_any("incrementalAlterConfigs", &request).await,
    };
    let answer = match answer {
        // The settings of a broker that has just died are in the metadata, which every broker can change.
        Err(error) if kind == BROKER && is_away(&error) => {
            cluster.call_any("incrementalAlterConfigs", &request).await
        }
        answer => answer,
    };
    for result in &answer?.responses {
        check(name, result.error_code, result.error_message.as_ref())?;
    }
    Ok(())
}

/// Whether a broker could not be reached.
fn is_away(error: &ClientError) -> bool {
    match error {
        ClientError::Io { .. } | ClientError::Closed { .. } | ClientError::TimedOut { .. } => true,
        other => other.code() == Some(ErrorCode::BrokerNotAvailable),
    }
}

/// A setting as a broker describes it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub value: Option<String>,
    pub source: i8,
    pub sensitive: bool,
    pub synonyms: Vec<(i8, String, Option<String>)>,
}

/// `ConfigResource.Type` and name.
pub type Resource = (i8, String);

/// The settings of some resources.
pub async fn describe_configs(
    cluster: &Cluster,
    resources: &[Resource],
    synonyms: bool,
) -> Result<BTreeMap<Resource, Vec<Entry>>, ClientError> {
    let mut found = BTreeMap::new();
    let (own, shared): (Vec<_>, Vec<_>) = resources
        .iter()
        .partition(|(kind, name)| matches!(*kind, BROKER | BROKER_LOGGER) && !name.is_empty());
    let mut requests: Vec<(Option<i32>, Vec<&Resource>)> = own
        .into_iter()
        .map(|r| (r.1.parse().ok(), vec![r]))
        .collect();
    if !shared.is_empty() {
        requests.push((None, shared));
    }
    for (broker, resources) in requests {
        let asked = resources.iter().map(|(kind, name)| {
            DescribeConfigsResource::default()
                .with_resource_type(*kind)
                .with_resource_name(text(name))
                .with_configuration_keys(None)
        });
        let request = m::DescribeConfigsRequest::default()
            .with_resources(asked.collect())
            .with_include_synonyms(synonyms);
        let answer = match broker {
            Some(id) => cluster.call_broker(id, &request).await?,
            None => cluster.call_any("describeConfigs", &request).await?,
        };
        for result in answer.results {
            check(
                &result.resource_name,
                result.error_code,
                result.error_message.as_ref(),
            )?;
            let entries = result.configs.iter().map(|config| Entry {
                name: config.name.to_string(),
                value: config.value.as_ref().map(ToString::to_string),
                source: config.config_source,
                sensitive: config.is_sensitive,
                synonyms: config
                    .synonyms
                    .iter()
                    .map(|s| {
                        let value = s.value.as_ref().map(ToString::to_string);
                        (s.source, s.name.to_string(), value)
                    })
                    .collect(),
            });
            let key = (result.resource_type, result.resource_name.to_string());
            found.insert(key, entries.collect());
        }
    }
    Ok(found)
}

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

async fn describe(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_keep_lists_together() {
        let parsed = parse_added("a=1, cleanup.policy=[compact,delete],b=").unwrap();
        let pairs: Vec<(&str, &str)> = parsed
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [("a", "1"), ("cleanup.policy", "compact,delete"), ("b", "")]
        );
        assert!(parse_added("novalue").is_err());
    }
}
