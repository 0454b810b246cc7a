//! A log over its life: append, roll, read, crash, recover, delete.

use std::fs::OpenOptions as FileOptions;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use strandline_types::{LeaderEpoch, MonotonicMs, Now, TopicPartition};
use strandline_wire::batch::{
    BatchBuilder, BatchHeader, RecordToWrite, Records, ValidatedBatch, split_batches,
};
use strandline_wire::compression::Compression;

use crate::{
    AppendError, AppendInfo, LogConfig, LogError, OpenOptions, PartitionLog, ReadError, Relocation,
};

pub(crate) const EPOCH: LeaderEpoch = LeaderEpoch(3);

pub(crate) fn batch(records: usize, timestamp: i64) -> ValidatedBatch {
    producer_batch(records, timestamp, -1, -1)
}

pub(crate) fn producer_batch(
    records: usize,
    timestamp: i64,
    producer: i64,
    sequence: i32,
) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    if producer >= 0 {
        (
            builder.producer_id,
            builder.producer_epoch,
            builder.base_sequence,
        ) = (producer, 0, sequence);
    }
    for i in 0..records {
        builder.push(&RecordToWrite {
            timestamp: timestamp + i as i64,
            key: None,
            value: Some(Bytes::from(vec![7; 200])),
            headers: vec![],
        });
    }
    let bytes = builder.build();
    ValidatedBatch {
        header: BatchHeader::decode(&bytes).unwrap(),
        bytes,
    }
}

pub(crate) fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 20_000,
        index_interval_bytes: 1000,
        ..LogConfig::default()
    }
}

pub(crate) fn open(
    path: &Path,
    recovery_point: i64,
    clean: bool,
) -> Result<PartitionLog, LogError> {
    let options = OpenOptions {
        recovery_point,
        clean,
        ..OpenOptions::new(config())
    };
    PartitionLog::open(TopicPartition::new("t", 0), path, options)
}

pub(crate) fn append(
    log: &mut PartitionLog,
    batch: ValidatedBatch,
) -> Result<AppendInfo, AppendError> {
    log.append(&[batch], EPOCH, 1_000_000).remove(0)
}

/// A log of `batches` batches of ten records, timestamps ten apart per batch, all committed.
pub(crate) fn filled(path: &Path, batches: i64) -> PartitionLog {
    let mut log = open(path, 0, false).unwrap();
    log.start_leader_epoch(EPOCH);
    let all: Vec<_> = (0..batches).map(|i| batch(10, 1000 + i * 10)).collect();
    let ends: Vec<_> = log
        .append(&all, EPOCH, 1_000_000)
        .into_iter()
        .map(|r| r.unwrap())
        .collect();
    assert_eq!(ends.last().unwrap().end_offset, batches * 10);
    flush(&mut log);
    log.advance_high_watermark(i64::MAX);
    log
}

pub(crate) fn flush(log: &mut PartitionLog) {
    let (segments, end) = log.to_flush();
    crate::flush_segments(log.directory(), &segments).unwrap();
    log.mark_flushed(end);
}

/// Reads everything from `offset` on and checks that offsets ascend without a gap.
pub(crate) fn read_all(log: &PartitionLog, mut offset: i64) -> i64 {
    let view = log.view();
    while let Some(slice) = view.slice(offset, 5000, view.high_watermark).unwrap() {
        let mut bytes = vec![0; slice.length];
        slice.segment.read_at(&mut bytes, slice.position).unwrap();
        let mut read = 0;
        for found in split_batches(&bytes) {
            let (at, header) = found.unwrap();
            assert!(header.base_offset <= offset && offset <= header.last_offset());
            assert_eq!(header.partition_leader_epoch, EPOCH.0);
            let batch = &bytes[at..at + header.size()];
            strandline_wire::batch::verify_crc(&header, batch).unwrap();
            assert_eq!(
                Records::new(header, batch)
                    .unwrap()
                    .next_record()
                    .unwrap()
                    .unwrap()
                    .offset,
                header.base_offset
            );
            offset = header.end_offset();
            read += 1;
        }
        assert!(read > 0, "a slice holds at least one whole batch");
    }
    offset
}

#[test]
fn what_is_appended_is_read_back_across_segments_and_from_inside_a_batch() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(directory.path(), 50);
    assert!(log.sealed_segments().len() >= 4);
    assert_eq!(read_all(&log, 0), 500);
    assert_eq!(read_all(&log, 257), 500);
    let view = log.view();
    assert!(matches!(
        view.slice(501, 1, 500),
        Err(ReadError::OffsetOutOfRange { .. })
    ));
    assert!(view.slice(500, 1, 500).unwrap().is_none());
    let limited = view.slice(0, usize::MAX, 30).unwrap().unwrap();
    assert_eq!(limited.length as i64, 3 * (batch(10, 0).bytes.len() as i64));
}

#[test]
fn timestamps_are_found_in_every_segment() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(directory.path(), 50);
    let view = log.view();
    let find = |t| {
        view.find_timestamp(t, 0, 500)
            .unwrap()
            .map(|f| (f.offset, f.timestamp_ms))
    };
    assert_eq!(find(0), Some((0, 1000)));
    for t in [1000, 1003, 1234, 1499] {
        assert_eq!(find(t), Some((t - 1000, t)));
    }
    assert_eq!(find(1500), None);
    assert_eq!(view.find_timestamp(1499, 0, 400).unwrap(), None);
    assert_eq!(
        view.find_max_timestamp(0, 500).unwrap().unwrap().offset,
        499
    );
}

#[test]
fn a_clean_restart_keeps_everything_and_recognises_duplicates() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = filled(directory.path(), 30);
    for i in 0..5 {
        append(&mut log, producer_batch(2, 5000, 9, i * 2)).unwrap();
    }
    flush(&mut log);
    log.prepare_to_close().unwrap();
    let point = log.flushed_offset();
    drop(log);
    let mut log = open(directory.path(), point, true).unwrap();
    assert_eq!(log.log_end_offset(), 310);
    log.advance_high_watermark(310);
    assert_eq!(read_all(&log, 0), 310);
    for i in 0..5 {
        let again = append(&mut log, producer_batch(2, 5000, 9, i * 2)).unwrap();
        assert!(again.duplicate);
        assert_eq!(again.base_offset, 300 + i64::from(i) * 2);
    }
    assert!(matches!(
        append(&mut log, producer_batch(2, 5000, 9, 12)),
        Err(AppendError::Sequence(_))
    ));
    assert_eq!(log.epochs().latest(), Some(EPOCH));
}

#[test]
fn the_last_five_batches_are_recognised_after_a_roll_and_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = filled(directory.path(), 1);
    for i in 0..5 {
        append(&mut log, producer_batch(2, 5000, 9, i * 2)).unwrap();
    }
    log.seal_active().unwrap();
    append(&mut log, batch(1, 6000)).unwrap();
    flush(&mut log);
    log.prepare_to_close().unwrap();
    for clean in [true, false] {
        let mut log = open(directory.path(), log.flushed_offset(), clean).unwrap();
        for i in 0..5 {
            assert!(
                append(&mut log, producer_batch(2, 5000, 9, i * 2))
                    .unwrap()
                    .duplicate
            );
        }
    }
}

#[test]
fn a_torn_tail_is_cut_at_the_first_bad_byte() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(directory.path(), 12);
    let path = log.view().segments.last().unwrap().log_path.clone();
    drop(log);
    let whole = std::fs::metadata(&path).unwrap().len();
    FileOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(&[0x55; 777])
        .unwrap();
    let log = open(directory.path(), 120, false).unwrap();
    assert_eq!(log.log_end_offset(), 120);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), whole);
    drop(log);
    let file = FileOptions::new().write(true).open(&path).unwrap();
    file.write_at(&[0xff], whole - 10).unwrap();
    let log = open(directory.path(), 100, false).unwrap();
    assert_eq!(
        log.log_end_offset(),
        110,
        "the damaged batch is gone, the one before stays"
    );
}

#[test]
fn damage_below_the_recovery_point_is_an_error_and_nothing_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    let log = filled(directory.path(), 12);
    let path = log.view().segments.last().unwrap().log_path.clone();
    drop(log);
    let whole = std::fs::metadata(&path).unwrap().len();
    // The magic byte of the second batch in the active segment.
    let size = batch(10, 0).bytes.len() as u64;
    FileOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .write_at(&[9], size + 16)
        .unwrap();
    let error = open(directory.path(), 120, false).unwrap_err();
    assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), whole);
}

#[test]
fn lost_or_stale_indexes_are_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path(), 50));
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|e| e == "index" || e == "timeindex")
        {
            std::fs::write(&path, [1, 2, 3]).unwrap();
        }
    }
    let mut log = open(directory.path(), 0, false).unwrap();
    log.advance_high_watermark(500);
    assert_eq!(read_all(&log, 0), 500);
    assert_eq!(
        log.view()
            .find_timestamp(1234, 0, 500)
            .unwrap()
            .unwrap()
            .offset,
        234
    );
}

#[test]
fn the_log_start_moves_up_and_whole_segments_below_it_go() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = filled(directory.path(), 50);
    let segments = log.view().segments.len();
    log.advance_log_start(250).unwrap();
    let view = log.view();
    assert!(view.segments.len() < segments);
    assert_eq!(view.log_start_offset, 250);
    assert!(view.segments[0].base_offset <= 250);
    assert_eq!(read_all(&log, 250), 500);
    assert!(matches!(
        view.slice(249, 1, 500),
        Err(ReadError::OffsetOutOfRange { .. })
    ));
    log.advance_log_start(500).unwrap();
    assert_eq!(log.view().segments.len(), 1);
    assert_eq!(log.view().local_bytes(), 0);
    append(&mut log, batch(1, 0)).unwrap();
    assert_eq!(log.log_end_offset(), 501);
}

#[test]
fn a_segment_rolls_by_time_though_nobody_appends() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = filled(directory.path(), 1);
    log.config.segment_ms = 1000;
    assert!(!log.roll_if_overdue(moment(900, 1_000_900)).unwrap());
    assert!(log.roll_if_overdue(moment(1_001, 1_001_001)).unwrap());
    assert_eq!(log.sealed_segments().len(), 1);
    assert!(
        !log.roll_if_overdue(moment(9_000, 9_000_000)).unwrap(),
        "an empty segment stays"
    );
}

fn moment(monotonic_ms: i64, wall_ms: i64) -> Now {
    Now {
        monotonic: MonotonicMs::new(monotonic_ms),
        wall_ms,
    }
}

#[test]
fn steps_of_the_wall_clock_neither_roll_a_segment_nor_keep_it_from_rolling() {
    const DAY_MS: i64 = 86_400_000;
    for step_ms in [-DAY_MS, -600_000, 600_000, DAY_MS] {
        let directory = tempfile::tempdir().unwrap();
        let mut log = filled(directory.path(), 1);
        log.config.segment_ms = 1000;
        assert!(!log.roll_if_overdue(moment(0, 1_000_000)).unwrap());
        let stepped = |after_ms| moment(after_ms, 1_000_000 + after_ms + step_ms);
        let early = log.roll_if_overdue(stepped(1_000)).unwrap();
        let due = log.roll_if_overdue(stepped(1_001)).unwrap();
        assert_eq!((early, due), (false, true), "step {step_ms}");
    }
}

#[test]
fn an_active_segment_that_has_expired_is_rolled_when_it_is_committed() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = filled(directory.path(), 1);
    let newest = log.active_age().max_timestamp_ms;
    assert!(newest > 0);
    assert!(!log.roll_if_expired(-1, newest + 9_000_000).unwrap());
    assert!(!log.roll_if_expired(1000, newest + 900).unwrap());
    assert!(log.roll_if_expired(1000, newest + 1_001).unwrap());
    assert_eq!(log.sealed_segments().len(), 1);
    assert!(!log.roll_if_expired(1000, newest + 9_000_000).unwrap());
}

/// The bytes of a whole log, as a follower fetches them.
fn all_bytes(log: &PartitionLog) -> Bytes {
    let view = log.view();
    let mut bytes = Vec::new();
    for segment in view.segments.iter() {
        let mut buffer = vec![0; segment.bytes() as usize];
        segment.read_at(&mut buffer, 0).unwrap();
        bytes.extend(buffer);
    }
    bytes.into()
}

#[test]
fn a_follower_holds_the_leaders_bytes_epochs_and_producers() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut leader = filled(one.path(), 200);
    for sequence in 0..3 {
        append(&mut leader, producer_batch(1, 5000, 7, sequence)).unwrap();
    }
    let mut follower = open(other.path(), 0, false).unwrap();
    follower
        .append_fetched(&all_bytes(&leader), 1_000_000)
        .unwrap();
    assert_eq!(follower.log_end_offset(), leader.log_end_offset());
    assert_eq!(all_bytes(&follower), all_bytes(&leader));
    assert_eq!(follower.epochs(), leader.epochs());
    // The follower becomes the leader: a batch that the producer retries is a duplicate, and its next batch is
    // appended.
    let again = append(&mut follower, producer_batch(1, 5000, 7, 1)).unwrap();
    assert!(again.duplicate);
    assert!(
        !append(&mut follower, producer_batch(1, 5000, 7, 3))
            .unwrap()
            .duplicate
    );
}

#[test]
fn a_follower_refuses_a_damaged_batch_and_keeps_those_before_it() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = filled(one.path(), 5);
    let mut bytes = all_bytes(&leader).to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let mut follower = open(other.path(), 0, false).unwrap();
    assert!(follower.append_fetched(&bytes.into(), 1_000_000).is_err());
    assert_eq!(follower.log_end_offset(), 40);
    // A batch that the follower already has is neither a gap nor a duplicate.
    assert!(
        follower
            .append_fetched(&all_bytes(&leader), 1_000_000)
            .is_err()
    );
}

#[test]
fn a_truncated_log_goes_on_as_if_it_had_never_been_longer() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = filled(directory.path(), 200);
    let segments = log.view().segments.len();
    assert!(segments > 3);
    // Inside a batch: the whole batch goes.
    assert!(log.truncate(1234).unwrap());
    assert_eq!(log.log_end_offset(), 1230);
    assert!(log.flushed_offset() <= 1230 && log.high_watermark() <= 1230);
    assert!(!log.truncate(1230).unwrap(), "nothing is left to cut");
    let other = tempfile::tempdir().unwrap();
    let short = filled(other.path(), 123);
    assert_eq!(all_bytes(&log), all_bytes(&short));
    let info = append(&mut log, batch(10, 9000)).unwrap();
    assert_eq!(info.base_offset, 1230);
    let end = log.log_end_offset();
    drop(log);
    let log = open(directory.path(), 1230, false).unwrap();
    assert_eq!(log.log_end_offset(), end);
    let found = log.view().find_timestamp(9000, 0, end).unwrap().unwrap();
    assert_eq!(found.offset, 1230);
    // To the very beginning, and from there on.
    let mut log = log;
    assert!(log.truncate(0).unwrap());
    assert_eq!((log.log_end_offset(), log.log_start_offset()), (0, 0));
    assert_eq!(append(&mut log, batch(1, 1)).unwrap().base_offset, 0);
}

#[test]
fn a_truncation_forgets_the_epochs_and_producers_of_what_went() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = filled(directory.path(), 10);
    append(&mut log, producer_batch(1, 1, 7, 0)).unwrap();
    log.start_leader_epoch(LeaderEpoch(8));
    append(&mut log, producer_batch(1, 1, 7, 1)).unwrap();
    assert!(log.truncate(101).unwrap());
    assert_eq!(log.epochs().latest(), Some(EPOCH));
    let info = append(&mut log, producer_batch(1, 1, 7, 1)).unwrap();
    assert!(!info.duplicate && info.base_offset == 101);
}

#[test]
fn an_empty_log_begins_behind_the_cold_tier_with_its_lineage_and_producers() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut leader = filled(one.path(), 10);
    append(&mut leader, producer_batch(1, 1, 7, 0)).unwrap();
    leader.seal_active().unwrap();
    let sealed = leader.sealed_segments();
    let snapshot = sealed.last().unwrap().producer_snapshot_path.clone();
    let producers = crate::read_snapshot(&snapshot).unwrap();
    let end = leader.log_end_offset();
    let lineage = leader.epoch_range(0, end);
    let mut follower = open(other.path(), 0, false).unwrap();
    follower
        .start_behind_cold_tier(end, 0, lineage, producers)
        .unwrap();
    let view = follower.view();
    assert_eq!(
        (view.log_start_offset, view.local_log_start_offset),
        (0, end)
    );
    assert_eq!((view.log_end_offset, view.high_watermark), (end, end));
    assert_eq!(follower.epochs().latest(), Some(EPOCH));
    let again = append(&mut follower, producer_batch(1, 1, 7, 0)).unwrap();
    assert!(again.duplicate);
}

#[test]
fn nothing_follows_a_batch_that_could_not_be_written() {
    // A full disk: the first write fails, and the next append would go to another segment.
    let full = |directory: &Path| {
        let path = directory.join("00000000000000000000.log");
        std::os::unix::fs::symlink("/dev/full", path).unwrap();
        open(directory, 0, true).unwrap()
    };
    let records = config().segment_bytes as usize / 200 * 2 / 3;
    let batches = [
        producer_batch(records, 0, 7, 0),
        producer_batch(records, 0, 7, records as i32),
    ];
    let directory = tempfile::tempdir().unwrap();
    let mut log = full(directory.path());
    for _ in 0..2 {
        let results = log.append(&batches, EPOCH, 0);
        let failed = |r: &Result<AppendInfo, AppendError>| matches!(r, Err(AppendError::Log(_)));
        assert!(failed(&results[0]), "{results:?}");
        assert!(failed(&results[1]), "{results:?}");
        assert_eq!(log.log_end_offset(), 0);
    }

    let directory = tempfile::tempdir().unwrap();
    let mut leader = open(directory.path(), 0, true).unwrap();
    leader.append(&batches, EPOCH, 0);
    let view = leader.view();
    let mut fetched = Vec::new();
    for segment in view.segments.iter() {
        let mut bytes = vec![0; segment.bytes() as usize];
        segment.read_at(&mut bytes, 0).unwrap();
        fetched.extend(bytes);
    }
    let directory = tempfile::tempdir().unwrap();
    let mut follower = full(directory.path());
    assert!(follower.append_fetched(&fetched.into(), 0).is_err());
    assert_eq!(follower.log_end_offset(), 0);
    let latest = follower.epochs().latest();
    assert!(latest.is_none() || follower.epochs().entries()[0].start_offset == 0);
}

#[test]
fn a_log_moves_without_the_segments_that_retention_took_on_the_way() {
    let root = tempfile::tempdir().unwrap();
    let (here, there) = (root.path().join("here"), root.path().join("there"));
    std::fs::create_dir(&here).unwrap();
    let mut log = open(&here, 0, true).unwrap();
    for sequence in 0..40 {
        append(&mut log, producer_batch(10, 0, 7, sequence * 10)).unwrap();
    }
    log.advance_high_watermark(log.log_end_offset());
    let before = log.view();
    let start = before.segments[2].base_offset;
    let future = root.path().join("future");
    let mut relocation = Relocation::begin(&future, &here, log.cuts()).unwrap();
    log.advance_log_start(start).unwrap();
    // The files are gone, and a holder of the older view copies the bytes that it can still read.
    relocation.copy(&before, u64::MAX).unwrap();
    assert_eq!(log.relocate(relocation, &there).unwrap().unwrap(), here);
    let moved = log.view();
    let bases = |segments: &[std::sync::Arc<crate::Segment>]| -> Vec<i64> {
        segments.iter().map(|s| s.base_offset).collect()
    };
    assert_eq!(bases(&moved.segments), bases(&before.segments[2..]));
    assert_eq!(moved.local_log_start_offset, start);
    assert_eq!(moved.log_end_offset, 400);
    let again = producer_batch(10, 0, 7, 390);
    assert!(
        append(&mut log, again).unwrap().duplicate,
        "producers move too"
    );
}
