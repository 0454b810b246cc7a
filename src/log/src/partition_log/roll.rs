//! Rolling: the active segment is sealed with complete indexes and a producer snapshot, and a new one begins.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use strandline_types::{MonotonicMs, Now, Offset, TimestampMs, is_expired};
use strandline_wire::batch::BatchHeader;

use super::PartitionLog;
use crate::error::LogError;
use crate::index::{OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES};
use crate::segment::{Segment, TIME_INDEX, file_name};

impl PartitionLog {
    pub(super) fn must_roll(&self, next: &BatchHeader, pending: u64, end: Offset) -> bool {
        let active = self.active();
        let bytes = active.bytes() + pending;
        if bytes == 0 {
            return false;
        }
        let index_limit = u64::from(self.config.segment_index_bytes);
        bytes + next.size() as u64 > self.config.segment_bytes
            || self.is_overdue_by_records(next.max_timestamp)
            || active.offset_index.0.bytes() + OFFSET_ENTRY_BYTES > index_limit
            || active.time_index.0.bytes() + TIME_ENTRY_BYTES > index_limit
            || end + i64::from(next.last_offset_delta) - active.base_offset > i64::from(i32::MAX)
    }

    /// `segment.ms` has passed between the timestamps of the segment's first batch and of the next one.
    fn is_overdue_by_records(&self, timestamp_ms: TimestampMs) -> bool {
        self.active_first_timestamp_ms
            .filter(|first| *first >= 0 && timestamp_ms >= 0)
            .is_some_and(|first| timestamp_ms.saturating_sub(first) > self.config.segment_ms)
    }

    /// The time of the active segment's first write. The wall clock gives the time if an earlier process wrote the
    /// segment; after the first look, the monotonic clock counts.
    fn active_since(&mut self, now: Now) -> MonotonicMs {
        let active = self.active();
        let base_offset = active.base_offset;
        let written_ms = active.first_append_ms.load(Ordering::Acquire);
        match self.active_since {
            Some((of, since)) if of == base_offset => since,
            _ => {
                let age_ms = now.wall_ms.saturating_sub(written_ms).max(0);
                let since = now.monotonic.plus_ms(-age_ms);
                self.active_since = Some((base_offset, since));
                since
            }
        }
    }

    /// Seals the active segment and begins a new one.
    pub(super) fn roll(&mut self) -> Result<(), LogError> {
        self.active().finish_indexes()?;
        let snapshot = file_name(&self.directory, self.log_end_offset, "snapshot");
        self.producers
            .write_snapshot(&snapshot)
            .map_err(LogError::io(&snapshot))?;
        self.add_segment(self.log_end_offset)
    }

    /// Begins a segment at the log's end. If it cannot be made, nothing of it stays: the log goes on in the one before.
    pub(super) fn add_segment(&mut self, base_offset: Offset) -> Result<(), LogError> {
        let segment = Segment::open(&self.directory, base_offset).inspect_err(|_| {
            for extension in ["log", "index", TIME_INDEX] {
                // A file that was not made need not be removed.
                let _ = std::fs::remove_file(file_name(&self.directory, base_offset, extension));
            }
        })?;
        self.push_segment(Arc::new(segment));
        Ok(())
    }

    /// Makes `segment` the active one.
    pub(super) fn push_segment(&mut self, segment: Arc<Segment>) {
        self.segments.push(segment.clone());
        self.unflushed.push_back(segment);
        self.shared_segments = Arc::new(self.segments.clone());
        self.bytes_since_index_entry = 0;
        self.active_first_timestamp_ms = None;
    }

    /// Rolls an active segment that is not empty and older than `segment.ms` by the broker's clock, even without
    /// appends. Called every second. Returns whether it rolled the segment.
    pub fn roll_if_overdue(&mut self, now: Now) -> Result<bool, LogError> {
        let due = self.active().bytes() > 0
            && now.monotonic.ms_since(self.active_since(now)) > self.config.segment_ms;
        if due {
            self.roll()?;
        }
        Ok(due)
    }

    /// Rolls an active segment whose newest record is older than `retention_ms`, so that it can be deleted: without
    /// appends, no other rule would seal it. Leaves a segment with uncommitted records alone. Returns whether it rolled
    /// the segment.
    pub fn roll_if_expired(
        &mut self,
        retention_ms: i64,
        now_ms: TimestampMs,
    ) -> Result<bool, LogError> {
        let committed = self.high_watermark() >= self.log_end_offset;
        if retention_ms < 0 || self.active_bytes() == 0 || !committed {
            return Ok(false);
        }
        let expired = is_expired(self.active_age().newest_record_ms(), retention_ms, now_ms);
        if expired {
            self.roll()?;
        }
        Ok(expired)
    }

    /// Seals the active segment so that retention or copying can reach it. Does nothing on an empty one.
    #[cfg(test)]
    pub(crate) fn seal_active(&mut self) -> Result<(), LogError> {
        if self.active().bytes() > 0 {
            self.roll()
        } else {
            Ok(())
        }
    }

    /// Before a clean stop: indexes complete, a producer snapshot at the end, everything flushed by the caller after.
    pub fn prepare_to_close(&mut self) -> Result<(), LogError> {
        let active = self.active();
        active
            .push_time_entry()
            .map_err(LogError::io(&active.log_path))?;
        let snapshot = file_name(&self.directory, self.log_end_offset, "snapshot");
        self.producers
            .write_snapshot(&snapshot)
            .map_err(LogError::io(&snapshot))
    }
}
