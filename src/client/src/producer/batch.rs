//! A batch of records on its way: queued, in a request, delivered.

use std::sync::Arc;
use std::time::Instant;

use strandline_wire::batch::{BatchBuilder, RecordToWrite};
use strandline_wire::compression::Compression;

use crate::error::ClientError;

/// The outcome of the records of one batch.
#[derive(Debug)]
pub struct Delivery {
    pub topic: Arc<str>,
    pub partition: i32,
    /// The tokens that the records were sent with, in order.
    pub tokens: Vec<u64>,
    /// Offset of the first; −1 where the broker was not asked for it.
    pub result: Result<i64, ClientError>,
}

/// Records of one partition, written together.
pub(super) struct Batch {
    pub builder: BatchBuilder,
    pub tokens: Vec<u64>,
    /// The batch's share of the buffer.
    pub bytes: usize,
    pub since: Instant,
    /// The batch was sent at least once.
    pub sent: bool,
    pub not_before: Instant,
}

impl Batch {
    pub fn new(compression: Compression, now: Instant) -> Self {
        Self {
            builder: BatchBuilder::new(compression),
            tokens: Vec::new(),
            bytes: 0,
            since: now,
            sent: false,
            not_before: now,
        }
    }

    /// Takes a record that has `bytes` of the buffer.
    pub fn push(&mut self, record: &RecordToWrite, token: u64, bytes: usize) {
        self.builder.push(record);
        self.tokens.push(token);
        self.bytes += bytes;
    }

    /// The batch has a producer id and a sequence.
    pub fn is_numbered(&self) -> bool {
        self.builder.base_sequence >= 0
    }
}

/// A batch in a request.
pub(super) struct Sending {
    pub topic: Arc<str>,
    pub partition: i32,
    pub batch: Batch,
}

/// A request to one leader.
pub(super) struct Outgoing {
    pub leader: i32,
    pub batches: Vec<Sending>,
    pub bytes: usize,
}

/// A batch that is through: written, or failed for good.
pub(super) struct Finished {
    pub delivery: Delivery,
    /// Bytes of the buffer that are free again.
    pub bytes: usize,
}

impl Finished {
    pub fn new(
        topic: Arc<str>,
        partition: i32,
        batch: Batch,
        result: Result<i64, ClientError>,
    ) -> Self {
        Self {
            bytes: batch.bytes,
            delivery: Delivery {
                topic,
                partition,
                tokens: batch.tokens,
                result,
            },
        }
    }
}
