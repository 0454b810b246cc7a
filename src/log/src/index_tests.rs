//! Indexes that were lost or damaged while the log was closed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::scenario_tests::{EPOCH, batch, config, open, read_all};
use crate::{LogConfig, OpenOptions, PartitionLog};
use strandline_types::TopicPartition;

const BATCHES: i64 = 300;

/// A closed log of several sealed segments of about a hundred batches.
fn closed_log(directory: &Path) {
    let mut log = open(directory, 0, false).unwrap();
    log.start_leader_epoch(EPOCH);
    log.config.segment_bytes = 200_000;
    let all: Vec<_> = (0..BATCHES).map(|i| batch(10, 1000 + i * 10)).collect();
    for result in log.append(&all, EPOCH, 1_000_000) {
        result.unwrap();
    }
    assert!(log.sealed_segments().len() >= 3);
    log.prepare_to_close().unwrap();
}

/// Opened as after a clean stop.
fn reopen(directory: &Path) -> PartitionLog {
    let options = OpenOptions {
        config: LogConfig {
            segment_bytes: 200_000,
            ..config()
        },
        recovery_point: BATCHES * 10,
        log_start_offset: 0,
        high_watermark: BATCHES * 10,
        clean: true,
        ..OpenOptions::new(config())
    };
    PartitionLog::open(TopicPartition::new("t", 0), directory, options).unwrap()
}

fn index_files(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
    let is_index = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str());
        matches!(extension, Some("index" | "timeindex"))
    };
    let mut files: Vec<_> = files.filter(is_index).collect();
    files.sort();
    files
}

/// Every offset and every timestamp is found where a scan finds it.
fn check_look_ups(log: &PartitionLog) {
    let view = log.view();
    let end = BATCHES * 10;
    assert_eq!(read_all(log, 0), end);
    for offset in (0..end).step_by(7) {
        let slice = view.slice(offset, 1, end).unwrap().unwrap();
        let mut bytes = vec![0; slice.length];
        slice.segment.read_at(&mut bytes, slice.position).unwrap();
        let header = strandline_wire::batch::BatchHeader::decode(&bytes).unwrap();
        assert!(header.base_offset <= offset && offset <= header.last_offset());
        // Timestamps of the log are its offsets and a thousand.
        let found = view.find_timestamp(1000 + offset, 0, end).unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp_ms), (offset, 1000 + offset));
    }
}

/// Damages one index file.
type Damage = fn(&Path);

#[test]
fn damaged_indexes_are_rebuilt_byte_for_byte_at_the_next_start() {
    let damages: [(&str, Damage); 8] = [
        ("missing", |path| fs::remove_file(path).unwrap()),
        ("empty", |path| fs::write(path, []).unwrap()),
        ("half", |path| {
            keep(path, |bytes| bytes[..bytes.len() / 48 * 24].to_vec());
        }),
        ("torn", |path| {
            keep(path, |bytes| bytes[..bytes.len() - 3].to_vec());
        }),
        ("without its end", |path| {
            keep(path, |bytes| bytes[..bytes.len() - entry(path)].to_vec());
        }),
        ("garbage", |path| {
            keep(path, |bytes| bytes.iter().map(|b| b ^ 0xa5).collect());
        }),
        ("zeros", |path| keep(path, |bytes| vec![0; bytes.len()])),
        ("backwards", |path| {
            keep(path, |bytes| {
                bytes.chunks(entry(path)).rev().flatten().copied().collect()
            });
        }),
    ];
    for (name, damage) in damages {
        for kinds in [&["index"][..], &["timeindex"], &["index", "timeindex"]] {
            let directory = tempfile::tempdir().unwrap();
            closed_log(directory.path());
            let files = index_files(directory.path());
            let before: Vec<_> = files.iter().map(|f| fs::read(f).unwrap()).collect();
            for file in &files {
                let extension = file.extension().and_then(|e| e.to_str()).unwrap();
                if kinds.contains(&extension) {
                    damage(file);
                }
            }
            // An index without its last entry only costs a longer scan; a time index would hide the newest records.
            let may_stay = name == "without its end" && kinds == ["index"];
            let log = reopen(directory.path());
            check_look_ups(&log);
            // The active segment is short: its look-ups must be right, but its index files may differ.
            for (file, before) in files.iter().zip(before).take(files.len() - 2) {
                let same = fs::read(file).unwrap() == before;
                assert!(same || may_stay, "{name} {kinds:?}: {}", file.display());
            }
        }
    }
}

#[test]
fn damage_in_the_middle_of_an_index_changes_no_answer() {
    for step in [1, 2, 5] {
        let directory = tempfile::tempdir().unwrap();
        closed_log(directory.path());
        for file in index_files(directory.path()) {
            let size = entry(&file);
            keep(&file, |bytes| {
                let mut bytes = bytes.to_vec();
                let last = bytes.len().saturating_sub(size);
                // Still in order, but 256 offsets or bytes too far or too near.
                for (number, entry) in bytes[..last].chunks_mut(size).enumerate() {
                    if number % step == 0 {
                        entry[size - 2] ^= 1;
                    }
                }
                bytes
            });
        }
        check_look_ups(&reopen(directory.path()));
    }
}

#[test]
fn a_recovered_segment_has_its_newest_timestamp_in_its_index() {
    let directory = tempfile::tempdir().unwrap();
    closed_log(directory.path());
    let options = |clean| OpenOptions {
        config: LogConfig {
            segment_bytes: 200_000,
            // The last batch of a segment has no entry in its offset index.
            index_interval_bytes: 10_000,
            ..config()
        },
        recovery_point: 0,
        log_start_offset: 0,
        high_watermark: 0,
        clean,
        ..OpenOptions::new(config())
    };
    let open = |clean| {
        PartitionLog::open(
            TopicPartition::new("t", 0),
            directory.path(),
            options(clean),
        )
        .unwrap()
    };
    let newest = |log: PartitionLog| -> Vec<_> {
        log.sealed_segments()
            .iter()
            .map(|s| (s.end_offset, s.max_timestamp_ms))
            .collect()
    };
    let recovered = newest(open(false));
    for (end_offset, max_timestamp_ms) in &recovered {
        assert_eq!(*max_timestamp_ms, 1000 + end_offset - 1);
    }
    assert_eq!(newest(open(true)), recovered, "as the files tell it");
}

/// Bytes of an entry.
fn entry(path: &Path) -> usize {
    if path.extension().is_some_and(|e| e == "index") {
        8
    } else {
        12
    }
}

fn keep(path: &Path, change: impl FnOnce(&[u8]) -> Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, change(&bytes)).unwrap();
}
