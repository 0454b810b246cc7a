//! Settings that are legal one by one and make no sense together, or that exceed what this software can do.
//!
//! One table for all: `strandline check`, the start of a server, and changes at run time. Values that Kafka refuses are
//! refused here, too. Values that Kafka accepts are refused only if the broker could not do what they ask for.

use super::layers::BrokerConfig;
use super::protection::{self, protections};
use super::ranges::{RANGES, Range};

/// Keys that do not go together, with a line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The key to name first, then the others that play a part.
    pub keys: Vec<String>,
    pub reason: String,
}

/// The first key's value is at most the second's; with the kind of comparison and the reason.
const ORDERED: &[(&str, Order, &str, &str)] = &[
    (
        "broker.heartbeat.interval.ms",
        Order::Below,
        "broker.session.timeout.ms",
        "a broker would be fenced between two heartbeats",
    ),
    (
        "replica.fetch.wait.max.ms",
        Order::AtMost,
        "replica.lag.time.max.ms",
        "replica.fetch.wait.max.ms should always be less than or equal to replica.lag.time.max.ms to prevent frequent \
         changes in ISR",
    ),
    (
        "replica.fetch.wait.max.ms",
        Order::AtMost,
        "replica.socket.timeout.ms",
        "replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms to prevent unnecessary socket \
         timeouts",
    ),
    (
        "group.min.session.timeout.ms",
        Order::AtMost,
        "group.max.session.timeout.ms",
        "no member could join",
    ),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Below,
    AtMost,
}

/// Kinds of groups whose sessions and heartbeats have a default between a minimum and a maximum.
const GROUP_KINDS: &[&str] = &["consumer", "share", "streams"];

/// Every contradiction of a broker's effective configuration; empty where there is none.
pub fn contradictions(config: &BrokerConfig) -> Vec<Contradiction> {
    let mut found = Vec::new();
    for (low, order, high, why) in ORDERED {
        found.extend(out_of_order(config, low, *order, high, why));
    }
    nothing_kept(config, &mut found);
    closed_at_once(config, &mut found);
    for kind in GROUP_KINDS {
        group_times(config, kind, &mut found);
    }
    if config.boolean("remote.log.storage.system.enable") {
        local_retention(config, &mut found);
    }
    if config.number("max.connections.per.ip") == 0
        && config
            .get("max.connections.per.ip.overrides")
            .is_none_or(|overrides| overrides.trim().is_empty())
    {
        let reason = "0 is allowed only where max.connections.per.ip.overrides names addresses";
        found.push(one("max.connections.per.ip", reason.into()));
    }
    protections(config, &mut found);
    found
}

/// The rules in words, for the document.
pub(super) fn rules() -> Vec<String> {
    let limits = RANGES.iter().map(Range::in_words);
    let ordered = ORDERED.iter().map(|(low, order, high, why)| match order {
        Order::Below => format!("`{low}` that is not below `{high}`: {why}"),
        Order::AtMost => format!("`{low}` above `{high}`: {why}"),
    });
    let others = [
        "`log.retention.ms`, `.minutes` or `.hours` other than −1 and at least one millisecond, `log.retention.bytes=0`",
        "`connections.max.idle.ms` that is not above `connection.failed.authentication.delay.ms`",
        "`broker.id` that is not `node.id`",
        "`controller.quorum.voters` without the own `node.id` for a controller, or with it for a mere broker",
        "a store in `memory://` but for `strandline dev`, and one in a directory that is not absolute",
        "no cold tier (`remote.log.storage.system.enable`) where topics have one",
        "of groups: a session's or heartbeat's default outside of its minimum and maximum, or a heartbeat that is not below \
         the session",
        "with a cold tier: `log.local.retention.*` above `log.retention.*`, `log.remote.copy.lag.*` above the local retention",
        "`max.connections.per.ip=0` without `max.connections.per.ip.overrides`",
        "`log.dirs` one of which lies within another; `strandline.remote.cache.dir` or a store in a local directory that \
         overlaps a log directory or the metadata",
    ];
    limits
        .chain(ordered)
        .chain(others.map(str::to_owned))
        .chain([protection::rule()])
        .collect()
}

fn one(key: &str, reason: String) -> Contradiction {
    Contradiction {
        keys: vec![key.to_owned()],
        reason,
    }
}

fn out_of_order(
    config: &BrokerConfig,
    low: &str,
    order: Order,
    high: &str,
    why: &str,
) -> Option<Contradiction> {
    let (small, large) = (config.number(low), config.number(high));
    let (wrong, words) = match order {
        Order::Below => (small >= large, "less than"),
        Order::AtMost => (small > large, "at most"),
    };
    wrong.then(|| Contradiction {
        keys: vec![low.to_owned(), high.to_owned()],
        reason: format!("{small} must be {words} {high} ({large}): {why}"),
    })
}

/// Defaults under which topics keep no record. A topic's own `retention.ms=0` is a way to empty it.
fn nothing_kept(config: &BrokerConfig, found: &mut Vec<Contradiction>) {
    let key = "log.retention.ms";
    let value = config.number(key);
    if value < 1 && value != -1 {
        let reason =
            format!("{value}: log.retention.ms must be unlimited (-1) or, equal or greater than 1");
        let mut wrong = one(key, reason);
        let coarser = ["log.retention.minutes", "log.retention.hours"];
        wrong.keys.extend(coarser.map(str::to_owned));
        found.push(wrong);
    }
    let key = "log.retention.bytes";
    if config.number(key) == 0 {
        let reason = "0 would delete every record: -1 is unlimited";
        found.push(one(key, reason.into()));
    }
}

/// Kafka refuses an idle time that closes a connection before the client can learn why it was refused.
fn closed_at_once(config: &BrokerConfig, found: &mut Vec<Contradiction>) {
    let (idle_key, delay_key) = (
        "connections.max.idle.ms",
        "connection.failed.authentication.delay.ms",
    );
    let (idle, delay) = (config.number(idle_key), config.number(delay_key));
    if idle >= 0 && idle <= delay {
        found.push(Contradiction {
            keys: vec![idle_key.to_owned(), delay_key.to_owned()],
            reason: format!(
                "{delay_key}={delay} should always be less than {idle_key}={idle} to prevent failed authentication \
                 responses from timing out"
            ),
        });
    }
}

fn group_times(config: &BrokerConfig, kind: &str, found: &mut Vec<Contradiction>) {
    let key = |name: &str| format!("group.{kind}.{name}");
    for time in ["session.timeout.ms", "heartbeat.interval.ms"] {
        let (least, value, most) = (
            key(&format!("min.{time}")),
            key(time),
            key(&format!("max.{time}")),
        );
        let why = "no group could have its default";
        for (low, high) in [(&least, &value), (&value, &most)] {
            found.extend(out_of_order(config, low, Order::AtMost, high, why));
        }
    }
    let (heartbeat, session) = (key("heartbeat.interval.ms"), key("session.timeout.ms"));
    let why = "a member would be removed between two heartbeats";
    found.extend(out_of_order(
        config,
        &heartbeat,
        Order::Below,
        &session,
        why,
    ));
}

/// The rules of [`super::validate_topic_configs`] for the defaults that a broker gives its topics.
fn local_retention(config: &BrokerConfig, found: &mut Vec<Contradiction>) {
    for unit in ["ms", "bytes"] {
        let total_key = format!("log.retention.{unit}");
        let local_key = format!("log.local.retention.{unit}");
        let lag_key = format!("log.remote.copy.lag.{unit}");
        let (total, local) = (config.number(&total_key), config.number(&local_key));
        if total >= 0 && local != -2 && (local < 0 || local > total) {
            found.push(Contradiction {
                keys: vec![local_key.clone(), total_key.clone()],
                reason: format!("{local} must not be more than {total_key} ({total})"),
            });
        }
        let local = if local == -2 { total } else { local };
        let lag = config.number(&lag_key);
        if local >= 0 && lag > local {
            found.push(Contradiction {
                keys: vec![lag_key, local_key],
                reason: format!(
                    "{lag} must not be more than the local retention ({local}): a segment would be deleted before \
                     its copy is due"
                ),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::broker_defs;

    fn with(pairs: &[(&str, &str)]) -> BrokerConfig {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        BrokerConfig {
            file: pairs.iter().map(own).collect(),
            ..BrokerConfig::default()
        }
    }

    #[test]
    fn the_defaults_do_not_contradict_each_other() {
        assert_eq!(contradictions(&BrokerConfig::default()), []);
        let tiered = with(&[("remote.log.storage.system.enable", "true")]);
        assert_eq!(contradictions(&tiered), []);
    }

    #[test]
    fn each_rule_names_the_key_that_is_at_fault() {
        const TIERED: (&str, &str) = ("remote.log.storage.system.enable", "true");
        let cases: &[(&[(&str, &str)], &str)] = &[
            (
                &[("broker.session.timeout.ms", "2000")],
                "broker.heartbeat.interval.ms",
            ),
            (
                &[("replica.lag.time.max.ms", "499")],
                "replica.fetch.wait.max.ms",
            ),
            (
                &[("replica.socket.timeout.ms", "1")],
                "replica.fetch.wait.max.ms",
            ),
            (
                &[("group.max.session.timeout.ms", "1")],
                "group.min.session.timeout.ms",
            ),
            (&[("log.retention.ms", "0")], "log.retention.ms"),
            (&[("log.retention.hours", "0")], "log.retention.ms"),
            (&[("log.retention.minutes", "-7")], "log.retention.ms"),
            (
                &[("group.consumer.min.session.timeout.ms", "45001")],
                "group.consumer.min.session.timeout.ms",
            ),
            (
                &[("group.consumer.max.heartbeat.interval.ms", "4999")],
                "group.consumer.heartbeat.interval.ms",
            ),
            (
                &[
                    TIERED,
                    ("log.retention.bytes", "10"),
                    ("log.local.retention.bytes", "11"),
                ],
                "log.local.retention.bytes",
            ),
            (
                &[
                    TIERED,
                    ("log.retention.ms", "10"),
                    ("log.local.retention.ms", "-1"),
                ],
                "log.local.retention.ms",
            ),
            (
                &[
                    TIERED,
                    ("log.retention.ms", "10"),
                    ("log.remote.copy.lag.ms", "11"),
                ],
                "log.remote.copy.lag.ms",
            ),
            (&[("max.connections.per.ip", "0")], "max.connections.per.ip"),
            (&[("log.retention.bytes", "0")], "log.retention.bytes"),
            (
                &[("connections.max.idle.ms", "100")],
                "connections.max.idle.ms",
            ),
        ];
        for (pairs, key) in cases {
            let found = contradictions(&with(pairs));
            assert_eq!(found.len(), 1, "{pairs:?}: {found:?}");
            assert_eq!(found[0].keys[0], *key, "{pairs:?}");
        }
        let allowed = [
            ("max.connections.per.ip", "0"),
            ("max.connections.per.ip.overrides", "10.0.0.1:5"),
        ];
        assert_eq!(contradictions(&with(&allowed)), []);
    }

    #[test]
    fn every_key_of_a_rule_is_a_number_that_is_known() {
        let named = ORDERED.iter().flat_map(|(low, _, high, _)| [*low, *high]);
        for key in named {
            assert!(broker_defs().any(|def| def.name == key), "{key}");
        }
        for kind in GROUP_KINDS {
            for time in ["session.timeout.ms", "heartbeat.interval.ms"] {
                for key in [
                    format!("group.{kind}.min.{time}"),
                    format!("group.{kind}.max.{time}"),
                ] {
                    assert!(broker_defs().any(|def| def.name == key), "{key}");
                }
            }
        }
    }
}
