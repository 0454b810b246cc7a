//! Configurations of topics and brokers at run time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use strandline_types::{BrokerId, TopicIdPartition};

use super::topics::{is_tiered_by_default, with_default_tier, without_default_tier};
use super::{ControllerContext, Refusal};
use crate::config::{
    BrokerConfig, ConfigDef, ConfigType, Contradiction, DynamicMode, MAX_VALUE_BYTES,
    TIER_BY_DEFAULT, TIER_KEY, TopicConfig, broker_def, client_metrics_def, contradictions,
    group_def, topic_def, validate_topic_configs,
};
use crate::image::ClusterImage;
use crate::record::{ConfigResource, MetadataRecord};

/// The change of one configuration key (`IncrementalAlterConfigs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigOperation {
    Set,
    Delete,
    Append,
    Subtract,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigChange {
    pub key: String,
    pub operation: ConfigOperation,
    pub value: Option<String>,
}

/// Changes some keys of one resource (`IncrementalAlterConfigs`).
pub(super) fn alter_configs(
    image: &ClusterImage,
    context: &ControllerContext,
    resource: &ConfigResource,
    changes: &[ConfigChange],
) -> Result<Vec<MetadataRecord>, Refusal> {
    let before = image.configs(resource);
    check_dynamic(resource, changes.iter().map(|c| c.key.as_str()))?;
    let mut after = before.clone();
    for change in changes {
        apply_change(&mut after, resource, change)?;
        if change.key == TIER_KEY {
            // From now on the topic's own setting.
            after.remove(TIER_BY_DEFAULT);
        }
    }
    commit_configs(image, context, resource, before, after)
}

/// Replaces all keys of one resource (the old `AlterConfigs`).
pub(super) fn replace_configs(
    image: &ClusterImage,
    context: &ControllerContext,
    resource: &ConfigResource,
    after: &BTreeMap<String, String>,
) -> Result<Vec<MetadataRecord>, Refusal> {
    let before = image.configs(resource);
    let changed = after.iter().filter(|(k, v)| before.get(*k) != Some(v));
    check_dynamic(resource, changed.map(|(k, _)| k.as_str()))?;
    commit_configs(image, context, resource, before, after.clone())
}

/// Keys of brokers that may not be changed at run time, or not for all brokers at once.
fn check_dynamic<'a>(
    resource: &ConfigResource,
    keys: impl Iterator<Item = &'a str>,
) -> Result<(), Refusal> {
    let ConfigResource::Broker(id) = resource else {
        return Ok(());
    };
    let (mut fixed, mut of_one) = (Vec::new(), Vec::new());
    for key in keys {
        // Kafka allows any name in a broker's dynamic configuration.
        match broker_def(key).map(|def| def.dynamic) {
            Some(DynamicMode::ReadOnly) => fixed.push(key),
            Some(DynamicMode::PerBroker) if id.is_none() => of_one.push(key),
            _ => {}
        }
    }
    if !fixed.is_empty() {
        return Err(Refusal::InvalidRequest(format!(
            "Cannot update these configs dynamically: [{}]",
            fixed.join(", ")
        )));
    }
    if !of_one.is_empty() {
        return Err(Refusal::InvalidRequest(format!(
            "Cannot update these configs at default cluster level, broker id must be specified: [{}]",
            of_one.join(", ")
        )));
    }
    Ok(())
}

fn apply_change(
    values: &mut BTreeMap<String, String>,
    resource: &ConfigResource,
    change: &ConfigChange,
) -> Result<(), Refusal> {
    let def = match resource {
        ConfigResource::Topic(_) => topic_def(&change.key),
        ConfigResource::Broker(_) => broker_def(&change.key),
        ConfigResource::Group(_) => group_def(&change.key),
        ConfigResource::ClientMetrics(_) => client_metrics_def(&change.key),
    };
    let needs_value = || {
        change.value.clone().ok_or_else(|| {
            Refusal::InvalidConfig(format!("Null value not supported for : {}", change.key))
        })
    };
    match change.operation {
        ConfigOperation::Set => {
            values.insert(change.key.clone(), needs_value()?);
        }
        ConfigOperation::Delete => {
            values.remove(&change.key);
        }
        ConfigOperation::Append | ConfigOperation::Subtract => {
            if def.is_none_or(|d| d.type_ != ConfigType::List) {
                return Err(Refusal::InvalidConfig(format!(
                    "Can't {} to key {} because its type is not LIST.",
                    if change.operation == ConfigOperation::Append {
                        "append"
                    } else {
                        "subtract"
                    },
                    change.key
                )));
            }
            let current = values
                .get(&change.key)
                .cloned()
                .or_else(|| def.and_then(|d| d.default.clone()));
            let mut list: Vec<String> = split_list(current.as_deref().unwrap_or_default());
            for item in split_list(&needs_value()?) {
                if change.operation == ConfigOperation::Subtract {
                    list.retain(|have| *have != item);
                } else if !list.contains(&item) {
                    list.push(item);
                }
            }
            values.insert(change.key.clone(), list.join(","));
        }
    }
    Ok(())
}

fn split_list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(str::to_owned)
        .collect()
}

fn commit_configs(
    image: &ClusterImage,
    context: &ControllerContext,
    resource: &ConfigResource,
    before: &BTreeMap<String, String>,
    mut after: BTreeMap<String, String>,
) -> Result<Vec<MetadataRecord>, Refusal> {
    refuse_long_values(&after)?;
    match resource {
        ConfigResource::Topic(name) => {
            let known = image.topic(name);
            known.ok_or_else(|| Refusal::NoSuchTopic(name.clone()))?;
            // Deleting the key restores the default for new topics (MirrorMaker 2 relies on this).
            if before.contains_key(TIER_KEY) && !after.contains_key(TIER_KEY) {
                after = with_default_tier(&after, context);
            }
            let mut before = before.clone();
            let compacts = TopicConfig::resolve(&after, &context.broker);
            if is_tiered_by_default(&after)
                && compacts.cleanup_policy.compact
                && !has_remote_log(image, name)
            {
                // The default is for topics that can have a tier. Nothing is there to delete.
                after = without_default_tier(&after);
                before = without_default_tier(&before);
            }
            validate_topic_configs(
                &after,
                Some(&before),
                &context.broker,
                context.remote_enabled,
            )
            .map_err(Refusal::InvalidConfig)?;
        }
        ConfigResource::Broker(id) => {
            validate_broker_configs(before, &after)?;
            refuse_contradictions(image, context, *id, before, &after)?;
        }
        ConfigResource::Group(_) => {
            validate_known(&after, "group", group_def)?;
            validate_group_times(&after, &context.broker)?;
        }
        ConfigResource::ClientMetrics(_) => {
            validate_known(&after, "client metrics", client_metrics_def)?;
        }
    }
    let record = |key: &String, value: Option<&String>| MetadataRecord::Config {
        resource: resource.clone(),
        key: key.clone(),
        value: value.cloned(),
    };
    let removed = before
        .keys()
        .filter(|k| !after.contains_key(*k))
        .map(|k| record(k, None));
    let set = after
        .iter()
        .filter(|(k, v)| before.get(*k) != Some(v))
        .map(|(k, v)| record(k, Some(v)));
    Ok(removed.chain(set).collect())
}

/// Whether anything of the topic is in the cold tier, or on its way there.
fn has_remote_log(image: &ClusterImage, topic: &str) -> bool {
    let Some(topic) = image.topic(topic) else {
        return false;
    };
    let partitions = topic.partitions.keys().map(|p| TopicIdPartition {
        topic_id: topic.id,
        partition: *p,
    });
    let mut logs = partitions.filter_map(|partition| image.remote_log(partition));
    logs.any(|log| log.segments().next().is_some())
}

/// Includes unknown keys, which a broker's configuration may have.
fn refuse_long_values(configs: &BTreeMap<String, String>) -> Result<(), Refusal> {
    match configs.iter().find(|(_, v)| v.len() > MAX_VALUE_BYTES) {
        Some((key, _)) => Err(Refusal::InvalidConfig(format!(
            "{key}: The configuration value cannot be added because it exceeds the maximum value size of \
             {MAX_VALUE_BYTES} bytes."
        ))),
        None => Ok(()),
    }
}

/// A group's times are within what the brokers allow (`group.consumer.min.session.timeout.ms` and the like).
fn validate_group_times(
    configs: &BTreeMap<String, String>,
    broker: &BrokerConfig,
) -> Result<(), Refusal> {
    for (key, value) in configs {
        let Some((kind, what)) = key.split_once('.') else {
            continue;
        };
        let bound = |which: &str| {
            let bound = format!("group.{kind}.{which}.{what}");
            let known = broker_def(&bound).is_some();
            known.then(|| (broker.number(&bound), bound))
        };
        let value: i64 = value.trim().parse().unwrap_or_default();
        let wrong = match (bound("min"), bound("max")) {
            (Some((least, bound)), _) if value < least => ("greater", bound),
            (_, Some((most, bound))) if value > most => ("less", bound),
            _ => continue,
        };
        return Err(Refusal::InvalidConfig(format!(
            "{key} must be {} than or equal to {}",
            wrong.0, wrong.1
        )));
    }
    Ok(())
}

/// Every key is one of the kind, with a legal value.
fn validate_known(
    configs: &BTreeMap<String, String>,
    kind: &str,
    def: fn(&str) -> Option<&'static ConfigDef>,
) -> Result<(), Refusal> {
    for (key, value) in configs {
        let def = def(key)
            .ok_or_else(|| Refusal::InvalidConfig(format!("Unknown {kind} config name: {key}")))?;
        def.validate(value).map_err(Refusal::InvalidConfig)?;
    }
    Ok(())
}

/// Refuses a change that would make a broker's settings contradict each other. Contradictions that exist before the
/// change, in a file for example, do not stand in the way of other changes.
fn refuse_contradictions(
    image: &ClusterImage,
    context: &ControllerContext,
    id: Option<BrokerId>,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let of_all = image.configs(&ConfigResource::Broker(None));
    let with = |changed: &BTreeMap<String, String>| BrokerConfig {
        file: context.broker.file.clone(),
        dynamic: id.map_or_else(BTreeMap::new, |_| changed.clone()),
        dynamic_default: if id.is_some() {
            of_all.clone()
        } else {
            changed.clone()
        },
    };
    let known = contradictions(&with(before));
    match contradictions(&with(after))
        .into_iter()
        .find(|c| !known.contains(c))
    {
        Some(Contradiction { keys, reason }) => {
            let key = keys.first().map_or("", String::as_str);
            Err(Refusal::InvalidRequest(format!("{key}: {reason}")))
        }
        None => Ok(()),
    }
}

fn validate_broker_configs(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let changed = after.iter().filter(|(k, v)| before.get(*k) != Some(v));
    for (key, value) in changed {
        if let Some(def) = broker_def(key) {
            def.validate(value).map_err(Refusal::InvalidRequest)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{broker_defs, topic_defs};

    fn context(file: &[(&str, &str)]) -> ControllerContext {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        ControllerContext {
            broker: BrokerConfig {
                file: file.iter().map(own).collect(),
                ..BrokerConfig::default()
            },
            remote_enabled: false,
        }
    }

    fn change(file: &[(&str, &str)], key: &str, value: &str) -> Result<(), String> {
        let after = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let resource = ConfigResource::Broker(None);
        replace_configs(&ClusterImage::default(), &context(file), &resource, &after)
            .map(|_| ())
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn a_change_that_contradicts_another_setting_or_a_limit_is_refused() {
        let error = change(&[], "num.recovery.threads.per.data.dir", "2147483647").unwrap_err();
        assert!(
            error.contains("num.recovery.threads.per.data.dir: Value must be no more than 1024"),
            "{error}"
        );
        assert!(
            change(&[], "log.retention.ms", "0")
                .unwrap_err()
                .starts_with("log.retention.ms")
        );
        let tiered = [
            ("remote.log.storage.system.enable", "true"),
            ("log.retention.ms", "1000"),
        ];
        let error = change(&tiered, "log.local.retention.ms", "1001").unwrap_err();
        assert!(error.starts_with("log.local.retention.ms"), "{error}");
        assert_eq!(change(&tiered, "log.local.retention.ms", "1000"), Ok(()));
    }

    /// A topic that is created, a topic's change, and a broker's change refuse what is beyond a key's range, as a start does.
    #[test]
    fn what_is_beyond_a_range_is_refused_wherever_it_is_set() {
        let beyond = |def: &ConfigDef| {
            let (least, most) = def.ends()?;
            let added = def.valid_values().ends_with(" or -1");
            let beyond = [i128::from(least) - 1, i128::from(most) + 1];
            Some(beyond.into_iter().filter(move |n| !(added && *n == -1)))
        };
        let image = ClusterImage::default();
        let (mut brokers, mut topics) = (0, 0);
        for def in broker_defs().filter(|def| def.dynamic != DynamicMode::ReadOnly) {
            for number in beyond(def).into_iter().flatten() {
                let after = BTreeMap::from([(def.name.clone(), number.to_string())]);
                let id = Some(BrokerId(1));
                let resource = ConfigResource::Broker(id);
                let replaced = replace_configs(&image, &context(&[]), &resource, &after);
                assert!(replaced.is_err(), "{}={number}", def.name);
                brokers += 1;
            }
        }
        for def in topic_defs() {
            for number in beyond(def).into_iter().flatten() {
                let set = BTreeMap::from([(def.name.clone(), number.to_string())]);
                let broker = BrokerConfig::default();
                for before in [None, Some(&BTreeMap::new())] {
                    let checked = validate_topic_configs(&set, before, &broker, false);
                    assert!(checked.is_err(), "{}={number}", def.name);
                }
                topics += 1;
            }
        }
        assert!(brokers > 80 && topics > 40, "{brokers}, {topics}");
    }

    #[test]
    fn a_value_that_no_client_could_be_told_is_refused_for_every_resource() {
        let long = "x".repeat(MAX_VALUE_BYTES + 1);
        for (resource, key) in [
            (ConfigResource::Broker(None), "nobody.knows.it"),
            (ConfigResource::Group("g".into()), "share.auto.offset.reset"),
            (ConfigResource::ClientMetrics("m".into()), "match"),
        ] {
            let after = BTreeMap::from([(key.to_owned(), long.clone())]);
            let set = replace_configs(&ClusterImage::default(), &context(&[]), &resource, &after);
            let error = set.unwrap_err().to_string();
            assert!(error.contains("exceeds the maximum value size"), "{error}");
            assert!(error.len() < 400, "{error}");
        }
    }

    #[test]
    fn what_contradicted_before_the_change_does_not_stand_in_its_way() {
        let file = [("broker.session.timeout.ms", "100")];
        assert_eq!(change(&file, "log.retention.ms", "1000"), Ok(()));
    }
}
