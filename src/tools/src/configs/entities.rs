//! The entities that a command line names, with an option of their own or with `--entity-type`.

use super::options::Options;
use super::resources::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::command::Failure;

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

/// The entity of a command: a type and, where one is meant, a name; an empty name is the default of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    pub kind: String,
    pub name: Option<String>,
}

pub(super) fn entities(options: &Options) -> Result<Vec<Entity>, Failure> {
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

pub(super) fn resource_type(kind: &str) -> Option<i8> {
    Some(match kind {
        "topics" => TOPIC,
        "brokers" => BROKER,
        "broker-loggers" => BROKER_LOGGER,
        "client-metrics" => CLIENT_METRICS,
        "groups" => GROUP,
        _ => return None,
    })
}
