//! Where a value comes from: topic, broker at run time, cluster default at run time, properties file, default.

use std::collections::BTreeMap;

use super::def::{ConfigDef, ConfigType, broker_def, broker_defs, topic_def};
use super::topic::{TIER_BY_DEFAULT, TIER_KEY};

/// Kafka's number for a source in `DescribeConfigs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    DynamicTopic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    DynamicClientMetrics = 7,
    DynamicGroup = 8,
}

/// A place that gives a value to a key, under the name it has there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSynonym {
    pub name: String,
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// A key with its effective value and every place that gives one, most specific first.
#[derive(Clone, Debug)]
pub struct ConfigEntry {
    pub def: &'static ConfigDef,
    pub value: Option<String>,
    pub source: ConfigSource,
    pub synonyms: Vec<ConfigSynonym>,
}

/// The broker's three layers.
#[derive(Clone, Debug, Default)]
pub struct BrokerConfig {
    /// Values from the properties file, the environment and the command line.
    pub file: BTreeMap<String, String>,
    /// Set at run time for this broker.
    pub dynamic: BTreeMap<String, String>,
    /// Set at run time for every broker.
    pub dynamic_default: BTreeMap<String, String>,
}

impl BrokerConfig {
    /// Every place that gives `key` a value, most specific first. A password is never shown in a default.
    fn places(&self, key: &str) -> Vec<ConfigSynonym> {
        let layers = [
            (&self.dynamic, ConfigSource::DynamicBroker),
            (&self.dynamic_default, ConfigSource::DynamicDefaultBroker),
            (&self.file, ConfigSource::StaticBroker),
        ];
        let set = layers.into_iter().filter_map(|(layer, source)| {
            let value = Some(layer.get(key)?.clone());
            Some(ConfigSynonym {
                name: key.to_owned(),
                value,
                source,
            })
        });
        let default = broker_def(key)
            .and_then(|d| d.default.clone())
            .map(|value| ConfigSynonym {
                name: key.to_owned(),
                value: Some(value),
                source: ConfigSource::Default,
            });
        set.chain(default).collect()
    }

    /// A broker key with its value and where that comes from.
    pub fn describe(&self, def: &'static ConfigDef) -> ConfigEntry {
        let synonyms: Vec<_> = broker_fallbacks(&def.name)
            .flat_map(|key| self.places(key))
            .collect();
        let first = synonyms.first();
        ConfigEntry {
            def,
            value: first.and_then(|s| convert_unit(&s.name, &def.name, s.value.as_deref()?)),
            source: first.map_or(ConfigSource::Default, |s| s.source),
            synonyms,
        }
    }

    pub fn describe_all(&self) -> impl Iterator<Item = ConfigEntry> + '_ {
        broker_defs().map(|def| self.describe(def))
    }

    /// Whether the key was given a value.
    pub fn is_set(&self, key: &str) -> bool {
        let layers = [&self.dynamic, &self.dynamic_default, &self.file];
        layers.iter().any(|layer| layer.contains_key(key))
    }

    /// The effective value of a broker key.
    pub fn get(&self, key: &str) -> Option<String> {
        broker_def(key).and_then(|def| self.describe(def).value)
    }

    /// A number. Values are checked when they are set, so a value that does not parse is the default.
    pub fn number(&self, key: &str) -> i64 {
        let parse = |v: String| v.trim().parse().ok();
        self.get(key)
            .and_then(parse)
            .or_else(|| broker_def(key)?.default.clone().and_then(parse))
            .unwrap_or_default()
    }

    pub fn boolean(&self, key: &str) -> bool {
        self.get(key)
            .is_some_and(|v| v.trim().eq_ignore_ascii_case("true"))
    }
}

/// A broker key, then the coarser keys that Kafka falls back to.
fn broker_fallbacks(key: &str) -> impl Iterator<Item = &str> {
    let rest: &[&str] = match key {
        "log.retention.ms" => &["log.retention.minutes", "log.retention.hours"],
        "log.retention.minutes" => &["log.retention.hours"],
        "log.roll.ms" => &["log.roll.hours"],
        "log.roll.jitter.ms" => &["log.roll.jitter.hours"],
        "log.flush.interval.ms" => &["log.flush.scheduler.interval.ms"],
        "log.dirs" => &["log.dir"],
        _ => &[],
    };
    std::iter::once(key).chain(rest.iter().copied())
}

/// A value given under a key in hours or minutes, in the milliseconds of the key that is asked for.
fn convert_unit(from: &str, to: &str, value: &str) -> Option<String> {
    let scale = |key: &str| {
        if key.ends_with(".hours") {
            3_600_000
        } else if key.ends_with(".minutes") {
            60_000
        } else {
            1
        }
    };
    let (have, want) = (scale(from), scale(to));
    if have == want {
        return Some(value.to_owned());
    }
    let number: i64 = value.trim().parse().ok()?;
    Some(
        if number < 0 {
            number
        } else {
            number.saturating_mul(have) / want
        }
        .to_string(),
    )
}

/// A topic key with its value: the topic's own, else the broker's.
pub fn describe_topic(
    def: &'static ConfigDef,
    overrides: &BTreeMap<String, String>,
    broker: &BrokerConfig,
) -> ConfigEntry {
    if def.name == TIER_KEY && overrides.contains_key(TIER_BY_DEFAULT) {
        return ConfigEntry {
            def,
            value: overrides.get(TIER_KEY).cloned(),
            source: ConfigSource::Default,
            synonyms: Vec::new(),
        };
    }
    let own = overrides.get(&def.name).map(|value| ConfigSynonym {
        name: def.name.clone(),
        value: Some(value.clone()),
        source: ConfigSource::DynamicTopic,
    });
    // Of coarser keys, such as hours, only those with a value are named: their default is the same as the topic's.
    let inherited = def.broker_synonyms.iter().enumerate();
    let inherited = inherited.flat_map(|(rank, key)| {
        let mut places = broker.places(key);
        places.retain(|place| rank == 0 || place.source != ConfigSource::Default);
        places
    });
    let synonyms: Vec<_> = own.into_iter().chain(inherited).collect();
    let first = synonyms.first();
    ConfigEntry {
        def,
        value: first
            .and_then(|s| convert_unit(&s.name, &def.name, s.value.as_deref()?))
            .or_else(|| def.default.clone()),
        source: first.map_or(ConfigSource::Default, |s| s.source),
        synonyms,
    }
}

/// A key of a group or of client metrics with its value: the resource's own, else the broker's, else the default.
pub fn describe_resource(
    def: &'static ConfigDef,
    own: &BTreeMap<String, String>,
    source: ConfigSource,
    broker: &BrokerConfig,
) -> ConfigEntry {
    let mut entry = describe_topic(def, own, broker);
    for synonym in &mut entry.synonyms {
        if synonym.source == ConfigSource::DynamicTopic {
            synonym.source = source;
        }
    }
    if entry.source == ConfigSource::DynamicTopic {
        entry.source = source;
    }
    entry
}

/// The effective value of a topic key.
pub(super) fn topic_value(
    key: &str,
    overrides: &BTreeMap<String, String>,
    broker: &BrokerConfig,
) -> Option<String> {
    describe_topic(topic_def(key)?, overrides, broker).value
}

impl ConfigEntry {
    /// Whether the value may be shown to a client.
    pub fn is_sensitive(&self) -> bool {
        self.def.sensitive || self.def.type_ == ConfigType::Password
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn the_most_specific_layer_wins_and_units_are_converted() {
        let mut broker = BrokerConfig {
            file: map(&[("log.retention.hours", "2")]),
            ..BrokerConfig::default()
        };
        let value = |b: &BrokerConfig, o: &[(&str, &str)]| topic_value("retention.ms", &map(o), b);
        assert_eq!(value(&broker, &[]), Some("7200000".into()));
        broker.dynamic_default = map(&[("log.retention.ms", "5")]);
        assert_eq!(value(&broker, &[]), Some("5".into()));
        broker.dynamic = map(&[("log.retention.ms", "6")]);
        assert_eq!(value(&broker, &[]), Some("6".into()));
        assert_eq!(value(&broker, &[("retention.ms", "7")]), Some("7".into()));
        let entry = describe_topic(topic_def("retention.ms").unwrap(), &map(&[]), &broker);
        assert_eq!(entry.source, ConfigSource::DynamicBroker);
        assert_eq!(entry.synonyms[1].source, ConfigSource::DynamicDefaultBroker);
        let untouched = BrokerConfig::default();
        let entry = describe_topic(topic_def("retention.ms").unwrap(), &map(&[]), &untouched);
        assert_eq!(entry.value, Some("604800000".into()));
        assert!(entry.synonyms.is_empty());
        assert_eq!(
            BrokerConfig::default().number("log.retention.ms"),
            168 * 3_600_000
        );
    }
}
