//! Look-ups of a batch in a segment: by offset, and by timestamp.
//!
//! An index entry says only where the scan begins. Each look-up compares the entry with the batch that the entry names,
//! so a damaged index costs a scan from the segment's start, and never gives a wrong answer.

use std::io;
use std::sync::atomic::Ordering;

use strandline_types::{Offset, TimestampMs};
use strandline_wire::batch::BatchHeader;

use crate::error::LogError;
use crate::segment::Segment;

impl Segment {
    /// Position and header of the first batch whose last offset is at or after `offset`, below `limit` bytes.
    pub(crate) fn find_batch(
        &self,
        offset: Offset,
        limit: u64,
    ) -> Result<Option<(u64, BatchHeader)>, LogError> {
        let (mut position, mut known) = match self.indexed_batch(offset, limit)? {
            Some((position, header)) => (position, Some(header)),
            None => (0, None),
        };
        loop {
            let header = match known.take() {
                Some(header) => header,
                None => match self.header_at(position, limit)? {
                    Some(header) => header,
                    None => return Ok(None),
                },
            };
            if header.last_offset() >= offset {
                return Ok(Some((position, header)));
            }
            position += header.size() as u64;
        }
    }

    /// The batch that the offset index names for `offset`, if its entry fits the log. A damaged index costs a scan from
    /// the segment's start, and no wrong answer.
    pub(crate) fn indexed_batch(
        &self,
        offset: Offset,
        limit: u64,
    ) -> Result<Option<(u64, BatchHeader)>, LogError> {
        let entry = self
            .offset_index
            .entry_for(self.relative(offset))
            .map_err(LogError::io(&self.offset_index.0.path))?;
        let Some((relative, position)) = entry else {
            return Ok(None);
        };
        let position = u64::from(position);
        match self.header_at(position, limit) {
            Ok(Some(header)) if header.last_offset() == self.base_offset + i64::from(relative) => {
                Ok(Some((position, header)))
            }
            // The entry lies behind the published end: its batch is being appended.
            Ok(None) => Ok(None),
            Err(LogError::Io { path, source }) => Err(LogError::Io { path, source }),
            _ => {
                if !self.index_is_wrong.swap(true, Ordering::AcqRel) {
                    tracing::warn!(path = %self.offset_index.0.path.display(), offset, "an entry of an offset index does not fit its log; its segment is scanned");
                }
                Ok(None)
            }
        }
    }

    /// The batch from which a search for `timestamp_ms` may begin, by the time index: all before it is older.
    pub(crate) fn batch_before_timestamp(
        &self,
        timestamp_ms: TimestampMs,
        limit: u64,
    ) -> Result<Option<(u64, BatchHeader)>, LogError> {
        let entry = self.time_index.entry_below(timestamp_ms);
        self.timed_batch(entry, limit)
    }

    /// The batch with the largest timestamp that the time index knows below `offset`; of several, the first.
    pub(crate) fn largest_batch_below(
        &self,
        offset: Offset,
        limit: u64,
    ) -> Result<Option<(u64, BatchHeader)>, LogError> {
        let entry = self.time_index.entry_before(self.relative(offset));
        self.timed_batch(entry, limit)
    }

    /// The batch that an entry of the time index names; `None` where there is none, or the entry does not fit the log.
    fn timed_batch(
        &self,
        entry: io::Result<Option<(TimestampMs, u32)>>,
        limit: u64,
    ) -> Result<Option<(u64, BatchHeader)>, LogError> {
        let Some((timestamp, relative)) = entry.map_err(LogError::io(&self.time_index.0.path))?
        else {
            return Ok(None);
        };
        let offset = self.base_offset + i64::from(relative);
        let found = self.find_batch(offset, limit)?;
        Ok(found.filter(|(_, h)| h.base_offset <= offset && h.max_timestamp == timestamp))
    }
}
