//! The start of a segment's age, the same for both tiers. Kafka's rule: a segment expires by its largest record
//! timestamp, so a timestamp ahead of the broker's clock keeps its segment until the clock has passed it.

use crate::TimestampMs;

/// The time from which a segment's age is counted: its largest record timestamp, or `written_ms` where no record has one.
///
/// A timestamp in the future counts unchanged. Any substitute in the past would delete records early;
/// `message.timestamp.after.max.ms` bounds how far ahead a timestamp may lie.
pub fn newest_record_ms(max_timestamp_ms: TimestampMs, written_ms: TimestampMs) -> TimestampMs {
    if max_timestamp_ms < 0 {
        written_ms
    } else {
        max_timestamp_ms
    }
}

/// Whether records whose newest is from `newest_record_ms` are older than `retention_ms`; −1 keeps them for ever.
pub fn is_expired(newest_record_ms: TimestampMs, retention_ms: i64, now_ms: TimestampMs) -> bool {
    retention_ms >= 0 && now_ms.saturating_sub(newest_record_ms) > retention_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimestampMs = 1_000_000;

    #[test]
    fn a_segment_ages_from_its_largest_timestamp_and_from_its_last_append_without_one() {
        for (max_timestamp, written, newest) in [
            (-1, 900_000, 900_000),
            (0, 900_000, 0),
            (500_000, 900_000, 500_000),
            (NOW + 10, 900_000, NOW + 10),
            (i64::MAX, 900_000, i64::MAX),
        ] {
            assert_eq!(newest_record_ms(max_timestamp, written), newest);
        }
    }

    #[test]
    fn nothing_expires_before_its_retention_has_passed() {
        for (newest, retention, expired) in [
            (NOW - 1001, 1000, true),
            (NOW - 1000, 1000, false),
            (NOW, 0, false),
            (NOW - 1, 0, true),
            (0, -1, false),
            (NOW + 10, 0, false),
            (NOW + 3_000_000, 10_000, false),
            (i64::MAX, 0, false),
            (i64::MIN, i64::MAX, false),
        ] {
            assert_eq!(
                is_expired(newest, retention, NOW),
                expired,
                "{newest} {retention}"
            );
        }
    }
}
