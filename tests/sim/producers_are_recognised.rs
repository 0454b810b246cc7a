//! Invariant 7: a producer's last five batches are recognised after failover, restart, truncation, and bootstrap from
//! the cold tier. Two replicas have real logs on disk, with small segments. An idempotent producer sends to the leader,
//! and retries every batch that was not acknowledged.

use std::collections::VecDeque;
use std::path::PathBuf;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use strandline_log::{
    AppendError, LogConfig, OpenOptions, PartitionLog, SealedSegment, SequenceError,
    decode_snapshot,
};
use strandline_types::{LeaderEpoch, TopicPartition};
use strandline_wire::batch::{
    BatchBuilder, BatchHeader, RecordToWrite, ValidatedBatch, split_batches,
};
use strandline_wire::compression::Compression;

use crate::seeds;

/// Real files: fewer seeds than the others in the same time.
const SEEDS_PER_RUN: u64 = 15;
const IN_FLIGHT: usize = 5;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 900,
        index_interval_bytes: 100,
        ..LogConfig::default()
    }
}

struct Replica {
    directory: PathBuf,
    log: PartitionLog,
}

impl Replica {
    fn open(directory: PathBuf, clean: bool, log_start: i64) -> Self {
        std::fs::create_dir_all(&directory).unwrap();
        let options = OpenOptions {
            log_start_offset: log_start,
            clean,
            ..OpenOptions::new(config())
        };
        let log = PartitionLog::open(TopicPartition::new("t", 0), &directory, options).unwrap();
        Self { directory, log }
    }

    /// All batches from `offset` on, as a leader sends them.
    fn batches_from(&self, offset: i64) -> Bytes {
        let mut out = Vec::new();
        for segment in self.log.view().segments.iter() {
            let mut bytes = vec![0; segment.bytes() as usize];
            segment.read_at(&mut bytes, 0).unwrap();
            let bytes = Bytes::from(bytes);
            for found in split_batches(&bytes) {
                let (at, header) = found.unwrap();
                if header.base_offset >= offset {
                    out.extend_from_slice(&bytes[at..at + header.size()]);
                }
            }
        }
        out.into()
    }
}

struct World {
    random: StdRng,
    root: tempfile::TempDir,
    replicas: Vec<Replica>,
    leader: usize,
    epoch: i32,
    next_sequence: i32,
    committed: i64,
    /// Batches that were sent and not acknowledged: first sequence and number of records, oldest first.
    in_flight: VecDeque<(i32, usize)>,
    duplicates: usize,
    restarts: usize,
    bootstraps: usize,
    cuts: usize,
}

fn batch(sequence: i32, records: usize) -> ValidatedBatch {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.producer_id = 7;
    builder.producer_epoch = 0;
    builder.base_sequence = sequence;
    for number in 0..records {
        builder.push(&RecordToWrite {
            timestamp: 1,
            key: None,
            value: Some(Bytes::from((sequence + number as i32).to_string())),
            headers: Vec::new(),
        });
    }
    let bytes = builder.build();
    let header = BatchHeader::decode(&bytes).unwrap();
    ValidatedBatch { header, bytes }
}

impl World {
    fn new(seed: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let replicas = (0..2)
            .map(|i| Replica::open(root.path().join(i.to_string()), true, 0))
            .collect();
        Self {
            random: StdRng::seed_from_u64(seed),
            root,
            replicas,
            leader: 0,
            epoch: 0,
            next_sequence: 0,
            committed: 0,
            in_flight: VecDeque::new(),
            duplicates: 0,
            restarts: 0,
            bootstraps: 0,
            cuts: 0,
        }
    }

    fn step(&mut self) {
        match self.random.random_range(0..20) {
            0..8 => {
                if self.in_flight.len() < IN_FLIGHT {
                    let records = self.random.random_range(1..6);
                    self.in_flight.push_back((self.next_sequence, records));
                    self.next_sequence += records as i32;
                    let newest = self.in_flight.len() - 1;
                    self.send(newest);
                }
            }
            8..11 => {
                // The answers were lost: all of them again, in order.
                for number in 0..self.in_flight.len() {
                    self.send(number);
                }
            }
            11..15 => self.replicate(),
            15..17 => self.restart(),
            17 => self.bootstrap(),
            _ => self.fail_over(),
        }
    }

    fn send(&mut self, number: usize) {
        let (sequence, records) = self.in_flight[number];
        let log = &mut self.replicas[self.leader].log;
        let result = log
            .append(&[batch(sequence, records)], LeaderEpoch(self.epoch), 0)
            .remove(0);
        match result {
            Ok(info) if info.duplicate => self.duplicates += 1,
            Ok(_) => {}
            // Batches before it went with the leader that had them; they are sent again.
            Err(AppendError::Sequence(SequenceError::OutOfOrder { expected, .. })) => {
                assert!(expected < sequence, "{expected} is behind {sequence}");
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The follower fetches everything: records in both logs are acknowledged.
    fn replicate(&mut self) {
        let follower = 1 - self.leader;
        let end = self.replicas[follower].log.log_end_offset();
        let bytes = self.replicas[self.leader].batches_from(end);
        if !bytes.is_empty() {
            let log = &mut self.replicas[follower].log;
            log.append_fetched(&bytes, 0).unwrap();
        }
        self.committed = self.replicas[self.leader].log.log_end_offset();
        let end = self.committed as i32;
        self.in_flight
            .retain(|(sequence, records)| sequence + *records as i32 > end);
    }

    fn restart(&mut self) {
        let at = self.random.random_range(0..2);
        let clean = self.random.random();
        let replica = &mut self.replicas[at];
        if clean {
            replica.log.prepare_to_close().unwrap();
        }
        let start = replica.log.log_start_offset();
        let directory = replica.directory.clone();
        let epochs = replica.log.epochs().clone();
        strandline_log::write_leader_epochs(&directory, &epochs).unwrap();
        self.replicas[at] = Replica::open(directory, clean, start);
        self.restarts += 1;
    }

    /// The follower loses its disk and begins where a sealed segment of the leader ends, with the state that the cold tier
    /// has for that place.
    fn bootstrap(&mut self) {
        let leader = &mut self.replicas[self.leader];
        let sealed = leader.log.sealed_segments();
        // Only committed records are ever copied. A snapshot knows one batch of each producer before that place, as in
        // Kafka.
        let is_copied = |s: &&SealedSegment| s.end_offset <= self.committed;
        let Some(segment) = sealed.iter().rev().find(is_copied) else {
            return;
        };
        let snapshot = std::fs::read(&segment.producer_snapshot_path).unwrap();
        let producers = decode_snapshot(&snapshot).unwrap();
        let epochs = leader.log.epoch_range(0, segment.end_offset);
        let follower = 1 - self.leader;
        let directory = self.root.path().join(format!("new{}", self.bootstraps));
        let mut replica = Replica::open(directory, true, 0);
        replica
            .log
            .start_behind_cold_tier(segment.end_offset, 0, epochs, producers)
            .unwrap();
        self.replicas[follower] = replica;
        self.bootstraps += 1;
    }

    /// The other replica leads; the old leader's log is truncated to the new leader's.
    fn fail_over(&mut self) {
        let next = 1 - self.leader;
        let acknowledged = self.in_flight.front().map_or(self.next_sequence, |f| f.0);
        if (self.replicas[next].log.log_end_offset() as i32) < acknowledged {
            return;
        }
        self.leader = next;
        self.epoch += 1;
        let end = self.replicas[next].log.log_end_offset();
        self.replicas[next]
            .log
            .start_leader_epoch(LeaderEpoch(self.epoch));
        if self.replicas[1 - next].log.truncate(end).unwrap() {
            self.cuts += 1;
        }
        for number in 0..self.in_flight.len() {
            self.send(number);
        }
    }

    /// One record a sequence number, in order: nothing twice, nothing left out.
    fn check(&self, seed: u64) {
        for replica in &self.replicas {
            let bytes = replica.batches_from(0);
            for found in split_batches(&bytes) {
                let (_, header) = found.unwrap();
                assert_eq!(
                    i64::from(header.base_sequence),
                    header.base_offset,
                    "seed {seed}: a record is there twice, or left out"
                );
            }
        }
    }
}

#[test]
fn producers_are_recognised() {
    let count = seeds().div_ceil(SEEDS_PER_RUN);
    let (mut duplicates, mut restarts, mut bootstraps, mut cuts) = (0, 0, 0, 0);
    for seed in 0..count {
        let mut world = World::new(seed);
        for _ in 0..120 {
            world.step();
            world.check(seed);
        }
        duplicates += world.duplicates;
        restarts += world.restarts;
        bootstraps += world.bootstraps;
        cuts += world.cuts;
    }
    println!(
        "{count} seeds: {duplicates} duplicates, {restarts} restarts, {bootstraps} bootstraps, {cuts} cuts"
    );
    for seen in [duplicates, restarts, bootstraps, cuts] {
        assert!(seen as u64 > count / 10);
    }
}
