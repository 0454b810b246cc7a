//! The definitions, read once from the data files: Kafka 4.3.1's keys, and strandline's own.

use super::ranges;
use super::topic::ThrottledReplicas;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A key's type, with Kafka's number for it in `DescribeConfigs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

/// Whether a broker's key may be changed at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynamicMode {
    ReadOnly,
    /// The key can be changed for one broker at a time.
    PerBroker,
    /// The key can be changed for one broker or for all.
    ClusterWide,
}

/// Kafka's protocol has 16 bits for a string's length, so no client could read a longer value.
pub const MAX_VALUE_BYTES: usize = i16::MAX as usize;

/// One configuration key.
#[derive(Clone, Debug)]
pub struct ConfigDef {
    pub name: String,
    pub type_: ConfigType,
    /// `None` where Kafka's default is null.
    pub default: Option<String>,
    /// Kafka's own notation, such as `[1,...]` or `[compact, delete]`.
    valid_values: String,
    pub dynamic: DynamicMode,
    pub sensitive: bool,
    /// For topic keys: the broker keys that give the default, most specific first.
    pub broker_synonyms: Vec<String>,
    /// The key is not shown to clients.
    pub internal: bool,
}

static BROKER: LazyLock<BTreeMap<String, ConfigDef>> =
    LazyLock::new(|| parse(include_str!("../../data/broker-configs.tsv")));
static TOPIC: LazyLock<BTreeMap<String, ConfigDef>> =
    LazyLock::new(|| parse(include_str!("../../data/topic-configs.tsv")));

static GROUP: LazyLock<BTreeMap<String, ConfigDef>> =
    LazyLock::new(|| parse(include_str!("../../data/group-configs.tsv")));
static CLIENT_METRICS: LazyLock<BTreeMap<String, ConfigDef>> =
    LazyLock::new(|| parse(include_str!("../../data/client-metrics-configs.tsv")));

pub fn group_defs() -> impl Iterator<Item = &'static ConfigDef> {
    GROUP.values()
}

pub fn group_def(name: &str) -> Option<&'static ConfigDef> {
    GROUP.get(name)
}

pub fn client_metrics_defs() -> impl Iterator<Item = &'static ConfigDef> {
    CLIENT_METRICS.values()
}

pub fn client_metrics_def(name: &str) -> Option<&'static ConfigDef> {
    CLIENT_METRICS.get(name)
}

pub fn broker_defs() -> impl Iterator<Item = &'static ConfigDef> {
    BROKER.values()
}

pub fn broker_def(name: &str) -> Option<&'static ConfigDef> {
    BROKER.get(name)
}

pub fn topic_defs() -> impl Iterator<Item = &'static ConfigDef> {
    TOPIC.values()
}

pub fn topic_def(name: &str) -> Option<&'static ConfigDef> {
    TOPIC.get(name)
}

fn parse(table: &str) -> BTreeMap<String, ConfigDef> {
    let mut lines = table.lines();
    let columns: Vec<&str> = lines.next().expect("a header line").split('\t').collect();
    lines
        .map(|line| {
            let row: BTreeMap<&str, &str> = columns.iter().copied().zip(line.split('\t')).collect();
            let def = parse_row(&row);
            (def.name.clone(), def)
        })
        .collect()
}

fn parse_row(row: &BTreeMap<&str, &str>) -> ConfigDef {
    let column = |name| row.get(name).copied().unwrap_or_default();
    let type_ = match column("type") {
        "BOOLEAN" => ConfigType::Boolean,
        "STRING" => ConfigType::String,
        "INT" => ConfigType::Int,
        "SHORT" => ConfigType::Short,
        "LONG" => ConfigType::Long,
        "DOUBLE" => ConfigType::Double,
        "LIST" => ConfigType::List,
        "CLASS" => ConfigType::Class,
        "PASSWORD" => ConfigType::Password,
        other => panic!("unknown configuration type {other} in the data"),
    };
    let synonyms = column("all_broker_synonyms");
    ConfigDef {
        name: column("name").to_owned(),
        type_,
        default: Some(column("default"))
            .filter(|d| !matches!(*d, "(null)" | "(required)"))
            .map(str::to_owned),
        valid_values: column("valid_values").to_owned(),
        dynamic: match column("dynamic_mode") {
            "cluster-wide" => DynamicMode::ClusterWide,
            "per-broker" => DynamicMode::PerBroker,
            _ => DynamicMode::ReadOnly,
        },
        sensitive: column("sensitive") == "true" || type_ == ConfigType::Password,
        broker_synonyms: synonyms
            .split(';')
            .filter(|s| !s.is_empty())
            .map(str::to_owned)
            .collect(),
        internal: column("internal") == "true",
    }
}

/// The known key that is closest to a misspelt one.
pub fn nearest_broker_key(unknown: &str) -> Option<&'static str> {
    let best = BROKER
        .keys()
        .map(|k| (edit_distance(unknown, k), k))
        .min()?;
    (best.0 <= 3 && best.0 < unknown.len() / 2).then_some(best.1)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

impl ConfigDef {
    /// The range or the list of legal values, as Kafka writes it.
    pub fn valid_values(&self) -> &str {
        &self.valid_values
    }

    /// Checks a value against type and limits. The error is Kafka's text, which tools print as it is.
    pub fn validate(&self, value: &str) -> Result<(), String> {
        let invalid = |reason: String| {
            let shown = if self.sensitive {
                "[hidden]"
            } else {
                shortened(value)
            };
            Err(format!(
                "Invalid value {shown} for configuration {}: {reason}",
                self.name
            ))
        };
        if value.len() > MAX_VALUE_BYTES {
            let reason = format!("it exceeds the maximum value size of {MAX_VALUE_BYTES} bytes");
            return invalid(reason);
        }
        let trimmed = value.trim();
        match self.type_ {
            ConfigType::Boolean
                if !trimmed.eq_ignore_ascii_case("true")
                    && !trimmed.eq_ignore_ascii_case("false") =>
            {
                return invalid("Expected value to be either true or false".into());
            }
            ConfigType::Int if trimmed.parse::<i32>().is_err() => {
                return invalid("Not a number of type INT".into());
            }
            ConfigType::Short if trimmed.parse::<i16>().is_err() => {
                return invalid("Not a number of type SHORT".into());
            }
            ConfigType::Long if trimmed.parse::<i64>().is_err() => {
                return invalid("Not a number of type LONG".into());
            }
            ConfigType::Double if trimmed.parse::<f64>().is_err() => {
                return invalid("Not a number of type DOUBLE".into());
            }
            _ => {}
        }
        let own = || ranges::violation(&self.name, trimmed.parse().ok()?);
        match self.limit_violation(trimmed).or_else(own) {
            Some(reason) => invalid(reason),
            None => Ok(()),
        }
    }

    /// The smallest and the largest value of a number; `None` where the key is no whole number.
    pub fn ends(&self) -> Option<(i64, i64)> {
        let (mut least, mut most) = match self.type_ {
            ConfigType::Int => (i64::from(i32::MIN), i64::from(i32::MAX)),
            ConfigType::Short => (i64::from(i16::MIN), i64::from(i16::MAX)),
            ConfigType::Long => (i64::MIN, i64::MAX),
            _ => return None,
        };
        let limits = self.valid_values.trim_start_matches('[');
        if let Some((low, high)) = limits.split_once(",...") {
            let high = high.trim_start_matches(',').split(']').next();
            least = low.parse().unwrap_or(least);
            most = high.and_then(|high| high.parse().ok()).unwrap_or(most);
        }
        if let Some((own_least, own_most)) = ranges::ends(&self.name) {
            (least, most) = (least.max(own_least), most.min(own_most));
        }
        Some((least, most))
    }

    fn limit_violation(&self, value: &str) -> Option<String> {
        let limits = self
            .valid_values
            .strip_suffix(" or -1")
            .unwrap_or(&self.valid_values);
        if limits.len() < self.valid_values.len() && value == "-1" {
            return None;
        }
        let (limits, fold_case) = match limits.strip_prefix("(case insensitive) ") {
            Some(rest) => (rest, true),
            None => (limits, false),
        };
        // `[partitionId]:[brokerId],[partitionId]:[brokerId],...`
        if limits.contains("]:[") {
            let legal = ThrottledReplicas::parse(value).is_some();
            return (!legal).then(|| {
                format!(
                    "{} must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],...",
                    self.name
                )
            });
        }
        let inside = limits.strip_prefix('[')?.strip_suffix(']')?;
        if let Some((low, high)) = inside.split_once(",...") {
            let number: f64 = value.parse().ok()?;
            if low.parse::<f64>().is_ok_and(|low| number < low) {
                return Some(format!("Value must be at least {low}"));
            }
            let high = high.trim_start_matches(',');
            if high.parse::<f64>().is_ok_and(|high| number > high) {
                return Some(format!("Value must be no more than {high}"));
            }
            return None;
        }
        let allowed: Vec<&str> = inside.split(", ").collect();
        let legal = |v: &str| {
            allowed
                .iter()
                .any(|a| *a == v || (fold_case && a.eq_ignore_ascii_case(v)))
        };
        let all_legal = match self.type_ {
            ConfigType::List => value
                .split(',')
                .map(str::trim)
                .filter(|v| !v.is_empty())
                .all(legal),
            _ => legal(value),
        };
        (!all_legal).then(|| format!("String must be one of: {}", allowed.join(", ")))
    }
}

/// The beginning of a value, for an error.
fn shortened(value: &str) -> &str {
    const SHOWN_BYTES: usize = 200;
    let end = value.floor_char_boundary(SHOWN_BYTES);
    value.get(..end).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_refused_in_kafkas_words() {
        let topic = |name: &str, value: &str| topic_def(name).unwrap().validate(value);
        assert_eq!(topic("retention.ms", "-1"), Ok(()));
        let cases = [
            ("retention.ms", "abc", "Not a number of type LONG"),
            ("min.insync.replicas", "0", "Value must be at least 1"),
            (
                "cleanup.policy",
                "shred",
                "String must be one of: compact, delete",
            ),
            (
                "preallocate",
                "maybe",
                "Expected value to be either true or false",
            ),
            (
                "compression.lz4.level",
                "18",
                "Value must be no more than 17",
            ),
        ];
        for (name, value, reason) in cases {
            let wanted = format!("Invalid value {value} for configuration {name}: {reason}");
            assert_eq!(topic(name, value), Err(wanted));
        }
        assert_eq!(topic("cleanup.policy", "compact,delete"), Ok(()));
        assert_eq!(topic("compression.gzip.level", "-1"), Ok(()));
    }

    #[test]
    fn a_misspelt_key_finds_its_neighbour() {
        assert_eq!(
            nearest_broker_key("log.retention.hour"),
            Some("log.retention.hours")
        );
        assert_eq!(
            nearest_broker_key("strandline.remote.store.ulr"),
            Some("strandline.remote.store.url")
        );
        assert_eq!(nearest_broker_key("x"), None);
        assert!(broker_def("node.id").is_some());
    }

    #[test]
    fn the_ends_of_a_range_are_taken_and_what_is_beyond_is_not() {
        let defs = broker_defs().chain(topic_defs());
        for def in defs.chain(group_defs()).chain(client_metrics_defs()) {
            let Some((least, most)) = def.ends() else {
                continue;
            };
            for end in [least, most] {
                assert_eq!(def.validate(&end.to_string()), Ok(()), "{}", def.name);
            }
            for beyond in [i128::from(least) - 1, i128::from(most) + 1] {
                // Some of Kafka's ranges allow one value below the range.
                let added = beyond == -1 && def.valid_values().ends_with(" or -1");
                let taken = def.validate(&beyond.to_string()).is_ok();
                assert_eq!(taken, added, "{}={beyond}", def.name);
            }
        }
        assert_eq!(
            topic_def("segment.bytes").unwrap().ends(),
            Some((1 << 20, i64::from(i32::MAX)))
        );
        assert_eq!(
            broker_def("num.io.threads").unwrap().ends(),
            Some((1, 10_000))
        );
    }

    #[test]
    fn a_value_that_no_client_could_be_told_is_refused_and_not_repeated() {
        let rack = broker_def("broker.rack").unwrap();
        assert_eq!(rack.validate(&"ö".repeat(MAX_VALUE_BYTES / 2)), Ok(()));
        let error = rack
            .validate(&"ö".repeat(MAX_VALUE_BYTES / 2 + 1))
            .unwrap_err();
        assert!(
            error.contains("exceeds the maximum value size of 32767 bytes"),
            "{error}"
        );
        assert!(error.len() < 400, "{error}");
    }

    #[test]
    fn every_default_passes_its_own_check() {
        let defs = broker_defs().chain(topic_defs());
        for def in defs.chain(group_defs()).chain(client_metrics_defs()) {
            if let Some(default) = def.default.as_deref().filter(|d| !d.is_empty()) {
                assert_eq!(def.validate(default), Ok(()), "{}", def.name);
            }
        }
    }
}
