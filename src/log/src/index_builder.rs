//! Makes both indexes of a segment from its batches, in memory first: one write a block in place of two an entry.

use strandline_types::{NO_TIMESTAMP, Offset, TimestampMs};

use crate::error::LogError;
use crate::index::{offset_entry_bytes, time_entry_bytes};
use crate::segment::Segment;

/// Of an index that waits to be written.
const BLOCK_BYTES: usize = 64 << 10;

pub(crate) struct IndexBuilder<'a> {
    segment: &'a Segment,
    offsets: Vec<u8>,
    times: Vec<u8>,
    last_timestamp: TimestampMs,
}

impl<'a> IndexBuilder<'a> {
    /// Empties the indexes.
    pub fn begin(segment: &'a Segment) -> Result<Self, LogError> {
        let cleared = segment.offset_index.clear();
        cleared.map_err(LogError::io(&segment.offset_index.0.path))?;
        let cleared = segment.time_index.clear();
        cleared.map_err(LogError::io(&segment.time_index.0.path))?;
        Ok(Self {
            segment,
            offsets: Vec::new(),
            times: Vec::new(),
            last_timestamp: NO_TIMESTAMP,
        })
    }

    /// Adds the entries of the batch at `position`. The segment has noted its timestamp.
    pub fn push(&mut self, last_offset: Offset, position: u64) -> Result<(), LogError> {
        let relative = self.segment.relative(last_offset);
        self.offsets
            .extend(offset_entry_bytes(relative, position as u32));
        let (timestamp, offset) = self.segment.max_timestamp_and_offset();
        if timestamp > self.last_timestamp {
            self.last_timestamp = timestamp;
            self.times
                .extend(time_entry_bytes(timestamp, self.segment.relative(offset)));
        }
        if self.offsets.len() >= BLOCK_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), LogError> {
        let segment = self.segment;
        let pushed = segment.offset_index.0.push(&self.offsets);
        pushed.map_err(LogError::io(&segment.offset_index.0.path))?;
        let pushed = segment.time_index.0.push(&self.times);
        pushed.map_err(LogError::io(&segment.time_index.0.path))?;
        self.offsets.clear();
        self.times.clear();
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(mut self) -> Result<(), LogError> {
        self.write()
    }
}
