//! Reading a view: which bytes hold an offset, and which offset holds a timestamp. Decides *where*; the caller reads.

use std::sync::Arc;

use strandline_types::{Offset, TimestampMs};
use strandline_wire::batch::Records;

use crate::error::{LogError, ReadError};
use crate::segment::Segment;
use crate::view::LogView;

/// A run of bytes in one segment that begins with a whole batch. Its end may cut a batch; the reader drops that.
#[derive(Clone, Debug)]
pub struct LogSlice {
    pub segment: Arc<Segment>,
    pub position: u64,
    pub length: usize,
}

/// A record found by timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundTimestamp {
    pub offset: Offset,
    pub timestamp_ms: TimestampMs,
}

impl LogView {
    /// The bytes from the batch that holds `offset` on, at most `max_bytes` but at least that whole batch, and no
    /// record at or above `limit_offset`. `None` when there is nothing below the limit yet.
    pub fn slice(
        &self,
        offset: Offset,
        max_bytes: usize,
        limit_offset: Offset,
    ) -> Result<Option<LogSlice>, ReadError> {
        if offset < self.local_log_start_offset || offset > self.log_end_offset {
            return Err(ReadError::OffsetOutOfRange {
                offset,
                start: self.log_start_offset,
                end: self.log_end_offset,
            });
        }
        if offset >= limit_offset {
            return Ok(None);
        }
        let Some((mut at, _)) = self.segment_for(offset) else {
            return Ok(None);
        };
        loop {
            let segment = &self.segments[at];
            if let Some((position, header)) = segment.find_batch(offset, segment.bytes())? {
                if header.base_offset >= limit_offset {
                    return Ok(None);
                }
                let end = self.limit_position(at, segment, limit_offset)?;
                let available = end.saturating_sub(position) as usize;
                let wanted = max_bytes.max(header.size());
                let length = available.min(wanted);
                return Ok(Some(LogSlice {
                    segment: segment.clone(),
                    position,
                    length,
                }));
            }
            // Nothing left here: compaction or a roll moved the offset into a later segment.
            at += 1;
            if at == self.segments.len() {
                return Ok(None);
            }
        }
    }

    /// Where the batches below `limit_offset` end in the segment at `index`.
    fn limit_position(
        &self,
        index: usize,
        segment: &Segment,
        limit_offset: Offset,
    ) -> Result<u64, LogError> {
        if limit_offset >= self.log_end_offset || self.segment_end_offset(index) <= limit_offset {
            return Ok(self.published_end(index, segment));
        }
        Ok(segment
            .find_batch(limit_offset, segment.bytes())?
            .map_or(segment.bytes(), |(p, _)| p))
    }

    /// End of what this view knows of a segment. The active segment may have grown since the view was made, and its
    /// newer batches may lie above the limit that the view was asked for.
    fn published_end(&self, index: usize, segment: &Segment) -> u64 {
        if index + 1 < self.segments.len() {
            return segment.bytes();
        }
        self.active_bytes.min(segment.bytes())
    }

    /// The first record at or after `from` whose timestamp is at least `timestamp_ms`, below `limit_offset`.
    pub fn find_timestamp(
        &self,
        timestamp_ms: TimestampMs,
        from: Offset,
        limit_offset: Offset,
    ) -> Result<Option<FoundTimestamp>, LogError> {
        for segment in self.segments.iter() {
            if segment.max_timestamp_ms() < timestamp_ms {
                continue;
            }
            let relative = segment
                .time_index
                .offset_for(timestamp_ms)
                .map_err(LogError::io(&segment.time_index.0.path))?;
            let start = (segment.base_offset + i64::from(relative)).max(from);
            let found = scan_for_timestamp(segment, timestamp_ms, start, limit_offset)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp on this disk (`ListOffsets` −3).
    pub fn find_max_timestamp(
        &self,
        limit_offset: Offset,
    ) -> Result<Option<FoundTimestamp>, LogError> {
        let best = self
            .segments
            .iter()
            .rev()
            .max_by_key(|s| s.max_timestamp_ms());
        let Some(segment) = best.filter(|s| s.max_timestamp_ms() >= 0) else {
            return Ok(None);
        };
        let (timestamp, last_offset) = segment.max_timestamp_and_offset();
        let found = scan_for_timestamp(segment, timestamp, last_offset, limit_offset)?;
        Ok(found.filter(|f| f.timestamp_ms >= timestamp))
    }
}

fn scan_for_timestamp(
    segment: &Segment,
    timestamp_ms: TimestampMs,
    from: Offset,
    limit_offset: Offset,
) -> Result<Option<FoundTimestamp>, LogError> {
    let limit = segment.bytes();
    let Some((mut position, start)) = segment.find_batch(from, limit)? else {
        return Ok(None);
    };
    // An index entry names its batch's last offset; a hit may lie earlier in the same batch.
    let first = start.base_offset.min(from);
    while let Some(header) = segment.header_at(position, limit)? {
        if header.base_offset >= limit_offset {
            return Ok(None);
        }
        if header.max_timestamp >= timestamp_ms {
            let mut batch = vec![0; header.size()];
            segment
                .read_at(&mut batch, position)
                .map_err(LogError::io(&segment.log_path))?;
            let corrupt = |e: &dyn std::fmt::Display| LogError::Corrupt {
                path: segment.log_path.clone(),
                position,
                offset: header.base_offset,
                reason: e.to_string(),
            };
            let mut records = Records::new(header, &batch).map_err(|e| corrupt(&e))?;
            while let Some(record) = records.next_record().map_err(|e| corrupt(&e))? {
                if record.offset >= limit_offset {
                    return Ok(None);
                }
                if record.timestamp >= timestamp_ms && record.offset >= first {
                    return Ok(Some(FoundTimestamp {
                        offset: record.offset,
                        timestamp_ms: record.timestamp,
                    }));
                }
            }
        }
        position += header.size() as u64;
    }
    Ok(None)
}
