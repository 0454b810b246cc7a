//! Invariant 9 for a log directory: whatever bytes its files have, opening is an error or a log, and neither opening nor
//! reading nor appending panics.

use std::fs;
use std::path::{Path, PathBuf};

use strandline_types::{TopicId, TopicPartition};
use uuid::Uuid;

use crate::scenario_tests::{EPOCH, append, batch, config, flush};
use crate::{LogDir, OpenOptions, PartitionLog, write_leader_epochs};

const NODE: i32 = 1;
/// Copies of the directory; in each, one or two files are damaged, removed or renamed.
const RUNS: u64 = 300;
/// Names that a segment's file may come to have.
const NAMES: [&str; 6] = [
    "09223372036854775807",
    "99999999999999999999",
    "-0000000000000000001",
    "00000000000000000001",
    "00000000004294967400",
    "x",
];

/// Xorshift: a seed gives the same damage on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        match self.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.clear(),
            2 => bytes.extend((0..self.below(40)).map(|i| (i * 37) as u8)),
            3 => {
                let part: Vec<u8> = bytes
                    .iter()
                    .skip(at)
                    .take(self.below(30))
                    .copied()
                    .collect();
                bytes.splice(at..at, part);
            }
            4 => {
                let extreme = [0x00, 0x7f, 0x80, 0xff][self.below(4)];
                bytes.iter_mut().skip(at).take(8).for_each(|b| *b = extreme);
            }
            5 => bytes.iter_mut().skip(at).for_each(|b| *b = 0),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.below(8);
                }
            }
        }
    }
}

fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// A log directory with a partition of some segments, indexes, snapshots, epochs and checkpoints.
fn template(path: &Path) {
    let dir = LogDir::open(path, NODE, Some("cluster"), 0).unwrap();
    let topic = TopicId(Uuid::from_u128(7));
    let place = dir.create_partition(&partition(), topic).unwrap();
    let mut log = open(&place, 0, 0, false).unwrap();
    log.start_leader_epoch(EPOCH);
    for i in 0..40 {
        append(&mut log, batch(10, 1000 + i * 10)).unwrap();
    }
    flush(&mut log);
    log.advance_high_watermark(i64::MAX);
    log.prepare_to_close().unwrap();
    write_leader_epochs(&place, log.epochs()).unwrap();
    let offsets = [(partition(), 300)].into();
    dir.write_recovery_points(&offsets).unwrap();
    dir.write_high_watermarks(&offsets).unwrap();
    dir.write_log_starts(&offsets).unwrap();
    dir.mark_clean().unwrap();
    dir.release().unwrap();
}

fn open(
    path: &Path,
    recovery_point: i64,
    log_start_offset: i64,
    clean: bool,
) -> Result<PartitionLog, crate::LogError> {
    let options = OpenOptions {
        recovery_point,
        log_start_offset,
        high_watermark: recovery_point,
        clean,
        ..OpenOptions::new(config())
    };
    PartitionLog::open(partition(), path, options)
}

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
    found.sort();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// Uses a directory as a broker does; returns whether the log could be opened.
fn live(path: &Path) -> bool {
    let Ok(dir) = LogDir::open(path, NODE, Some("cluster"), 0) else {
        return false;
    };
    let first = |offsets: crate::OffsetCheckpoint| offsets.values().next().copied().unwrap_or(0);
    let unknown = OpenOptions::NOTHING_MAY_BE_CUT;
    let recovery_point = dir.read_recovery_points().map_or(unknown, first);
    let log_start = dir.read_log_starts().map_or(0, first);
    let _ = (dir.read_high_watermarks(), dir.partitions());
    let place = dir.partition_path(&partition());
    let Ok(mut log) = open(&place, recovery_point, log_start, dir.clean) else {
        return false;
    };
    read(&log);
    log.start_leader_epoch(EPOCH);
    let _ = append(&mut log, batch(10, 5000));
    log.advance_high_watermark(i64::MAX);
    read(&log);
    let middle = i64::midpoint(log.log_start_offset(), log.log_end_offset());
    let _ = log.truncate(middle);
    let _ = log.prepare_to_close();
    true
}

fn read(log: &PartitionLog) {
    let view = log.view();
    for offset in [i64::MIN, -1, 0, 1, 95, 200, 399, i64::MAX] {
        if let Ok(Some(slice)) = view.slice(offset, 5000, view.high_watermark) {
            let mut bytes = vec![0; slice.length];
            let _ = slice.segment.read_at(&mut bytes, slice.position);
        }
    }
    for timestamp in [i64::MIN, -1, 0, 1200, i64::MAX] {
        let _ = view.find_timestamp(timestamp, 0, i64::MAX);
    }
    let _ = log.sealed_segments();
    let _ = log.sealed_ages();
}

#[test]
fn no_bytes_in_a_log_directory_panic() {
    let directory = tempfile::tempdir().unwrap();
    let original = directory.path().join("original");
    template(&original);
    let mut names = Vec::new();
    files(&original, &mut names);
    assert!(names.len() > 10, "{names:?}");
    let (mut opened, mut refused) = (0, 0);
    for seed in 1..=RUNS {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let place = directory.path().join("damaged");
        copy(&original, &place);
        for _ in 0..=random.below(2) {
            let name = &names[random.below(names.len())];
            let name = place.join(name.strip_prefix(&original).unwrap());
            let chance = random.below(10);
            if chance == 0 {
                let _ = fs::remove_file(&name);
                continue;
            }
            if chance == 1 {
                let other = name.with_file_name(NAMES[random.below(NAMES.len())]);
                let _ = fs::rename(&name, other.with_extension("log"));
                continue;
            }
            let mut bytes = fs::read(&name).unwrap_or_default();
            for _ in 0..=random.below(3) {
                random.damage(&mut bytes);
            }
            fs::write(&name, bytes).unwrap();
        }
        // Shown when the run panics.
        println!("seed {seed}");
        if live(&place) {
            opened += 1;
        } else {
            refused += 1;
        }
        fs::remove_dir_all(&place).unwrap();
    }
    assert!(
        opened > 50 && refused > 0,
        "{opened} opened, {refused} refused"
    );
}
