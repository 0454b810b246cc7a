//! Reads the headers of batches that lie one behind the other, a block of the file at a time.
//!
//! A start walks over whole segments: one read a batch would be most of its time where batches are small. Where batches
//! are large, a block would be bytes that nobody looks at, and the header alone is read.

use strandline_wire::batch::{BATCH_HEADER_BYTES, BatchHeader};

use crate::error::LogError;
use crate::segment::Segment;

const BLOCK_BYTES: u64 = 64 << 10;
/// Batches up to this size are read by blocks.
const SMALL_BATCH_BYTES: u64 = 8 << 10;

pub(crate) struct HeaderWalk<'a> {
    segment: &'a Segment,
    limit: u64,
    block: Vec<u8>,
    /// Where the block begins in the file.
    block_at: u64,
    /// Where the header before began.
    before: Option<u64>,
}

impl<'a> HeaderWalk<'a> {
    /// Over the bytes of a segment that are valid now.
    pub fn new(segment: &'a Segment) -> Self {
        Self {
            segment,
            limit: segment.bytes(),
            block: Vec::new(),
            block_at: 0,
            before: None,
        }
    }

    /// The batch header at `position`; `None` where no whole header is left.
    pub fn header_at(&mut self, position: u64) -> Result<Option<BatchHeader>, LogError> {
        if position.saturating_add(BATCH_HEADER_BYTES as u64) > self.limit {
            return Ok(None);
        }
        if self.in_block(position).is_none() {
            self.read(position)?;
        }
        self.before = Some(position);
        match self.in_block(position) {
            Some(bytes) => self.segment.decode_header(bytes, position).map(Some),
            None => Ok(None),
        }
    }

    fn in_block(&self, position: u64) -> Option<&[u8; BATCH_HEADER_BYTES]> {
        let from = usize::try_from(position.checked_sub(self.block_at)?).ok()?;
        self.block.get(from..)?.first_chunk()
    }

    fn read(&mut self, position: u64) -> Result<(), LogError> {
        let left = self.limit.saturating_sub(position);
        let is_small = |before| position.saturating_sub(before) <= SMALL_BATCH_BYTES;
        let wanted = if self.before.is_none_or(is_small) {
            left.min(BLOCK_BYTES)
        } else {
            BATCH_HEADER_BYTES as u64
        };
        self.block.resize(wanted as usize, 0);
        self.block_at = position;
        let read = self.segment.read_at(&mut self.block, position);
        if read.is_err() {
            self.block.clear();
        }
        read.map_err(LogError::io(&self.segment.log_path))
    }
}
