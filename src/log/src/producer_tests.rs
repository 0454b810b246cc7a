//! Producers are known again after a restart or a truncation, also where snapshots are damaged, missing or cannot be read.

use std::fs;
use std::path::{Path, PathBuf};

use crate::scenario_tests::{EPOCH, append, batch, flush, open, producer_batch};
use crate::{LogError, PartitionLog};

/// One batch of producer 7, then segments whose batches have no producer id.
fn written(path: &Path) -> (PartitionLog, i64) {
    let mut log = open(path, 0, false).unwrap();
    log.start_leader_epoch(EPOCH);
    append(&mut log, producer_batch(1, 1, 7, 0)).unwrap();
    for time in 0..40 {
        append(&mut log, batch(10, time)).unwrap();
    }
    assert!(log.sealed_segments().len() > 3);
    flush(&mut log);
    log.advance_high_watermark(i64::MAX);
    let end = log.log_end_offset();
    (log, end)
}

fn snapshots(path: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = files
        .filter(|f| f.extension().is_some_and(|e| e == "snapshot"))
        .collect();
    found.sort();
    found
}

fn flip_last_byte(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(file, bytes).unwrap();
}

fn is_recognised(log: &mut PartitionLog) -> bool {
    let again = append(log, producer_batch(1, 1, 7, 0)).unwrap();
    again.duplicate && again.base_offset == 0
}

#[test]
fn a_resend_is_recognised_where_snapshots_are_damaged_or_missing() {
    type Damage = fn(&Path);
    let damages: [Damage; 2] = [flip_last_byte, |file| fs::remove_file(file).unwrap()];
    for damage in damages {
        for clean in [true, false] {
            for spared in [0, 1] {
                let directory = tempfile::tempdir().unwrap();
                let (mut log, end) = written(directory.path());
                log.prepare_to_close().unwrap();
                drop(log);
                for file in snapshots(directory.path()).iter().skip(spared) {
                    damage(file);
                }
                let mut log = open(directory.path(), end, clean).unwrap();
                assert_eq!(log.log_end_offset(), end);
                assert!(is_recognised(&mut log), "clean: {clean}, spared: {spared}");
            }
        }
    }
}

#[test]
fn a_truncation_recognises_a_resend_where_snapshots_are_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let (mut log, end) = written(directory.path());
    for file in snapshots(directory.path()) {
        flip_last_byte(&file);
    }
    assert!(log.truncate(end - 10).unwrap());
    assert!(is_recognised(&mut log));
}

#[test]
fn a_snapshot_that_cannot_be_read_keeps_the_log_closed() {
    let directory = tempfile::tempdir().unwrap();
    let (log, end) = written(directory.path());
    drop(log);
    for file in snapshots(directory.path()) {
        fs::remove_file(&file).unwrap();
        // A read of a directory fails, even for root.
        fs::create_dir(&file).unwrap();
    }
    let opened = open(directory.path(), end, false);
    assert!(matches!(opened, Err(LogError::Io { .. })));
}
