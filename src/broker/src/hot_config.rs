//! The settings that are looked at for each request or connection, read once when the metadata changes: a look-up by name
//! searches three maps and parses a text.

use std::time::Duration;

use strandline_metadata::config::BrokerConfig;

/// A limit of time that nobody reaches.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotConfig {
    /// `socket.request.max.bytes`
    pub max_request_bytes: usize,
    /// `connections.max.idle.ms`; negative is never.
    pub connections_max_idle: Duration,
    /// `max.connections`
    pub max_connections: usize,
    /// `fetch.max.bytes`
    pub fetch_max_bytes: usize,
    /// `remote.fetch.max.wait.ms`
    pub remote_fetch_max_wait: Duration,
    /// `replica.selector.class` names Kafka's rack-aware selector.
    pub prefers_near_replicas: bool,
}

impl HotConfig {
    pub fn of(config: &BrokerConfig) -> Self {
        let size = |key: &str| usize::try_from(config.number(key)).unwrap_or(0);
        let idle = u64::try_from(config.number("connections.max.idle.ms"));
        let wait = config.number("remote.fetch.max.wait.ms").max(1);
        let selector = config.get("replica.selector.class");
        Self {
            max_request_bytes: size("socket.request.max.bytes"),
            connections_max_idle: idle.map_or(NEVER, Duration::from_millis),
            max_connections: size("max.connections").max(1),
            fetch_max_bytes: size("fetch.max.bytes"),
            remote_fetch_max_wait: Duration::from_millis(wait.unsigned_abs()),
            prefers_near_replicas: selector
                .is_some_and(|class| class.ends_with("RackAwareReplicaSelector")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_with_their_units() {
        let mut config = BrokerConfig::default();
        let defaults = HotConfig::of(&config);
        assert_eq!(defaults.max_request_bytes, 100 << 20);
        assert_eq!(defaults.fetch_max_bytes, 55 << 20);
        assert_eq!(defaults.connections_max_idle, Duration::from_secs(600));
        assert!(!defaults.prefers_near_replicas);
        let mut set = |key: &str, value: &str| {
            config.file.insert(key.to_owned(), value.to_owned());
        };
        set("connections.max.idle.ms", "-1");
        set("fetch.max.bytes", "1024");
        set("max.connections", "0");
        set("remote.fetch.max.wait.ms", "7");
        set(
            "replica.selector.class",
            "org.apache.kafka.common.replica.RackAwareReplicaSelector",
        );
        let changed = HotConfig {
            connections_max_idle: NEVER,
            fetch_max_bytes: 1024,
            max_connections: 1,
            remote_fetch_max_wait: Duration::from_millis(7),
            prefers_near_replicas: true,
            ..defaults
        };
        assert_eq!(HotConfig::of(&config), changed);
    }
}
