//! Properties before they have types: a properties file, `KAFKA_…` variables over it, `--override` over both; each value
//! checked by itself and against the others.

use std::collections::BTreeMap;
use std::path::Path;

use strandline_metadata::config::{
    BrokerConfig, broker_def, contradictions, nearest_broker_key, parse_properties,
    reason_without_effect, reason_without_protection,
};

use super::{SettingsError, invalid};

/// Where a property's value came from, least specific first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PropertySource {
    File,
    Environment,
    Override,
}

/// Properties with their sources, and the warnings for the user.
#[derive(Clone, Debug, Default)]
pub struct Properties {
    pub values: BTreeMap<String, (String, PropertySource)>,
    pub warnings: Vec<String>,
}

/// Beginnings of keys that Kafka hands on to plug-ins and clients, or that are about one listener, and why they change
/// nothing here.
const HANDED_ON: &[(&str, &str)] = &[
    ("rsm.config.", BUILT_IN),
    ("rlmm.config.", BUILT_IN),
    (
        "listener.name.",
        "settings of a single listener are not there yet; the broker's own count for all listeners",
    ),
    ("producer.", A_CLIENTS),
    ("consumer.", A_CLIENTS),
];
const BUILT_IN: &str = "the cold tier is built in (strandline.remote.store.url)";
const A_CLIENTS: &str = "a client's property";

impl Properties {
    /// Reads a properties file, then the values from the environment and the command line, which take precedence.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Self, SettingsError> {
        let mut properties = Self::default();
        if let Some(path) = file {
            let failed = |reason: String| SettingsError::File {
                path: path.to_path_buf(),
                reason,
            };
            let bytes = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
            let entries = parse_properties(&bytes).map_err(|e| failed(e.to_string()))?;
            for (key, value) in entries {
                properties.set(key, value, PropertySource::File);
            }
        }
        for (name, value) in environment {
            if let Some(key) = key_of_variable(&name) {
                // The image's own switches, such as KAFKA_HEAP_OPTS, are no properties.
                if broker_def(&key).is_some() || key.contains('.') {
                    properties.set(key, value, PropertySource::Environment);
                }
            }
        }
        for (key, value) in overrides {
            properties.set(key.clone(), value.clone(), PropertySource::Override);
        }
        properties.review()?;
        Ok(properties)
    }

    pub fn set(&mut self, key: String, value: String, source: PropertySource) {
        self.values.insert(key, (value.trim().to_owned(), source));
    }

    /// Checks every value and collects warnings.
    fn review(&mut self) -> Result<(), SettingsError> {
        for (key, (value, _)) in &self.values {
            if key == "zookeeper.connect" {
                self.warnings.push(
                    "zookeeper.connect: there is no ZooKeeper here; the metadata quorum is built in \
                     (process.roles, controller.quorum.voters)"
                        .into(),
                );
            } else if let Some((_, reason)) = HANDED_ON.iter().find(|(p, _)| key.starts_with(p)) {
                self.warnings
                    .push(format!("{key}: has no effect: {reason}"));
            } else if let Some(def) = broker_def(key) {
                def.validate(value).map_err(|reason| invalid(key, reason))?;
                if let Some(reason) = reason_without_effect(key) {
                    self.warnings
                        .push(format!("{key}: has no effect: {reason}"));
                }
            } else if reason_without_protection(key, value).is_none() {
                let hint = nearest_broker_key(key).map(|k| format!("; did you mean {k}?"));
                self.warnings.push(format!(
                    "{key}: unknown property, ignored{}",
                    hint.unwrap_or_default()
                ));
            }
        }
        self.check_together()
    }

    /// Refuses values that contradict each other.
    pub(super) fn check_together(&self) -> Result<(), SettingsError> {
        let given = |key: &str| self.values.get(key).map(|(value, _)| value);
        if let (Some(node), Some(broker)) = (given("node.id"), given("broker.id"))
            && node != broker
        {
            let reason = format!(
                "{broker} is not node.id ({node}): You must set `node.id` to the same value as `broker.id`."
            );
            return Err(invalid("broker.id", reason));
        }
        let config = BrokerConfig {
            file: self.to_map(),
            ..BrokerConfig::default()
        };
        match contradictions(&config).into_iter().next() {
            Some(wrong) => Err(invalid(
                wrong.keys.first().map_or("", String::as_str),
                wrong.reason,
            )),
            None => Ok(()),
        }
    }

    /// Keys and values; `broker.id` and `node.id` are two names of one.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let values = self.values.iter();
        let mut map: BTreeMap<String, String> =
            values.map(|(k, (v, _))| (k.clone(), v.clone())).collect();
        for (given, other) in [("broker.id", "node.id"), ("node.id", "broker.id")] {
            if let Some(value) = map.get(given).cloned() {
                map.entry(other.to_owned()).or_insert(value);
            }
        }
        map
    }
}

/// `KAFKA_LOG_DIRS` → `log.dirs`, as the `apache/kafka` image maps: `___` is `-`, `__` is `_`, `_` is `.`.
pub fn key_of_variable(name: &str) -> Option<String> {
    let rest = name.strip_prefix("KAFKA_")?;
    let key = rest
        .to_lowercase()
        .replace("___", "-")
        .replace("__", "\u{1}")
        .replace('_', ".");
    Some(key.replace('\u{1}', "_"))
}
