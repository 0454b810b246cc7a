//! Reading a view: which bytes hold an offset. Decides *where*; the caller reads. Timestamps are in `time_search.rs`.

use std::sync::Arc;

use strandline_types::Offset;

use crate::error::{LogError, ReadError};
use crate::segment::Segment;
use crate::view::LogView;

/// A run of bytes in one segment that begins with a whole batch. The run may end inside a batch; the reader drops the
/// incomplete one.
#[derive(Clone, Debug)]
pub struct LogSlice {
    pub segment: Arc<Segment>,
    pub position: u64,
    pub length: usize,
}

impl LogView {
    /// The bytes from the batch that holds `offset` on, at most `max_bytes` but at least that whole batch, and no
    /// record at or above `limit_offset`. `None` if the log has no record below the limit yet.
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

    /// The end of a segment as this view knows it. The active segment may have grown since the view was made, and its
    /// newer batches may lie above the limit that the caller asked for.
    fn published_end(&self, index: usize, segment: &Segment) -> u64 {
        if index + 1 < self.segments.len() {
            return segment.bytes();
        }
        self.active_bytes.min(segment.bytes())
    }
}
