//! A topic's configuration as types, and the rules between its keys (KIP-405, KIP-950, KIP-1241).

use std::collections::{BTreeMap, BTreeSet};

use strandline_types::BrokerId;

use super::def::{ConfigType, topic_def};
use super::layers::{BrokerConfig, topic_value};

/// Gives a topic its cold tier.
pub const TIER_KEY: &str = "remote.storage.enable";
/// Beside [`TIER_KEY`]: nobody asked for the tier, the default for new topics gave it. Clients are shown a default then, so that
/// tools that copy or compare a topic's own settings leave it alone.
pub const TIER_BY_DEFAULT: &str = "internal.remote.storage.by.default";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub compact: bool,
    pub delete: bool,
}

/// Replicas that a replication throttle holds up: `*`, or `[partition]:[broker],…`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThrottledReplicas {
    all: bool,
    listed: BTreeSet<(i32, i32)>,
}

impl ThrottledReplicas {
    /// `None` if the text is no such list.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "*" {
            return Some(Self {
                all: true,
                listed: BTreeSet::new(),
            });
        }
        let replica = |word: &str| {
            let (partition, broker) = word.trim().split_once(':')?;
            Some((partition.parse().ok()?, broker.parse().ok()?))
        };
        let words = text.split(',').filter(|word| !word.trim().is_empty());
        Some(Self {
            all: false,
            listed: words.map(replica).collect::<Option<_>>()?,
        })
    }

    pub fn contains(&self, partition: i32, broker: BrokerId) -> bool {
        self.all || self.listed.contains(&(partition, broker.0))
    }
}

/// Effective values; names are Kafka's with `.` as `_`.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    pub cleanup_policy: CleanupPolicy,
    pub compression_type: String,
    pub max_message_bytes: i32,
    pub message_timestamp_type: String,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_after_max_ms: i64,
    pub min_insync_replicas: i32,
    pub unclean_leader_election_enable: bool,
    pub retention_ms: i64,
    pub retention_bytes: i64,
    pub segment_bytes: i32,
    pub segment_ms: i64,
    pub segment_index_bytes: i32,
    pub index_interval_bytes: i32,
    pub flush_messages: i64,
    pub flush_ms: i64,
    pub remote_storage_enable: bool,
    pub remote_log_copy_disable: bool,
    pub remote_log_delete_on_disable: bool,
    /// Resolved: −2 has become the total retention.
    pub local_retention_ms: i64,
    pub local_retention_bytes: i64,
    pub remote_copy_lag_ms: i64,
    pub remote_copy_lag_bytes: i64,
    pub leader_replication_throttled_replicas: ThrottledReplicas,
    pub follower_replication_throttled_replicas: ThrottledReplicas,
}

impl TopicConfig {
    pub fn resolve(overrides: &BTreeMap<String, String>, broker: &BrokerConfig) -> Self {
        let text = |key: &str| topic_value(key, overrides, broker).unwrap_or_default();
        let number = |key: &str| -> i64 {
            let default = || topic_def(key)?.default.clone()?.parse().ok();
            text(key)
                .trim()
                .parse()
                .ok()
                .or_else(default)
                .unwrap_or(i64::MAX)
        };
        let boolean = |key: &str| text(key).trim().eq_ignore_ascii_case("true");
        // Checked when it was set.
        let replicas = |key: &str| ThrottledReplicas::parse(&text(key)).unwrap_or_default();
        let or = |value: i64, fallback: i64| if value == -2 { fallback } else { value };
        let policy = text("cleanup.policy");
        let has = |name: &str| policy.split(',').any(|p| p.trim() == name);
        let retention_ms = number("retention.ms");
        let retention_bytes = number("retention.bytes");
        let local_retention_ms = or(number("local.retention.ms"), retention_ms);
        let local_retention_bytes = or(number("local.retention.bytes"), retention_bytes);
        let internal_segment = overrides
            .get("internal.segment.bytes")
            .and_then(|v| v.parse().ok());
        Self {
            cleanup_policy: CleanupPolicy {
                compact: has("compact"),
                delete: has("delete"),
            },
            compression_type: text("compression.type"),
            max_message_bytes: number("max.message.bytes") as i32,
            message_timestamp_type: text("message.timestamp.type"),
            message_timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            message_timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            min_insync_replicas: number("min.insync.replicas") as i32,
            unclean_leader_election_enable: boolean("unclean.leader.election.enable"),
            retention_ms,
            retention_bytes,
            segment_bytes: internal_segment.unwrap_or_else(|| number("segment.bytes") as i32),
            segment_ms: number("segment.ms"),
            segment_index_bytes: number("segment.index.bytes") as i32,
            index_interval_bytes: number("index.interval.bytes") as i32,
            flush_messages: number("flush.messages"),
            flush_ms: number("flush.ms"),
            remote_storage_enable: boolean("remote.storage.enable"),
            remote_log_copy_disable: boolean("remote.log.copy.disable"),
            remote_log_delete_on_disable: boolean("remote.log.delete.on.disable"),
            local_retention_ms,
            local_retention_bytes,
            remote_copy_lag_ms: or(number("remote.copy.lag.ms"), local_retention_ms),
            remote_copy_lag_bytes: or(number("remote.copy.lag.bytes"), local_retention_bytes),
            leader_replication_throttled_replicas: replicas(
                "leader.replication.throttled.replicas",
            ),
            follower_replication_throttled_replicas: replicas(
                "follower.replication.throttled.replicas",
            ),
        }
    }
}

/// Checks a topic's complete set of overrides before it is committed. The error is Kafka's text.
///
/// `before` has the topic's previous overrides; `None` for a new topic. `remote_enabled` is
/// `remote.log.storage.system.enable`.
pub fn validate_topic_configs(
    overrides: &BTreeMap<String, String>,
    before: Option<&BTreeMap<String, String>>,
    broker: &BrokerConfig,
    remote_enabled: bool,
) -> Result<(), String> {
    for (name, value) in overrides {
        let def = topic_def(name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
        if value.is_empty() && !matches!(def.type_, ConfigType::List | ConfigType::String) {
            return Err(format!(
                "Null value not supported for topic configs: {name}"
            ));
        }
        def.validate(value)?;
    }
    let config = TopicConfig::resolve(overrides, broker);
    let was_remote =
        before.is_some_and(|before| TopicConfig::resolve(before, broker).remote_storage_enable);
    if config.remote_storage_enable {
        if !remote_enabled {
            return Err(
                "Tiered Storage functionality is disabled in the broker. Topic cannot be \
                        configured with remote log storage."
                    .into(),
            );
        }
        if config.cleanup_policy.compact {
            return Err(
                "Remote log storage only supports topics with cleanup.policy=delete or \
                        cleanup.policy being an empty list."
                    .into(),
            );
        }
        check_local_retention(
            "ms",
            config.local_retention_ms,
            config.retention_ms,
            overrides,
            broker,
        )?;
        check_local_retention(
            "bytes",
            config.local_retention_bytes,
            config.retention_bytes,
            overrides,
            broker,
        )?;
        check_copy_disabled(&config)?;
        check_copy_lag(&config)?;
    } else if was_remote && !config.remote_log_delete_on_disable {
        return Err(
            "It is invalid to disable remote storage without deleting remote data. If you \
                    want to keep the remote data and turn to read only, please set \
                    `remote.storage.enable=true,remote.log.copy.disable=true`. If you want to \
                    disable remote storage and delete all remote data, please set \
                    `remote.storage.enable=false,remote.log.delete.on.disable=true`."
                .into(),
        );
    }
    Ok(())
}

fn check_local_retention(
    unit: &str,
    local: i64,
    total: i64,
    overrides: &BTreeMap<String, String>,
    broker: &BrokerConfig,
) -> Result<(), String> {
    let key = format!("local.retention.{unit}");
    let follows = topic_value(&key, overrides, broker).is_some_and(|v| v.trim() == "-2");
    if total < 0 || follows {
        return Ok(());
    }
    if local == -1 {
        return Err(format!(
            "Invalid value -1 for configuration {key}: Value must not be -1 as retention.{unit} value is set as {total}"
        ));
    }
    if local > total {
        return Err(format!(
            "Invalid value {local} for configuration {key}: Value must not be more than retention.{unit} property value: {total}"
        ));
    }
    Ok(())
}

fn check_copy_disabled(config: &TopicConfig) -> Result<(), String> {
    if !config.remote_log_copy_disable {
        return Ok(());
    }
    for (unit, local, total) in [
        ("ms", config.local_retention_ms, config.retention_ms),
        (
            "bytes",
            config.local_retention_bytes,
            config.retention_bytes,
        ),
    ] {
        if local != total {
            return Err(format!(
                "When `remote.log.copy.disable` is set to true, the `local.retention.{unit}` and `retention.{unit}` must be set to the identical value because there will be no more logs copied to the remote storage."
            ));
        }
    }
    Ok(())
}

/// KIP-1241: a copy that waits longer than local retention would never be made in time.
fn check_copy_lag(config: &TopicConfig) -> Result<(), String> {
    for (unit, lag, local) in [
        ("ms", config.remote_copy_lag_ms, config.local_retention_ms),
        (
            "bytes",
            config.remote_copy_lag_bytes,
            config.local_retention_bytes,
        ),
    ] {
        if local >= 0 && lag > local {
            return Err(format!(
                "Invalid value {lag} for configuration remote.copy.lag.{unit}: Value must not be more than local.retention.{unit} property value: {local}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entries: &[(&str, &str)], before: Option<&[(&str, &str)]>) -> Result<(), String> {
        let map = |e: &[(&str, &str)]| -> BTreeMap<String, String> {
            e.iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let before = before.map(map);
        validate_topic_configs(
            &map(entries),
            before.as_ref(),
            &BrokerConfig::default(),
            true,
        )
    }

    const ON: (&str, &str) = ("remote.storage.enable", "true");

    #[test]
    fn the_rules_between_keys_are_kafkas() {
        assert_eq!(check(&[ON], None), Ok(()));
        let error = |entries: &[(&str, &str)]| check(entries, None).unwrap_err();
        assert_eq!(
            error(&[("no.such", "1")]),
            "Unknown topic config name: no.such"
        );
        assert!(error(&[ON, ("cleanup.policy", "compact")]).starts_with("Remote log storage only"));
        assert_eq!(
            error(&[
                ON,
                ("retention.bytes", "1000"),
                ("local.retention.bytes", "2000")
            ]),
            "Invalid value 2000 for configuration local.retention.bytes: Value must not be more than retention.bytes property value: 1000"
        );
        assert!(
            error(&[ON, ("retention.ms", "5"), ("local.retention.ms", "-1")])
                .contains("must not be -1")
        );
        assert!(
            error(&[
                ON,
                ("remote.log.copy.disable", "true"),
                ("local.retention.ms", "1")
            ])
            .starts_with("When `remote.log.copy.disable`")
        );
        assert_eq!(
            check(&[ON, ("remote.log.copy.disable", "true")], None),
            Ok(())
        );
        assert!(
            error(&[
                ON,
                ("local.retention.ms", "10"),
                ("remote.copy.lag.ms", "11")
            ])
            .contains("remote.copy.lag.ms")
        );
    }

    #[test]
    fn turning_the_cold_tier_off_needs_consent_to_delete() {
        let off = ("remote.storage.enable", "false");
        assert!(
            check(&[off], Some(&[ON]))
                .unwrap_err()
                .starts_with("It is invalid to disable")
        );
        assert_eq!(
            check(
                &[off, ("remote.log.delete.on.disable", "true")],
                Some(&[ON])
            ),
            Ok(())
        );
        assert_eq!(check(&[off], None), Ok(()));
    }

    #[test]
    fn minus_two_follows_the_broader_limit() {
        let overrides = [("retention.ms".to_owned(), "500".to_owned())].into();
        let config = TopicConfig::resolve(&overrides, &BrokerConfig::default());
        assert_eq!(config.local_retention_ms, 500);
        assert_eq!(config.flush_messages, 1);
        assert_eq!(config.flush_ms, i64::MAX);
    }
}
