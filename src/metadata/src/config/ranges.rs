//! Ranges that Kafka's own definition of a key lacks, each with its reason.
//!
//! [`ConfigDef::validate`](super::ConfigDef::validate) applies them together with Kafka's, so a properties file,
//! `strandline check`, the creation of a topic and every change at run time refuse the same values. Some of Kafka's ranges
//! are not in its definitions but in the checks of its start; their words are kept.

/// The numbers that a key may have.
pub(super) struct Range {
    key: &'static str,
    least: i64,
    most: i64,
    reason: &'static str,
}

const fn range(key: &'static str, least: i64, most: i64, reason: &'static str) -> Range {
    Range {
        key,
        least,
        most,
        reason,
    }
}

const fn at_least(key: &'static str, least: i64, reason: &'static str) -> Range {
    range(key, least, i64::MAX, reason)
}

pub(super) const RANGES: &[Range] = &[
    range("num.network.threads", 1, 1024, MANY_THREADS),
    range("num.io.threads", 1, 10_000, MANY_THREADS),
    range("num.recovery.threads.per.data.dir", 1, 1024, MANY_THREADS),
    range(
        "remote.log.manager.copier.thread.pool.size",
        1,
        10_000,
        "a copy holds a part of a segment in memory",
    ),
    range("num.partitions", 1, 10_000, MANY_PARTITIONS),
    range("offsets.topic.num.partitions", 1, 1_000, OPEN_FILES),
    at_least("max.connections", 10, LOCKED_OUT),
    at_least("offsets.topic.segment.bytes", 1 << 20, SMALL_SEGMENTS),
    at_least(
        "transaction.state.log.segment.bytes",
        1 << 20,
        SMALL_SEGMENTS,
    ),
    at_least(
        "share.coordinator.state.topic.segment.bytes",
        1 << 20,
        SMALL_SEGMENTS,
    ),
    range(
        "default.replication.factor",
        1,
        i16::MAX as i64,
        "a partition has at least one replica",
    ),
    at_least("broker.heartbeat.interval.ms", 1, NO_TIME),
    at_least("broker.session.timeout.ms", 1, NO_TIME),
    at_least("replica.lag.time.max.ms", 1, NO_TIME),
    at_least("replica.fetch.wait.max.ms", 0, NEGATIVE_TIME),
    at_least("replica.fetch.min.bytes", 0, NEGATIVE_SIZE),
    at_least("offset.metadata.max.bytes", 0, NEGATIVE_SIZE),
    at_least(
        "log.roll.ms",
        1,
        "log.roll.ms must be equal or greater than 1",
    ),
    at_least(
        "log.roll.jitter.ms",
        0,
        "log.roll.jitter.ms must be equal or greater than 0",
    ),
    at_least("log.flush.interval.ms", 0, NEGATIVE_TIME),
    at_least("group.min.session.timeout.ms", 0, NEGATIVE_TIME),
    at_least("group.initial.rebalance.delay.ms", 0, NEGATIVE_TIME),
];
const MANY_THREADS: &str = "each is a thread of the operating system";
const MANY_PARTITIONS: &str = "a topic is created with at most 10000 partitions";
const OPEN_FILES: &str = "each partition keeps files open on a broker";
const LOCKED_OUT: &str = "an administrator needs a connection to change the value again";
const SMALL_SEGMENTS: &str = "a topic's segments are not smaller (segment.bytes)";
const NO_TIME: &str = "a time is needed";
const NEGATIVE_TIME: &str = "a time is not negative";
const NEGATIVE_SIZE: &str = "a size is not negative";

/// The error for a number out of range, in Kafka's form.
pub(super) fn violation(key: &str, value: i64) -> Option<String> {
    let range = RANGES.iter().find(|range| range.key == key)?;
    let Range {
        least,
        most,
        reason,
        ..
    } = range;
    if value < *least {
        Some(format!("Value must be at least {least}: {reason}"))
    } else if value > *most {
        Some(format!("Value must be no more than {most}: {reason}"))
    } else {
        None
    }
}

/// Both ends of the range that this file gives a key, if there is one.
pub(super) fn ends(key: &str) -> Option<(i64, i64)> {
    let range = RANGES.iter().find(|range| range.key == key)?;
    Some((range.least, range.most))
}

impl Range {
    /// The text of the range in `docs/CONFIG.md`.
    pub(super) fn in_words(&self) -> String {
        let Self {
            key,
            least,
            most,
            reason,
        } = self;
        match *most {
            i64::MAX => format!("`{key}` below {least}: {reason}"),
            most => format!("`{key}` below {least} or above {most}: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::broker_def;

    #[test]
    fn every_range_is_of_a_known_number_and_refuses_beyond_its_ends() {
        for Range {
            key, least, most, ..
        } in RANGES
        {
            let def = broker_def(key).unwrap_or_else(|| panic!("{key} is not known"));
            assert_eq!(def.validate(&least.to_string()), Ok(()), "{key}={least}");
            if *most != i64::MAX {
                assert_eq!(def.validate(&most.to_string()), Ok(()), "{key}={most}");
            }
            let below = def.validate(&(least - 1).to_string());
            assert!(below.is_err(), "{key}: {} was taken", least - 1);
            if let Some(above) = most.checked_add(1) {
                assert!(
                    def.validate(&above.to_string()).is_err(),
                    "{key}: {above} was taken"
                );
            }
        }
    }
}
