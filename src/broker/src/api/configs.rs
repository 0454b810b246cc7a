//! `DescribeConfigs`, `AlterConfigs`, `IncrementalAlterConfigs`, `ListConfigResources`.

use std::collections::BTreeMap;

use kafka_protocol::messages as m;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResponse;
use kafka_protocol::messages::list_config_resources_response::ConfigResource as ListedResource;
use strandline_metadata::ConfigResource;
use strandline_metadata::config::{
    BrokerConfig, ConfigEntry, ConfigSource, ConfigType, DynamicMode, client_metrics_defs,
    describe_resource, describe_topic, documentation, group_defs, topic_defs,
};
use strandline_metadata::controller::{Command, ConfigChange, ConfigOperation, Refusal};
use strandline_types::{BrokerId, validate_topic_name};
use strandline_wire::ErrorCode;

use super::internal_topics::{refuse_changes, refuse_replacement};
use super::{Call, submit_error, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
/// `DYNAMIC_BROKER_LOGGER_CONFIG`
const BROKER_LOGGER_SOURCE: i8 = 6;

type Failure = (ErrorCode, String);

pub async fn describe_configs(
    call: &Call,
    request: m::DescribeConfigsRequest,
) -> m::DescribeConfigsResponse {
    let mut results = Vec::new();
    for resource in request.resources {
        let keys: Option<Vec<String>> = resource
            .configuration_keys
            // An empty list asks for everything, as null does.
            .filter(|keys| !keys.is_empty())
            .map(|keys| keys.iter().map(ToString::to_string).collect());
        let answer = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        results.push(
            match entries(call, resource.resource_type, &resource.resource_name) {
                Ok(_) if resource.resource_type == BROKER_LOGGER => {
                    answer.with_configs(describe_loggers(keys.as_ref()))
                }
                Ok(entries) => {
                    let wanted =
                        |e: &ConfigEntry| keys.as_ref().is_none_or(|k| k.contains(&e.def.name));
                    let shown = entries
                        .into_iter()
                        .filter(wanted)
                        .map(|e| shown(e, resource.resource_type, request.include_synonyms))
                        .map(|config| {
                            let asked = request.include_documentation;
                            let known = asked.then(|| documentation(&config.name)).flatten();
                            config.with_documentation(known.map(text))
                        });
                    answer.with_configs(shown.collect())
                }
                Err((code, reason)) => answer
                    .with_error_code(code.code())
                    .with_error_message(Some(text(reason))),
            },
        );
    }
    m::DescribeConfigsResponse::default().with_results(results)
}

fn entries(call: &Call, resource_type: i8, name: &str) -> Result<Vec<ConfigEntry>, Failure> {
    let invalid = |reason: String| Err((ErrorCode::InvalidRequest, reason));
    match resource_type {
        TOPIC => {
            validate_topic_name(name)
                .map_err(|e| (ErrorCode::InvalidTopicException, e.to_string()))?;
            let image = call.context.quorum.image();
            if image.topic(name).is_none() {
                return Err((
                    ErrorCode::UnknownTopicOrPartition,
                    Refusal::UnknownTopic.to_string(),
                ));
            }
            let (overrides, broker) = (image.topic_configs(name), call.context.config());
            Ok(topic_defs()
                .filter(|d| !d.internal)
                .map(|d| describe_topic(d, overrides, &broker))
                .collect())
        }
        BROKER if name.is_empty() => {
            // Only the values that were set for all brokers at run time.
            let config = BrokerConfig {
                dynamic_default: call.context.config().dynamic_default.clone(),
                ..BrokerConfig::default()
            };
            let set = config
                .describe_all()
                .filter(|e| e.source == ConfigSource::DynamicDefaultBroker);
            Ok(set
                .map(|mut entry| {
                    let synonyms = &mut entry.synonyms;
                    synonyms.retain(|s| s.source == ConfigSource::DynamicDefaultBroker);
                    entry
                })
                .collect())
        }
        BROKER => match name.parse::<i32>() {
            Ok(id) if id == call.context.node_id() => {
                Ok(call.context.config().describe_all().collect())
            }
            Ok(id) => invalid(format!(
                "Unexpected broker id, expected {} or empty string, but received {id}",
                call.context.node_id()
            )),
            Err(_) => invalid(format!("Broker id must be an integer, but it is: {name}")),
        },
        CLIENT_METRICS | GROUP => {
            let (resource, defs, source): (_, Vec<_>, _) = if resource_type == GROUP {
                let resource = ConfigResource::Group(name.to_owned());
                (resource, group_defs().collect(), ConfigSource::DynamicGroup)
            } else {
                let resource = ConfigResource::ClientMetrics(name.to_owned());
                let defs = client_metrics_defs().collect();
                (resource, defs, ConfigSource::DynamicClientMetrics)
            };
            let image = call.context.quorum.image();
            let (own, broker) = (image.configs(&resource), call.context.config());
            let described = defs
                .into_iter()
                .map(|def| describe_resource(def, own, source, &broker));
            Ok(described.collect())
        }
        BROKER_LOGGER => {
            check_own_logger(call, name)?;
            Ok(Vec::new())
        }
        other => invalid(format!("Unsupported resource type: {other}")),
    }
}

fn shown(
    entry: ConfigEntry,
    resource_type: i8,
    with_synonyms: bool,
) -> DescribeConfigsResourceResult {
    let sensitive = entry.is_sensitive();
    let hide = |value: Option<String>| if sensitive { None } else { value.map(text) };
    let synonyms = if with_synonyms {
        let synonyms = entry.synonyms.into_iter().map(|s| {
            DescribeConfigsSynonym::default()
                .with_name(text(s.name))
                .with_value(hide(s.value))
                .with_source(s.source as i8)
        });
        synonyms.collect()
    } else {
        Vec::new()
    };
    DescribeConfigsResourceResult::default()
        .with_name(text(entry.def.name.clone()))
        .with_value(hide(entry.value))
        .with_read_only(resource_type == BROKER && entry.def.dynamic == DynamicMode::ReadOnly)
        .with_config_source(entry.source as i8)
        .with_is_sensitive(sensitive)
        .with_config_type(entry.def.type_ as i8)
        .with_synonyms(synonyms)
}

fn resource(call: &Call, resource_type: i8, name: &str) -> Result<ConfigResource, Failure> {
    match resource_type {
        TOPIC => {
            validate_topic_name(name)
                .map_err(|e| (ErrorCode::InvalidTopicException, e.to_string()))?;
            Ok(ConfigResource::Topic(name.to_owned()))
        }
        BROKER if name.is_empty() => Ok(ConfigResource::Broker(None)),
        BROKER => match name.parse::<i32>() {
            Ok(id)
                if call
                    .context
                    .quorum
                    .image()
                    .brokers
                    .contains_key(&BrokerId(id)) =>
            {
                Ok(ConfigResource::Broker(Some(BrokerId(id))))
            }
            Ok(id) => Err((ErrorCode::InvalidRequest, format!("No such broker: {id}"))),
            Err(_) => Err((
                ErrorCode::InvalidRequest,
                format!("Broker id must be an integer, but it is: {name}"),
            )),
        },
        CLIENT_METRICS | GROUP if name.is_empty() => Err((
            ErrorCode::InvalidRequest,
            "Default resources are not allowed for this type.".into(),
        )),
        CLIENT_METRICS => Ok(ConfigResource::ClientMetrics(name.to_owned())),
        GROUP => Ok(ConfigResource::Group(name.to_owned())),
        other => Err((
            ErrorCode::InvalidRequest,
            format!("Unsupported resource type: {other}"),
        )),
    }
}

/// The loggers of a broker are its own.
fn check_own_logger(call: &Call, name: &str) -> Result<(), Failure> {
    let own = call.context.node_id();
    match name.parse::<i32>() {
        Ok(id) if id == own => Ok(()),
        Ok(id) => Err((
            ErrorCode::InvalidRequest,
            format!("Unexpected broker id, expected {own} but received {id}"),
        )),
        Err(_) => Err((
            ErrorCode::InvalidRequest,
            format!("Broker id must be an integer, but it is: {name}"),
        )),
    }
}

/// Levels of this process's loggers; nothing of it outlives the process.
fn describe_loggers(wanted: Option<&Vec<String>>) -> Vec<DescribeConfigsResourceResult> {
    let levels = crate::log_levels::levels();
    let shown = levels
        .into_iter()
        .filter(|(name, _)| wanted.is_none_or(|keys| keys.contains(name)));
    let shown = shown.map(|(name, level)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(Some(text(level)))
            .with_config_source(BROKER_LOGGER_SOURCE)
            .with_config_type(ConfigType::String as i8)
    });
    shown.collect()
}

fn alter_loggers(
    call: &Call,
    name: &str,
    changes: &[ConfigChange],
    validate_only: bool,
) -> Result<(), Failure> {
    check_own_logger(call, name)?;
    let mut levels = Vec::new();
    for change in changes {
        let level = match change.operation {
            ConfigOperation::Set => change.value.clone(),
            ConfigOperation::Delete => None,
            ConfigOperation::Append | ConfigOperation::Subtract => {
                let reason =
                    "APPEND and SUBTRACT operations are not allowed for the BROKER_LOGGER resource";
                return Err((ErrorCode::InvalidRequest, reason.into()));
            }
        };
        levels.push((change.key.clone(), level));
    }
    let changed = if validate_only {
        crate::log_levels::check(&levels)
    } else {
        crate::log_levels::change(levels)
    };
    changed.map_err(|reason| (ErrorCode::InvalidConfig, reason))
}

pub async fn incremental_alter_configs(
    call: &Call,
    request: m::IncrementalAlterConfigsRequest,
) -> m::IncrementalAlterConfigsResponse {
    let mut responses = Vec::new();
    for asked in request.resources {
        let changes: Result<Vec<ConfigChange>, Failure> = asked
            .configs
            .iter()
            .map(|c| {
                let operation = match c.config_operation {
                    0 => ConfigOperation::Set,
                    1 => ConfigOperation::Delete,
                    2 => ConfigOperation::Append,
                    3 => ConfigOperation::Subtract,
                    other => {
                        return Err((
                            ErrorCode::InvalidRequest,
                            format!("Unknown operation type {other}."),
                        ));
                    }
                };
                let value = c.value.as_ref().map(ToString::to_string);
                Ok(ConfigChange {
                    key: c.name.to_string(),
                    operation,
                    value,
                })
            })
            .collect();
        let (kind, name) = (asked.resource_type, &asked.resource_name);
        let result = match changes {
            Err(failure) => Err(failure),
            Ok(changes) if kind == BROKER_LOGGER => {
                alter_loggers(call, name, &changes, request.validate_only)
            }
            Ok(changes) => match resource(call, kind, name) {
                Ok(resource) => match refuse_changes(&resource, &changes) {
                    Ok(()) => {
                        let command = Command::AlterConfigs { resource, changes };
                        commit(call, request.validate_only, command).await
                    }
                    Err(failure) => Err(failure),
                },
                Err(failure) => Err(failure),
            },
        };
        let (code, reason) = result
            .err()
            .map_or((ErrorCode::None, None), |(c, r)| (c, Some(text(r))));
        responses.push(
            IncrementalResponse::default()
                .with_resource_type(asked.resource_type)
                .with_resource_name(asked.resource_name)
                .with_error_code(code.code())
                .with_error_message(reason),
        );
    }
    call.context.wait_until_applied().await;
    m::IncrementalAlterConfigsResponse::default().with_responses(responses)
}

pub async fn alter_configs(
    call: &Call,
    request: m::AlterConfigsRequest,
) -> m::AlterConfigsResponse {
    let mut responses = Vec::new();
    for asked in request.resources {
        let after: BTreeMap<String, String> = asked
            .configs
            .iter()
            .filter_map(|c| Some((c.name.to_string(), c.value.as_ref()?.to_string())))
            .collect();
        let result = match resource(call, asked.resource_type, &asked.resource_name) {
            Ok(resource) => match refuse_replacement(&resource, &after) {
                Ok(()) => {
                    let configs = after;
                    let command = Command::ReplaceConfigs { resource, configs };
                    commit(call, request.validate_only, command).await
                }
                Err(failure) => Err(failure),
            },
            Err(failure) => Err(failure),
        };
        let (code, reason) = result
            .err()
            .map_or((ErrorCode::None, None), |(c, r)| (c, Some(text(r))));
        responses.push(
            AlterConfigsResourceResponse::default()
                .with_resource_type(asked.resource_type)
                .with_resource_name(asked.resource_name)
                .with_error_code(code.code())
                .with_error_message(reason),
        );
    }
    call.context.wait_until_applied().await;
    m::AlterConfigsResponse::default().with_responses(responses)
}

async fn commit(call: &Call, validate_only: bool, command: Command) -> Result<(), Failure> {
    let submitted = call.context.submit(command, validate_only).await;
    submitted.map(|_| ()).map_err(|e| submit_error(&e))
}

pub async fn list_config_resources(
    call: &Call,
    request: m::ListConfigResourcesRequest,
) -> m::ListConfigResourcesResponse {
    let kinds = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    let mut unknown = request.resource_types.iter().filter(|t| !kinds.contains(t));
    if call.version > 0 && unknown.next().is_some() {
        return m::ListConfigResourcesResponse::default()
            .with_error_code(ErrorCode::UnsupportedVersion.code());
    }
    let image = call.context.quorum.image();
    let asked = |kind: i8| {
        if call.version == 0 {
            kind == CLIENT_METRICS
        } else {
            request.resource_types.is_empty() || request.resource_types.contains(&kind)
        }
    };
    let mut resources = Vec::new();
    let mut add = |kind: i8, name: String| {
        let mut resource = ListedResource::default().with_resource_name(text(name));
        if call.version >= 1 {
            resource = resource.with_resource_type(kind);
        }
        resources.push(resource);
    };
    if asked(TOPIC) {
        image.topics().for_each(|t| add(TOPIC, t.name.to_string()));
    }
    for kind in [BROKER, BROKER_LOGGER] {
        if asked(kind) {
            image.brokers.keys().for_each(|b| add(kind, b.to_string()));
        }
    }
    for resource in image.config_resources() {
        match resource {
            ConfigResource::ClientMetrics(name) if asked(CLIENT_METRICS) => {
                add(CLIENT_METRICS, name.clone());
            }
            ConfigResource::Group(name) if asked(GROUP) => add(GROUP, name.clone()),
            _ => {}
        }
    }
    m::ListConfigResourcesResponse::default().with_config_resources(resources)
}
