//! Retention of a log whose producers' clocks are not the broker's.

use crate::retention::new_log_start_offset;
use crate::scenario_tests::{EPOCH, batch, flush, open, read_all};
use crate::{LogConfig, PartitionLog};

const RETENTION_MS: i64 = 10_000;

/// Applies a broker's retention at `now_ms`.
fn apply_retention(log: &mut PartitionLog, now_ms: i64) {
    log.roll_if_expired(RETENTION_MS, now_ms).unwrap();
    let start = new_log_start_offset(
        &log.sealed_ages(),
        log.active_bytes(),
        RETENTION_MS,
        -1,
        log.high_watermark(),
        now_ms,
    );
    if let Some(start) = start {
        log.advance_log_start(start).unwrap();
    }
}

#[test]
fn records_of_a_clock_that_is_ahead_stay_for_the_whole_of_retention() {
    for ahead_ms in [10, 50, 3_000, 3_000_000] {
        let directory = tempfile::tempdir().unwrap();
        let mut log = open(directory.path(), 0, false).unwrap();
        log.start_leader_epoch(EPOCH);
        let mut now = 1_000_000;
        // One batch a second for three times the retention, all in one segment.
        for _ in 0..30 {
            now += 1000;
            let appended = log.append(&[batch(1, now + ahead_ms)], EPOCH, now);
            assert!(appended[0].is_ok());
            flush(&mut log);
            log.advance_high_watermark(i64::MAX);
            apply_retention(&mut log, now);
        }
        assert_eq!(log.log_start_offset(), 0, "{ahead_ms} ms ahead");
        assert_eq!(read_all(&log, 0), 30);
        apply_retention(&mut log, now + ahead_ms + RETENTION_MS);
        assert_eq!(read_all(&log, 0), 30);
        apply_retention(&mut log, now + ahead_ms + RETENTION_MS + 1);
        assert_eq!(log.log_start_offset(), 30, "and no longer");
    }
}

#[test]
fn records_without_timestamps_stay_for_the_whole_of_retention() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = open(directory.path(), 0, false).unwrap();
    log.config = LogConfig {
        segment_ms: i64::MAX,
        ..log.config
    };
    log.start_leader_epoch(EPOCH);
    for (at, now) in [(0, 1_000_000), (1, 1_000_000 + 3 * RETENTION_MS)] {
        let appended = log.append(&[batch(1, -1)], EPOCH, now);
        assert!(appended[0].is_ok());
        log.advance_high_watermark(i64::MAX);
        apply_retention(&mut log, now + RETENTION_MS);
        assert_eq!(
            read_all(&log, 0),
            at + 1,
            "the newest is not older than retention"
        );
    }
}
