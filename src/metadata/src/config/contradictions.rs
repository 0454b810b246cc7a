//! Settings that are legal one by one and make no sense together, or that exceed what this software can do.
//!
//! One table for all: `strandline check`, the start of a server, and changes at run time. Values that Kafka refuses are
//! refused here, too. Values that Kafka accepts are refused only if the broker could not do what they ask for.

use super::layers::BrokerConfig;

/// Keys that do not go together, with a line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The key to name first, then the others that play a part.
    pub keys: Vec<String>,
    pub reason: String,
}

/// Lower and upper limits that the key's own range in Kafka does not have.
const LIMITS: &[(&str, i64, i64, &str)] = &[
    ("num.network.threads", 1, 1024, MANY_THREADS),
    ("num.io.threads", 1, 10_000, MANY_THREADS),
    ("num.recovery.threads.per.data.dir", 1, 1024, MANY_THREADS),
    (
        "remote.log.manager.copier.thread.pool.size",
        1,
        10_000,
        "a copy holds a part of a segment in memory",
    ),
    ("num.partitions", 1, 10_000, MANY_PARTITIONS),
    ("offsets.topic.num.partitions", 1, 10_000, MANY_PARTITIONS),
    (
        "offsets.topic.segment.bytes",
        1 << 20,
        i64::MAX,
        "a topic's segments are not smaller (segment.bytes)",
    ),
    (
        "default.replication.factor",
        1,
        i16::MAX as i64,
        "a partition has at least one replica",
    ),
    ("broker.heartbeat.interval.ms", 1, i64::MAX, NO_TIME),
    ("broker.session.timeout.ms", 1, i64::MAX, NO_TIME),
    ("replica.lag.time.max.ms", 1, i64::MAX, NO_TIME),
    ("log.roll.ms", 1, i64::MAX, NO_TIME),
    ("group.min.session.timeout.ms", 0, i64::MAX, NO_TIME),
];
const MANY_THREADS: &str = "each is a thread of the operating system";
const MANY_PARTITIONS: &str = "a topic is created with at most 10000 partitions";
const NO_TIME: &str = "a time is needed";

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
        "a follower that waits for records would leave the ISR",
    ),
    (
        "replica.fetch.wait.max.ms",
        Order::AtMost,
        "replica.socket.timeout.ms",
        "a follower that waits for records would lose its connection",
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
    for (key, least, most, why) in LIMITS {
        let value = config.number(key);
        if value < *least {
            found.push(one(key, format!("{value} is less than {least}: {why}")));
        } else if value > *most {
            found.push(one(key, format!("{value} is more than {most}: {why}")));
        }
    }
    for (low, order, high, why) in ORDERED {
        found.extend(out_of_order(config, low, *order, high, why));
    }
    retention_without_time(config, &mut found);
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
    found
}

/// The rules in words, for the document.
pub(super) fn rules() -> Vec<String> {
    let limits = LIMITS.iter().map(|(key, least, most, why)| {
        let below = format!("`{key}` below {least}");
        match *most {
            i64::MAX => format!("{below}: {why}"),
            most => format!("{below} or above {most}: {why}"),
        }
    });
    let ordered = ORDERED.iter().map(|(low, order, high, why)| match order {
        Order::Below => format!("`{low}` that is not below `{high}`: {why}"),
        Order::AtMost => format!("`{low}` above `{high}`: {why}"),
    });
    let others = [
        "`log.retention.ms`, `.minutes` or `.hours` other than −1 and at least one millisecond",
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

/// Kafka knows −1, "for ever", and times from one millisecond on.
fn retention_without_time(config: &BrokerConfig, found: &mut Vec<Contradiction>) {
    let key = "log.retention.ms";
    let value = config.number(key);
    if value < 1 && value != -1 {
        let reason = format!("{value} is neither -1 (for ever) nor at least 1");
        let mut wrong = one(key, reason);
        let coarser = ["log.retention.minutes", "log.retention.hours"];
        wrong.keys.extend(coarser.map(str::to_owned));
        found.push(wrong);
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
                &[("num.network.threads", "2000000000")],
                "num.network.threads",
            ),
            (&[("num.io.threads", "10001")], "num.io.threads"),
            (
                &[("num.recovery.threads.per.data.dir", "2147483647")],
                "num.recovery.threads.per.data.dir",
            ),
            (
                &[("offsets.topic.segment.bytes", "1")],
                "offsets.topic.segment.bytes",
            ),
            (
                &[("default.replication.factor", "65537")],
                "default.replication.factor",
            ),
            (&[("num.partitions", "2147483647")], "num.partitions"),
            (
                &[("broker.session.timeout.ms", "2000")],
                "broker.heartbeat.interval.ms",
            ),
            (
                &[("broker.heartbeat.interval.ms", "0")],
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
        let named = LIMITS.iter().map(|(key, ..)| *key);
        let named = named.chain(ORDERED.iter().flat_map(|(low, _, high, _)| [*low, *high]));
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
