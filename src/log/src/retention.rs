//! Which segments of a topic *without* a cold tier are too old or too many. Pure; tiered topics are planned in
//! `tiering`, because there a deletion also needs the segment's copy to be committed.

use strandline_types::{Offset, TimestampMs, is_expired, newest_record_ms};

/// The properties of a segment by which retention decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentAge {
    pub base_offset: Offset,
    /// Exclusive.
    pub end_offset: Offset,
    pub bytes: u64,
    /// −1 where no record has one.
    pub max_timestamp_ms: TimestampMs,
    /// The broker's clock when the segment was last written to.
    pub last_append_ms: TimestampMs,
}

impl SegmentAge {
    /// The time from which the segment's age is counted.
    pub fn newest_record_ms(&self) -> TimestampMs {
        newest_record_ms(self.max_timestamp_ms, self.last_append_ms)
    }
}

/// The new log start offset, if any segment may go.
///
/// `segments` are the sealed ones in order, without the active one. Only whole segments wholly below `high_watermark`
/// go. Segments go in order, so one that has not expired keeps those behind it.
pub fn new_log_start_offset(
    segments: &[SegmentAge],
    active_bytes: u64,
    retention_ms: i64,
    retention_bytes: i64,
    high_watermark: Offset,
    now_ms: TimestampMs,
) -> Option<Offset> {
    let deletable = |s: &&SegmentAge| s.end_offset <= high_watermark;
    let expired = |s: &&SegmentAge| is_expired(s.newest_record_ms(), retention_ms, now_ms);
    let by_time = segments
        .iter()
        .take_while(|s| deletable(s) && expired(s))
        .last()
        .map(|s| s.end_offset);
    let total = active_bytes + segments.iter().map(|s| s.bytes).sum::<u64>();
    let mut excess = if retention_bytes < 0 {
        0
    } else {
        total.saturating_sub(retention_bytes as u64)
    };
    let by_bytes = segments
        .iter()
        .take_while(|s| {
            let goes = deletable(s) && excess >= s.bytes;
            excess = excess.saturating_sub(s.bytes);
            goes
        })
        .last()
        .map(|s| s.end_offset);
    by_time.max(by_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: i64, max_timestamp_ms: i64) -> SegmentAge {
        SegmentAge {
            base_offset: number * 10,
            end_offset: number * 10 + 10,
            bytes: 100,
            max_timestamp_ms,
            last_append_ms: 500,
        }
    }

    #[test]
    fn whole_segments_go_by_time_and_by_bytes_and_never_above_the_high_watermark() {
        let segments = [segment(0, 100), segment(1, 200), segment(2, 900)];
        let plan = |ms, bytes, hw| new_log_start_offset(&segments, 100, ms, bytes, hw, 1000);
        assert_eq!(plan(-1, -1, 40), None);
        assert_eq!(plan(500, -1, 40), Some(20));
        assert_eq!(plan(500, -1, 15), Some(10));
        assert_eq!(plan(850, -1, 40), Some(10));
        assert_eq!(plan(-1, 400, 40), None);
        assert_eq!(plan(-1, 300, 40), Some(10));
        assert_eq!(plan(-1, 299, 40), Some(10));
        assert_eq!(plan(-1, 0, 40), Some(30));
        assert_eq!(plan(500, 0, 40), Some(30));
    }

    #[test]
    fn a_segment_whose_newest_record_lies_ahead_stays_until_its_time_has_come() {
        for ahead_ms in [10, 3_000, 3_000_000] {
            let segments = [segment(0, 1000 + ahead_ms)];
            let at = |now| new_log_start_offset(&segments, 0, 400, -1, 10, now);
            for now in [1000, 1400, 1000 + ahead_ms, 1400 + ahead_ms] {
                assert_eq!(at(now), None, "{ahead_ms} ms ahead, at {now}");
            }
            assert_eq!(at(1401 + ahead_ms), Some(10));
        }
    }

    #[test]
    fn a_segment_without_timestamps_ages_from_its_last_append() {
        let segments = [segment(0, -1)];
        let at = |now| new_log_start_offset(&segments, 0, 400, -1, 10, now);
        assert_eq!(at(900), None);
        assert_eq!(at(901), Some(10));
    }
}
