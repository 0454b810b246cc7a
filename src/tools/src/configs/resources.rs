//! The settings of resources, as requests and answers.

use std::collections::BTreeMap;

use kafka_protocol::messages as m;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use strandline_client::{ClientError, Cluster, check};
use strandline_wire::{ErrorCode, text};

/// `ConfigResource.Type`
pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;
/// Operations of `IncrementalAlterConfigs`.
const SET: i8 = 0;
const DELETE: i8 = 1;

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
    // An attempt whose answer was lost may be made again: each says what is to be, not what is to change.
    let attempt = || async {
        // Settings of one broker are checked by that broker.
        let answer = match name.parse() {
            Ok(id) if matches!(kind, BROKER | BROKER_LOGGER) => {
                cluster.call_broker(id, &request).await
            }
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
    };
    cluster.retrying(attempt).await
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
