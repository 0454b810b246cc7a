//! One partition's batches, in order, and the sequences that they get.
//!
//! Nothing overtakes: a batch that has to be sent again goes to the front and travels alone until it is through.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use strandline_wire::ErrorCode;
use strandline_wire::batch::RecordToWrite;

use super::batch::Batch;
use super::numbering::Numbering;
use super::options::ProducerOptions;
use crate::error::ClientError;

#[derive(Default)]
pub(super) struct Queue {
    batches: VecDeque<Batch>,
    in_flight: usize,
    pub numbering: Numbering,
}

/// When the first batch of a queue can be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    Empty,
    Ready,
    /// The first batch may be ready at this moment.
    At(Instant),
}

impl Queue {
    /// Puts a record into the last batch; returns whether a batch begins with the record.
    pub fn append(
        &mut self,
        options: &ProducerOptions,
        record: &RecordToWrite,
        token: u64,
        bytes: usize,
        now: Instant,
    ) -> bool {
        let batch_bytes = options.batch_bytes.max(1);
        let open = self
            .batches
            .back_mut()
            .filter(|b| !b.sent && b.bytes + bytes <= batch_bytes);
        if let Some(batch) = open {
            batch.push(record, token, bytes);
            return false;
        }
        let mut batch = Batch::new(options.compression, now);
        batch.push(record, token, bytes);
        self.batches.push_back(batch);
        true
    }

    /// Whether the first batch can be sent; `flushing` does not wait for more records.
    pub fn readiness(&self, options: &ProducerOptions, flushing: bool, now: Instant) -> Readiness {
        let Some(first) = self.batches.front() else {
            return Readiness::Empty;
        };
        let full = self.batches.len() > 1 || first.bytes >= options.batch_bytes;
        let due = first.since + options.linger;
        let alone = first.sent || self.numbering.must_renew();
        if first.not_before > now || alone && self.in_flight > 0 {
            return Readiness::At(first.not_before.max(now + Duration::from_millis(1)));
        }
        if !full && !flushing && due > now && !first.sent {
            return Readiness::At(due);
        }
        Readiness::Ready
    }

    /// Takes the first batch for a request if `fits` says so of its bytes.
    pub fn take_first_if(&mut self, fits: impl FnOnce(usize) -> bool) -> Option<Batch> {
        let batch = self.batches.pop_front_if(|batch| fits(batch.bytes))?;
        self.in_flight += 1;
        Some(batch)
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Handles the answer of a batch. Returns a batch that was written or has failed for good, with its result; another one is
    /// queued again.
    pub fn settle(
        &mut self,
        options: &ProducerOptions,
        mut batch: Batch,
        result: Result<i64, ClientError>,
        now: Instant,
    ) -> Option<(Batch, Result<i64, ClientError>)> {
        self.in_flight -= 1;
        let code = result.as_ref().err().and_then(ClientError::code);
        let numbered = batch.is_numbered();
        let result = match code {
            // An earlier attempt has written the batch.
            Some(ErrorCode::DuplicateSequenceNumber) => Ok(-1),
            _ => result,
        };
        let misnumbered = matches!(
            code,
            Some(ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId)
        );
        let expired = now.saturating_duration_since(batch.since) > options.delivery_timeout;
        match result {
            // An earlier batch is not written yet: this batch is sent again behind it.
            Err(error)
                if !expired && (error.is_retriable() || misnumbered && numbered && batch.sent) =>
            {
                if misnumbered && self.in_flight == 0 {
                    self.numbering.renew();
                }
                batch.not_before = now + options.retry_backoff;
                batch.sent = true;
                self.queue_again(batch);
                None
            }
            result => {
                if result.is_err() && numbered {
                    // Its numbers are missing now: those behind it need others.
                    self.numbering.renew();
                }
                Some((batch, result))
            }
        }
    }

    /// Puts a batch back, by its sequence, before all that were never sent.
    fn queue_again(&mut self, batch: Batch) {
        let sequence = batch.builder.base_sequence;
        let behind = |b: &Batch| !b.sent || b.builder.base_sequence > sequence;
        let at = self.batches.iter().position(behind);
        self.batches.insert(at.unwrap_or(self.batches.len()), batch);
    }

    /// Takes the first batch if it has waited for longer than `delivery.timeout.ms`.
    pub fn take_expired(&mut self, options: &ProducerOptions, now: Instant) -> Option<Batch> {
        let limit = options.delivery_timeout;
        let expired = |b: &mut Batch| now.saturating_duration_since(b.since) > limit;
        let batch = self.batches.pop_front_if(expired)?;
        if batch.sent && batch.is_numbered() {
            self.numbering.renew();
        }
        Some(batch)
    }
}
