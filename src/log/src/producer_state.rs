//! Sequence numbers by producer id (KIP-98): the last five batches of each, and Kafka's snapshot file of them.
//!
//! A snapshot holds one batch per producer, as Kafka's does; the others come back by replaying the batches behind it,
//! which is why opening a log replays its last segment.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::Path;

use bytes::{Buf, BufMut, BytesMut};
use strandline_types::{MonotonicMs, Offset, TimestampMs};
use strandline_wire::ErrorCode;
use strandline_wire::batch::{BatchHeader, crc32c, increment_sequence};
use thiserror::Error;

use crate::checkpoint::write_atomically;
use crate::error::LogError;

/// Batches that are recognised as duplicates (Kafka's `NUM_BATCHES_TO_RETAIN`).
const BATCHES_KEPT: usize = 5;
const SNAPSHOT_VERSION: i16 = 1;
const SNAPSHOT_ENTRY_BYTES: usize = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8;

/// A batch that a producer must not or need not append.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SequenceError {
    /// The batch is in the log already; the producer gets the answer of a success.
    #[error("duplicate of the batch at offset {base_offset}")]
    Duplicate {
        base_offset: Offset,
        timestamp_ms: TimestampMs,
    },
    #[error(
        "out of order sequence number for producer {producer_id}: {sequence} (incoming), {expected} (expected)"
    )]
    OutOfOrder {
        producer_id: i64,
        sequence: i32,
        expected: i32,
    },
    #[error("epoch of producer {producer_id} is {epoch}, older than the last seen {last}")]
    StaleEpoch {
        producer_id: i64,
        epoch: i16,
        last: i16,
    },
}

impl SequenceError {
    /// The error code of the producer's answer; `None` for a duplicate, which is a success.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Duplicate { .. } => ErrorCode::None,
            Self::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::StaleEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    last_sequence: i32,
    last_offset: Offset,
    offset_delta: i32,
    timestamp_ms: TimestampMs,
}

impl Batch {
    fn of(header: &BatchHeader) -> Self {
        Self {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp_ms: header.max_timestamp,
        }
    }

    fn first_sequence(&self) -> i32 {
        // Undoes `increment_sequence`, wrap included.
        let first = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        if first >= 0 {
            first as i32
        } else {
            (first + i64::from(i32::MAX) + 1) as i32
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// Oldest first; never empty after the first append.
    batches: VecDeque<Batch>,
    coordinator_epoch: i32,
    current_transaction_first_offset: Option<Offset>,
    /// The last offset as [`ProducerState::expire`] found it, and when it found that first. A new process begins anew.
    unchanged: Option<(Offset, MonotonicMs)>,
}

/// A producer as `DescribeProducers` shows it; numbers that are not known are −1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub last_sequence: i32,
    pub last_timestamp_ms: TimestampMs,
    pub coordinator_epoch: i32,
    pub current_transaction_first_offset: Option<Offset>,
}

/// All producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerState {
    producers: HashMap<i64, Producer>,
    /// Whether producers were forgotten because they had not written for long.
    has_expired: bool,
}

impl ProducerState {
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Every producer, in no order.
    pub fn active(&self) -> impl Iterator<Item = ActiveProducer> {
        self.producers.iter().map(|(id, producer)| {
            let last = producer.batches.back();
            ActiveProducer {
                producer_id: *id,
                producer_epoch: producer.epoch,
                last_sequence: last.map_or(-1, |b| b.last_sequence),
                last_timestamp_ms: last.map_or(-1, |b| b.timestamp_ms),
                coordinator_epoch: producer.coordinator_epoch,
                current_transaction_first_offset: producer.current_transaction_first_offset,
            }
        })
    }

    /// Whether a batch from a client may be appended next. Batches without a producer id always may.
    ///
    /// An unknown producer must begin with sequence 0. Otherwise its first batch was refused, and the second batch
    /// would pass for the first: the client would then believe that both are in the log (ADR 12). Where the broker may
    /// have forgotten the producer, because it was silent for long or its records are `deleted`, any sequence is
    /// accepted, as in Kafka.
    pub fn check(&self, header: &BatchHeader, deleted: bool) -> Result<(), SequenceError> {
        if !header.has_producer_id() {
            return Ok(());
        }
        let Some(producer) = self.producers.get(&header.producer_id) else {
            return if header.base_sequence == 0 || deleted || self.has_expired {
                Ok(())
            } else {
                Err(SequenceError::OutOfOrder {
                    producer_id: header.producer_id,
                    sequence: header.base_sequence,
                    expected: 0,
                })
            };
        };
        if header.producer_epoch < producer.epoch {
            return Err(SequenceError::StaleEpoch {
                producer_id: header.producer_id,
                epoch: header.producer_epoch,
                last: producer.epoch,
            });
        }
        let out_of_order = |expected| {
            Err(SequenceError::OutOfOrder {
                producer_id: header.producer_id,
                sequence: header.base_sequence,
                expected,
            })
        };
        if header.producer_epoch > producer.epoch {
            return if header.base_sequence == 0 {
                Ok(())
            } else {
                out_of_order(0)
            };
        }
        let duplicate = producer.batches.iter().find(|b| {
            b.first_sequence() == header.base_sequence && b.last_sequence == header.last_sequence()
        });
        if let Some(batch) = duplicate {
            return Err(SequenceError::Duplicate {
                base_offset: batch.last_offset - i64::from(batch.offset_delta),
                timestamp_ms: batch.timestamp_ms,
            });
        }
        let Some(last) = producer.batches.back() else {
            return Ok(());
        };
        let expected = increment_sequence(last.last_sequence, 1);
        if header.base_sequence == expected {
            Ok(())
        } else {
            out_of_order(expected)
        }
    }

    /// Notes a batch that is in the log, with its final offsets. Never refuses, because the batch is in the log
    /// already.
    pub fn update(&mut self, header: &BatchHeader) {
        if !header.has_producer_id() || header.is_control() {
            return;
        }
        let producer = self
            .producers
            .entry(header.producer_id)
            .or_insert_with(|| Producer {
                epoch: header.producer_epoch,
                batches: VecDeque::with_capacity(BATCHES_KEPT),
                coordinator_epoch: -1,
                current_transaction_first_offset: None,
                unchanged: None,
            });
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_KEPT {
            producer.batches.pop_front();
        }
        producer.batches.push_back(Batch::of(header));
    }

    /// Forgets batches that reach `end_offset` or beyond, because the log ends there. A producer without any remaining
    /// batch may continue with any sequence.
    pub fn truncate_from_end(&mut self, end_offset: Offset) {
        let before = self.producers.len();
        self.producers.retain(|_, producer| {
            let batches = &mut producer.batches;
            batches.retain(|batch| batch.last_offset < end_offset);
            !batches.is_empty()
        });
        self.has_expired |= self.producers.len() < before;
    }

    /// Forgets producers that have written nothing for longer than `expiration_ms`, as measured between calls of this.
    ///
    /// Neither the timestamps of their records nor the wall clock count: a producer that copies old records, or a clock
    /// that is set forward, would make a producer unknown that is in the middle of a retry, and its batch would be
    /// written twice.
    pub fn expire(&mut self, now: MonotonicMs, expiration_ms: i64) {
        let before = self.producers.len();
        self.producers.retain(|_, producer| {
            let last = producer.batches.back().map_or(-1, |b| b.last_offset);
            let since = match producer.unchanged {
                Some((offset, since)) if offset == last => since,
                _ => now,
            };
            producer.unchanged = Some((last, since));
            producer.current_transaction_first_offset.is_some()
                || now.ms_since(since) <= expiration_ms
        });
        self.has_expired |= self.producers.len() < before;
    }

    /// Forgets all producers, as if they had been silent for long.
    pub fn forget_all(&mut self) {
        self.has_expired |= !self.producers.is_empty();
        self.producers.clear();
    }

    /// Writes Kafka's `.snapshot` file.
    pub fn write_snapshot(&self, path: &Path) -> io::Result<()> {
        write_atomically(path, &self.encode())
    }

    /// Whether this state ends, for each producer of `written`, with the same batch.
    pub fn ends_like(&self, written: &Self) -> bool {
        written.producers.iter().all(|(id, wrote)| {
            self.producers.get(id).is_some_and(|known| {
                known.epoch == wrote.epoch && known.batches.back() == wrote.batches.back()
            })
        })
    }

    /// The bytes of Kafka's `.snapshot` file.
    pub fn encode(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(10 + self.producers.len() * SNAPSHOT_ENTRY_BYTES);
        out.put_i16(SNAPSHOT_VERSION);
        out.put_u32(0);
        out.put_i32(self.producers.len() as i32);
        let mut ids: Vec<_> = self.producers.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let producer = &self.producers[&id];
            let last = producer.batches.back();
            out.put_i64(id);
            out.put_i16(producer.epoch);
            out.put_i32(last.map_or(-1, |b| b.last_sequence));
            out.put_i64(last.map_or(-1, |b| b.last_offset));
            out.put_i32(last.map_or(0, |b| b.offset_delta));
            out.put_i64(last.map_or(-1, |b| b.timestamp_ms));
            out.put_i32(producer.coordinator_epoch);
            out.put_i64(producer.current_transaction_first_offset.unwrap_or(-1));
        }
        let crc = crc32c(&out[6..]);
        out[2..6].copy_from_slice(&crc.to_be_bytes());
        out
    }
}

/// Reads a snapshot file; `None` if it is absent, of another version or damaged.
pub fn read_snapshot(path: &Path) -> Option<ProducerState> {
    decode_snapshot(&std::fs::read(path).ok()?)
}

/// The state in a snapshot file, for a log that is opened or truncated; `None` where the file is missing or damaged.
///
/// # Errors
/// The file exists and cannot be read: its contents are unknown.
pub(crate) fn load_snapshot(path: &Path) -> Result<Option<ProducerState>, LogError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LogError::io(path)(error)),
    };
    let state = decode_snapshot(&bytes);
    if state.is_none() {
        tracing::warn!(path = %path.display(), "a producer snapshot is damaged and is made again from the records");
    }
    Ok(state)
}

/// The state in a snapshot file's bytes.
pub fn decode_snapshot(bytes: &[u8]) -> Option<ProducerState> {
    let mut header = bytes.get(..10)?;
    if header.get_i16() != SNAPSHOT_VERSION || header.get_u32() != crc32c(&bytes[6..]) {
        return None;
    }
    let count = usize::try_from(header.get_i32()).ok()?;
    let mut entries = &bytes[10..];
    if entries.len() != count.checked_mul(SNAPSHOT_ENTRY_BYTES)? {
        return None;
    }
    let mut state = ProducerState::default();
    for _ in 0..count {
        let id = entries.get_i64();
        let epoch = entries.get_i16();
        let batch = Batch {
            last_sequence: entries.get_i32(),
            last_offset: entries.get_i64(),
            offset_delta: entries.get_i32(),
            timestamp_ms: entries.get_i64(),
        };
        let coordinator_epoch = entries.get_i32();
        let first = entries.get_i64();
        let batches = if batch.last_sequence >= 0 {
            VecDeque::from([batch])
        } else {
            VecDeque::new()
        };
        let current_transaction_first_offset = (first >= 0).then_some(first);
        state.producers.insert(
            id,
            Producer {
                epoch,
                batches,
                coordinator_epoch,
                current_transaction_first_offset,
                unchanged: None,
            },
        );
    }
    Some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(epoch: i16, sequence: i32, records: i32, offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset: offset,
            batch_length: 100,
            partition_leader_epoch: 0,
            crc: 0,
            attributes: 0,
            last_offset_delta: records - 1,
            base_timestamp: 0,
            max_timestamp: offset,
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence: sequence,
            record_count: records,
        }
    }

    #[test]
    fn the_last_five_batches_are_duplicates_and_a_gap_is_out_of_order() {
        let mut state = ProducerState::default();
        for i in 0..6 {
            let next = header(0, i * 10, 10, i64::from(i) * 10);
            state.check(&next, false).unwrap();
            state.update(&next);
        }
        for i in 1..6 {
            assert_eq!(
                state.check(&header(0, i * 10, 10, 999), false),
                Err(SequenceError::Duplicate {
                    base_offset: i64::from(i) * 10,
                    timestamp_ms: i64::from(i) * 10
                })
            );
        }
        let out_of_order = |h| {
            matches!(
                state.check(&h, false),
                Err(SequenceError::OutOfOrder { .. })
            )
        };
        assert!(
            out_of_order(header(0, 0, 10, 0)),
            "the sixth last is forgotten"
        );
        assert!(out_of_order(header(0, 70, 10, 0)));
        assert!(
            out_of_order(header(0, 50, 5, 0)),
            "a partial overlap is no duplicate"
        );
        assert!(state.check(&header(0, 60, 1, 0), false).is_ok());
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_an_old_one_is_fenced() {
        let mut state = ProducerState::default();
        state.update(&header(3, 5, 1, 0));
        assert!(matches!(
            state.check(&header(4, 6, 1, 0), false),
            Err(SequenceError::OutOfOrder { .. })
        ));
        assert!(state.check(&header(4, 0, 1, 0), false).is_ok());
        let stale = state.check(&header(2, 6, 1, 0), false).unwrap_err();
        assert_eq!(stale.code(), ErrorCode::InvalidProducerEpoch);
    }

    #[test]
    fn an_unknown_producer_begins_at_zero_unless_it_may_have_been_forgotten() {
        let mut state = ProducerState::default();
        let later = header(0, 6, 1, 0);
        assert!(matches!(
            state.check(&later, false),
            Err(SequenceError::OutOfOrder { expected: 0, .. })
        ));
        assert!(state.check(&header(0, 0, 1, 0), false).is_ok());
        assert!(
            state.check(&later, true).is_ok(),
            "retention took its records"
        );
        let mut silent = header(0, 0, 1, 0);
        silent.producer_id = 8;
        state.update(&silent);
        state.expire(MonotonicMs::new(1), 100);
        state.expire(MonotonicMs::new(102), 100);
        assert!(state.check(&later, false).is_ok(), "somebody was forgotten");
    }

    #[test]
    fn a_producer_is_forgotten_when_it_was_silent_for_long_enough_whatever_its_timestamps() {
        let at = MonotonicMs::new;
        // The timestamps of records from 1970, from nowhere, and from a clock that is a century ahead.
        for timestamp in [0, -1, 5_000_000_000_000] {
            let mut state = ProducerState::default();
            let mut first = header(0, 0, 1, 0);
            first.max_timestamp = timestamp;
            state.update(&first);
            for looked_at in [1_000, 1_050, 1_100] {
                state.expire(at(looked_at), 100);
                assert_eq!(state.len(), 1, "timestamp {timestamp}, at {looked_at}");
            }
            let mut second = header(0, 1, 1, 1);
            second.max_timestamp = timestamp;
            state.update(&second);
            for (looked_at, known) in [(1_150, 1), (1_250, 1), (1_251, 0)] {
                state.expire(at(looked_at), 100);
                assert_eq!(state.len(), known, "timestamp {timestamp}, at {looked_at}");
            }
        }
    }

    #[test]
    fn sequences_wrap_from_the_largest_int_to_zero() {
        let mut state = ProducerState::default();
        state.update(&header(0, i32::MAX - 1, 4, 0));
        assert!(state.check(&header(0, 2, 1, 4), false).is_ok());
        assert!(matches!(
            state.check(&header(0, i32::MAX - 1, 4, 4), false),
            Err(SequenceError::Duplicate { base_offset: 0, .. })
        ));
    }

    #[test]
    fn a_snapshot_comes_back_and_a_flipped_bit_makes_it_absent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.snapshot");
        let mut state = ProducerState::default();
        state.update(&header(0, 0, 10, 0));
        state.write_snapshot(&path).unwrap();
        assert_eq!(read_snapshot(&path), Some(state));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(read_snapshot(&path), None);
    }
}
