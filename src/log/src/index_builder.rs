//! Makes both indexes of a segment from its batches, in memory first: one write a block in place of two an entry.

use std::io;

use strandline_types::{NO_TIMESTAMP, Offset, TimestampMs};

use crate::error::LogError;
use crate::index::{offset_entry_bytes, time_entry_bytes};
use crate::segment::Segment;

/// Of an index that waits to be written.
const BLOCK_BYTES: usize = 64 << 10;

pub(crate) struct IndexBuilder<'a> {
    segment: &'a Segment,
    interval_bytes: u64,
    since_entry: u64,
    offsets: Vec<u8>,
    times: Vec<u8>,
    last_timestamp: TimestampMs,
}

impl<'a> IndexBuilder<'a> {
    /// Empties the indexes.
    pub fn begin(segment: &'a Segment, interval_bytes: u32) -> Result<Self, LogError> {
        let cleared = segment.offset_index.clear();
        cleared.map_err(LogError::io(&segment.offset_index.0.path))?;
        let cleared = segment.time_index.clear();
        cleared.map_err(LogError::io(&segment.time_index.0.path))?;
        Ok(Self {
            segment,
            interval_bytes: u64::from(interval_bytes),
            since_entry: 0,
            offsets: Vec::new(),
            times: Vec::new(),
            last_timestamp: NO_TIMESTAMP,
        })
    }

    /// Adds the entries of the batch at `position`, if it gets any. The segment has noted its timestamp.
    pub fn batch(&mut self, last_offset: Offset, position: u64, size: u64) -> Result<(), LogError> {
        if self.since_entry > self.interval_bytes {
            self.since_entry = 0;
            let relative = self.segment.relative(last_offset);
            self.offsets
                .extend(offset_entry_bytes(relative, position as u32));
            let (timestamp, offset) = self.segment.max_timestamp_and_offset();
            if timestamp > self.last_timestamp {
                self.last_timestamp = timestamp;
                self.times
                    .extend(time_entry_bytes(timestamp, self.segment.relative(offset)));
            }
        }
        self.since_entry += size;
        if self.offsets.len() >= BLOCK_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), LogError> {
        let segment = self.segment;
        let pushed = segment.offset_index.0.push(&self.offsets);
        pushed.map_err(LogError::io(&segment.offset_index.0.path))?;
        let pushed: io::Result<()> = segment.time_index.0.push(&self.times);
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
