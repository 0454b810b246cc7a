//! Memory of the batches that idempotent producers were refused a moment ago.
//!
//! A producer sends its next batches before it gets the answer to the first. Suppose the first batch is refused because
//! the broker does not lead yet, has too few replicas in sync or has no space, and the next batches arrive a moment
//! later when all is well. Then these batches follow a gap. `OUT_OF_ORDER_SEQUENCE_NUMBER` would be correct, but
//! librdkafka then begins a new producer epoch and sends batches again that may have been written: duplicates (ADR 13).
//! So the broker refuses these batches with the error of the first one, and the producer sends them all again, in
//! order.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use strandline_wire::ErrorCode;
use strandline_wire::batch::BatchHeader;

/// A gap that is older has another reason.
const MEMORY: Duration = Duration::from_secs(10);
/// Producers that are remembered; above it all are forgotten, and gaps are gaps.
const MOST: usize = 1000;

#[derive(Debug)]
struct Refused {
    epoch: i16,
    /// The base sequence of the first refused batch.
    sequence: i32,
    code: ErrorCode,
    at: Instant,
}

/// Batches of one partition that were refused and may be sent again, by producer.
#[derive(Debug, Default)]
pub struct Refusals {
    by_producer: Mutex<HashMap<i64, Refused>>,
    any: AtomicBool,
}

impl Refusals {
    /// A batch was refused with `code`, and nothing of it was written.
    pub fn note(&self, header: &BatchHeader, code: ErrorCode) {
        if !header.has_producer_id() {
            return;
        }
        let now = Instant::now();
        let mut refused = self.by_producer.lock().expect("no holder panics");
        if refused.len() >= MOST {
            refused.clear();
        }
        let entry = refused.entry(header.producer_id).or_insert(Refused {
            epoch: header.producer_epoch,
            sequence: header.base_sequence,
            code,
            at: now,
        });
        let is_other = entry.epoch != header.producer_epoch || now - entry.at > MEMORY;
        // Batches behind the first refused batch are refused because of that one, so keep the smallest sequence.
        if is_other || header.base_sequence <= entry.sequence {
            entry.epoch = header.producer_epoch;
            entry.sequence = header.base_sequence;
            entry.code = code;
        }
        entry.at = now;
        self.any.store(true, Ordering::Release);
    }

    /// Why a batch is ahead of the sequence that is `expected`, if the expected one was refused here, or may have been
    /// refused by the leader before this one, which leads since `led_since`.
    pub fn explain(
        &self,
        header: &BatchHeader,
        expected: i32,
        led_since: Instant,
    ) -> Option<ErrorCode> {
        let is_new = led_since.elapsed() <= MEMORY && header.base_sequence > expected;
        let elsewhere = is_new.then_some(ErrorCode::NotEnoughReplicas);
        self.refused_here(header, expected).or(elsewhere)
    }

    fn refused_here(&self, header: &BatchHeader, expected: i32) -> Option<ErrorCode> {
        let refused = self.by_producer.lock().expect("no holder panics");
        let first = refused.get(&header.producer_id)?;
        let explains = first.epoch == header.producer_epoch
            && first.sequence == expected
            && header.base_sequence > expected
            && first.at.elapsed() <= MEMORY;
        explains.then_some(first.code)
    }

    /// A batch was written.
    pub fn forget(&self, header: &BatchHeader) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let mut refused = self.by_producer.lock().expect("no holder panics");
        refused.remove(&header.producer_id);
        self.any.store(!refused.is_empty(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(epoch: i16, sequence: i32) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            batch_length: 100,
            partition_leader_epoch: 0,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence: sequence,
            record_count: 1,
        }
    }

    #[test]
    fn a_gap_is_explained_by_the_batch_that_was_refused_and_by_nothing_else() {
        let refusals = Refusals::default();
        let long_ago = Instant::now().checked_sub(2 * MEMORY).unwrap();
        let explain = |header, expected| refusals.explain(&header, expected, long_ago);
        let code = ErrorCode::KafkaStorageError;
        refusals.note(&header(0, 5), code);
        refusals.note(&header(0, 6), ErrorCode::NotLeaderOrFollower);
        assert_eq!(explain(header(0, 6), 5), Some(code));
        assert_eq!(explain(header(0, 8), 5), Some(code));
        assert_eq!(explain(header(0, 8), 4), None, "another gap");
        assert_eq!(explain(header(0, 2), 5), None, "behind, not ahead");
        assert_eq!(explain(header(1, 6), 5), None, "another epoch");
        refusals.forget(&header(0, 5));
        assert_eq!(explain(header(0, 7), 5), None, "it was written");
        let new = refusals.explain(&header(0, 7), 5, Instant::now());
        assert_eq!(new, Some(ErrorCode::NotEnoughReplicas), "it may come");
        assert_eq!(refusals.explain(&header(0, 2), 5, Instant::now()), None);
    }
}
