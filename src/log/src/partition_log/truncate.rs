//! Dropping records: a follower truncates at the end, retention and `DeleteRecords` delete at the start.

use std::sync::Arc;

use strandline_types::Offset;

use super::PartitionLog;
use crate::error::LogError;
use crate::segment::file_name;

impl PartitionLog {
    /// Drops everything from `offset` on, whole batches only, because another leader's log goes on from there. Returns
    /// whether anything went.
    ///
    /// Crash consistency: the caller writes the recovery point before anything is appended behind the cut; until then
    /// a crash finds a log that is merely shorter than its recovery point.
    pub fn truncate(&mut self, offset: Offset) -> Result<bool, LogError> {
        if offset >= self.log_end_offset {
            return Ok(false);
        }
        if offset <= self.segments[0].base_offset {
            self.restart_at(offset)?;
            self.log_start_offset = self.log_start_offset.min(offset);
            return Ok(true);
        }
        self.cuts += 1;
        let keep = self.segments.partition_point(|s| s.base_offset < offset);
        for gone in self.segments.split_off(keep) {
            gone.remove_files()?;
        }
        let segments = &self.segments;
        self.unflushed
            .retain(|s| segments.iter().any(|kept| Arc::ptr_eq(kept, s)));
        let active = self.active().clone();
        let (end_offset, since_entry) = active.truncate(offset)?;
        if !self.unflushed.iter().any(|s| Arc::ptr_eq(s, &active)) {
            self.unflushed.push_back(active.clone());
        }
        self.shared_segments = Arc::new(self.segments.clone());
        self.bytes_since_index_entry = since_entry;
        let first = active.header_at(0, active.bytes())?;
        self.active_first_timestamp_ms = first.map(|h| h.max_timestamp);
        self.log_end_offset = end_offset;
        self.flushed_offset = self.flushed_offset.min(end_offset);
        self.high_watermark = self.high_watermark.min(end_offset);
        self.change_epochs(|epochs| epochs.truncate_from_end(end_offset));
        self.rebuild_producers();
        if end_offset < self.log_start_offset {
            // The cut fell into the batch that holds the log start. No offset below the log start is given out again.
            let start = self.log_start_offset.min(offset);
            self.restart_at(start)?;
            self.log_start_offset = start;
            self.high_watermark = start;
        }
        Ok(true)
    }

    /// Replays the last two segments after a failed write or a truncation: a snapshot knows one batch of each producer,
    /// and five must be recognised.
    pub(super) fn rebuild_producers(&mut self) {
        let from = self.segments.len().saturating_sub(2);
        let first = self.segments[from].base_offset;
        let snapshot = file_name(&self.directory, first, "snapshot");
        let mut producers = crate::producer_state::read_snapshot(&snapshot).unwrap_or_default();
        for segment in &self.segments[from..] {
            let mut position = 0;
            while let Ok(Some(header)) = segment.header_at(position, segment.bytes()) {
                producers.update(&header);
                position += header.size() as u64;
            }
        }
        self.producers = producers;
    }

    /// Raises the log start and drops segments that lie wholly below it, but never the active one.
    pub fn advance_log_start(&mut self, to: Offset) -> Result<(), LogError> {
        if to <= self.log_start_offset {
            return Ok(());
        }
        self.log_start_offset = to.min(self.high_watermark);
        let start = self.log_start_offset;
        self.change_epochs(|epochs| epochs.truncate_from_start(start));
        self.delete_local_below(start)
    }

    /// Drops local segments that lie wholly below `offset`. Where the topic has a cold tier, the caller has made sure
    /// that their copies are committed.
    pub fn delete_local_below(&mut self, offset: Offset) -> Result<(), LogError> {
        let offset = offset.min(self.high_watermark);
        let everything = offset == self.log_end_offset && offset == self.log_start_offset;
        if everything && self.active().bytes() > 0 {
            // An empty segment takes the place of the active one, which then goes with the rest.
            self.roll()?;
        }
        let goes = self.segments[1..]
            .iter()
            .take_while(|next| next.base_offset <= offset)
            .count();
        if goes == 0 {
            return Ok(());
        }
        let gone: Vec<_> = self.segments.drain(..goes).collect();
        self.unflushed
            .retain(|s| !gone.iter().any(|g| Arc::ptr_eq(g, s)));
        self.shared_segments = Arc::new(self.segments.clone());
        for segment in gone {
            segment.remove_files()?;
        }
        Ok(())
    }
}
