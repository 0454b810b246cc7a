//! Tests of a log after a crash between two steps, and with files that are damaged or cannot be read.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use strandline_types::{LeaderEpoch, TopicPartition};

use crate::scenario_tests::{batch, config, filled, flush, open, read_all};
use crate::{LogError, OpenOptions, PartitionLog, write_leader_epochs};

fn options(recovery_point: i64, clean: bool) -> OpenOptions {
    OpenOptions {
        recovery_point,
        clean,
        ..OpenOptions::new(config())
    }
}

fn open_with(path: &Path, options: OpenOptions) -> Result<PartitionLog, LogError> {
    PartitionLog::open(TopicPartition::new("t", 0), path, options)
}

/// Name and bytes of every file.
fn files(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|file| (file.clone(), fs::read(&file).unwrap()))
        .collect();
    all.sort();
    all
}

fn segment(path: &Path, base: i64, extension: &str) -> PathBuf {
    path.join(format!("{base:020}.{extension}"))
}

#[test]
fn a_log_start_inside_a_segment_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = filled(directory.path(), 40);
    flush(&mut log);
    for start in [0, 5, 55, 123] {
        log.advance_log_start(start).unwrap();
        drop(log);
        log = open(directory.path(), 400, false).unwrap();
        assert_eq!(log.log_start_offset(), start);
        log.advance_high_watermark(400);
        assert_eq!(read_all(&log, start), 400);
    }
}

#[test]
fn a_log_start_at_a_segment_border_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = filled(directory.path(), 40);
    flush(&mut log);
    let border = log.sealed_ages()[1].end_offset;
    log.retain_from(border).unwrap();
    assert_eq!(log.log_start_offset(), border);
    drop(log);
    let mut log = open(directory.path(), 400, false).unwrap();
    assert_eq!(log.log_start_offset(), border);
    log.advance_high_watermark(400);
    assert_eq!(read_all(&log, border), 400);
}

#[test]
fn a_log_whose_records_are_all_deleted_gives_no_offset_out_twice() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = filled(directory.path(), 40);
    flush(&mut log);
    log.advance_log_start(400).unwrap();
    drop(log);
    // The name of the new, empty segment did not reach the disk.
    for extension in ["log", "index", "timeindex"] {
        fs::remove_file(segment(directory.path(), 400, extension)).unwrap();
    }
    let log = open(directory.path(), 400, false).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (400, 400));
}

#[test]
fn a_truncation_that_stops_half_way_leaves_no_hole() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = filled(directory.path(), 40);
    flush(&mut log);
    let bases: Vec<_> = log.sealed_ages().iter().map(|s| s.base_offset).collect();
    assert!(bases.len() >= 3);
    // The files of this segment cannot all be removed.
    fs::create_dir(segment(directory.path(), bases[2], "txnindex")).unwrap();
    assert!(log.truncate(bases[1]).is_err());
    drop(log);
    fs::remove_dir(segment(directory.path(), bases[2], "txnindex")).unwrap();
    let mut log = open(directory.path(), 0, false).unwrap();
    let end = log.log_end_offset();
    log.advance_high_watermark(end);
    assert!(end == bases[1] || end == bases[2], "{end}");
    assert_eq!(read_all(&log, 0), end);
}

/// Two epochs in several segments, stopped cleanly.
fn closed_with_two_epochs(path: &Path) -> PartitionLog {
    let mut log = filled(path, 40);
    log.start_leader_epoch(LeaderEpoch(9));
    let all: Vec<_> = (0..40).map(|i| batch(10, 5000 + i * 10)).collect();
    for result in log.append(&all, LeaderEpoch(9), 1_000_000) {
        result.unwrap();
    }
    flush(&mut log);
    log.prepare_to_close().unwrap();
    write_leader_epochs(path, log.epochs()).unwrap();
    log
}

#[test]
fn a_lineage_that_is_damaged_or_missing_is_built_again_from_the_batches() {
    let directory = tempfile::tempdir().unwrap();
    let before = closed_with_two_epochs(directory.path()).epochs().clone();
    assert_eq!(before.entries().len(), 2);
    let file = directory.path().join("leader-epoch-checkpoint");
    for damage in ["0\n2\n3 0\n", "garbage"] {
        fs::write(&file, damage).unwrap();
        let log = open(directory.path(), 800, true).unwrap();
        assert_eq!(*log.epochs(), before, "{damage:?}");
    }
    fs::remove_file(&file).unwrap();
    let log = open(directory.path(), 800, true).unwrap();
    assert_eq!(*log.epochs(), before);
}

#[test]
fn a_damaged_lineage_of_records_that_are_elsewhere_is_an_error_unless_the_cold_tier_knows_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = closed_with_two_epochs(directory.path());
    log.advance_high_watermark(800);
    let before = log.epochs().clone();
    log.delete_local_below(450).unwrap();
    let first_local = log.local_log_start_offset();
    assert!(first_local > 400);
    drop(log);
    let file = directory.path().join("leader-epoch-checkpoint");
    fs::write(&file, "garbage").unwrap();
    let unchanged = files(directory.path());
    let cold = OpenOptions {
        first_remote_offset: Some(0),
        ..options(800, true)
    };
    let opened = open_with(directory.path(), cold.clone());
    assert!(matches!(opened, Err(LogError::Damaged { .. })));
    assert_eq!(files(directory.path()), unchanged);
    let known = OpenOptions {
        remote_epochs: before.range(0, first_local),
        ..cold
    };
    let log = open_with(directory.path(), known).unwrap();
    assert_eq!(*log.epochs(), before);
}

#[test]
fn damage_is_never_cut_where_the_recovery_point_is_unknown_or_the_stop_was_clean() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = filled(directory.path(), 40);
    flush(&mut log);
    log.prepare_to_close().unwrap();
    let base = log.sealed_ages().last().unwrap().end_offset;
    drop(log);
    let path = segment(directory.path(), base, "log");
    let whole = fs::read(&path).unwrap();
    // The length of the last segment's first batch.
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0x7f, 0, 0, 0], 8).unwrap();
    let unchanged = files(directory.path());
    let unknown = options(OpenOptions::NOTHING_MAY_BE_CUT, false);
    for how in [unknown.clone(), options(0, true), options(400, false)] {
        let opened = open_with(directory.path(), how);
        assert!(matches!(opened, Err(LogError::Corrupt { .. })));
        assert_eq!(files(directory.path()), unchanged);
    }
    // A byte of a record: only its checksum shows the damage.
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    fs::write(&path, &flipped).unwrap();
    let opened = open_with(directory.path(), unknown.clone());
    assert!(matches!(opened, Err(LogError::Corrupt { .. })));
    assert_eq!(fs::read(&path).unwrap(), flipped);
    fs::write(&path, &whole).unwrap();
    let mut log = open_with(directory.path(), unknown).unwrap();
    log.advance_high_watermark(400);
    assert_eq!(read_all(&log, 0), 400);
}
