//! The view of a log that readers of a partition use: immutable, published by the owner after every change.

use std::sync::Arc;

use strandline_types::Offset;

use crate::epochs::LeaderEpochs;
use crate::segment::Segment;

/// A partition's log at one moment. Offsets satisfy
/// `log_start_offset <= local_log_start_offset <= last_stable_offset <= high_watermark <= log_end_offset`,
/// except that the log start may lie above the local start until deleted segments are gone.
#[derive(Clone, Debug)]
pub struct LogView {
    pub segments: Arc<Vec<Arc<Segment>>>,
    /// The first offset that a client may read, in either tier.
    pub log_start_offset: Offset,
    /// First offset on this disk.
    pub local_log_start_offset: Offset,
    pub log_end_offset: Offset,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    /// Everything below is on disk: the recovery point.
    pub flushed_offset: Offset,
    pub epochs: Arc<LeaderEpochs>,
    /// Bytes of the last segment that belong to `[.., log_end_offset)`; it may have grown since.
    pub active_bytes: u64,
}

impl LogView {
    /// The segment that holds `offset`, or would; `None` below the first local segment.
    pub fn segment_for(&self, offset: Offset) -> Option<(usize, &Arc<Segment>)> {
        let at = self
            .segments
            .partition_point(|s| s.base_offset <= offset)
            .checked_sub(1)?;
        Some((at, &self.segments[at]))
    }

    /// Bytes on this disk.
    pub fn local_bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes()).sum()
    }

    /// Exclusive end of the segment at `index` in `segments`.
    pub fn segment_end_offset(&self, index: usize) -> Offset {
        self.segments
            .get(index + 1)
            .map_or(self.log_end_offset, |next| next.base_offset)
    }
}
