//! Dropping records: a follower truncates at the end, retention and `DeleteRecords` delete at the start.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use strandline_types::Offset;

use super::PartitionLog;
use crate::error::LogError;
use crate::header_walk::HeaderWalk;
use crate::log_start::write_log_start;
use crate::producer_state::{ProducerState, load_snapshot};
use crate::recovery::last_with_snapshot;
use crate::segment::{Segment, file_name};

impl PartitionLog {
    /// Truncates the log at `offset`, by whole batches only, because another leader's log continues from there. Returns
    /// whether the log became shorter.
    ///
    /// Crash consistency: the caller writes the recovery point before anything is appended behind the truncation; until
    /// then a crash finds a log that is merely shorter than its recovery point.
    pub fn truncate(&mut self, offset: Offset) -> Result<bool, LogError> {
        if offset >= self.log_end_offset {
            return Ok(false);
        }
        if offset <= self.segments[0].base_offset {
            if offset < self.log_start_offset {
                write_log_start(&self.directory, offset)?;
                self.log_start_offset = offset;
            }
            self.restart_at(offset)?;
            return Ok(true);
        }
        self.cuts += 1;
        let keep = self.segments.partition_point(|s| s.base_offset < offset);
        // The newest first: a crash must not leave a hole in front of one that stays.
        for gone in self.segments.split_off(keep).into_iter().rev() {
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
        self.rebuild_producers()?;
        if end_offset < self.log_start_offset {
            // The truncation point lies in the batch that holds the log start. No offset below the log start is
            // assigned again.
            let start = self.log_start_offset.min(offset);
            if start < self.log_start_offset {
                write_log_start(&self.directory, start)?;
                self.log_start_offset = start;
            }
            self.restart_at(start)?;
            self.high_watermark = start;
        }
        Ok(true)
    }

    /// Replays the last two segments after a failed write or a truncation: a snapshot knows one batch of each producer,
    /// and five must be recognised. Where the snapshot before them is damaged, the replay begins at an earlier one.
    pub(super) fn rebuild_producers(&mut self) -> Result<(), LogError> {
        let two = self.segments.len().saturating_sub(2);
        let from = last_with_snapshot(&self.segments, two, &self.directory)?;
        let last = self.segments.get(from..).unwrap_or_default();
        let mut producers = ProducerState::default();
        if let Some(first) = last.first() {
            let snapshot = file_name(&self.directory, first.base_offset, "snapshot");
            producers = load_snapshot(&snapshot)?.unwrap_or_default();
        }
        for segment in last {
            let mut headers = HeaderWalk::new(segment);
            let mut position = 0;
            while let Some(header) = headers.header_at(position)? {
                producers.update(&header);
                position += header.size() as u64;
            }
        }
        self.producers = producers;
        Ok(())
    }

    /// Raises the log start, durably, and drops segments that lie wholly below it, but never the active one.
    pub fn advance_log_start(&mut self, to: Offset) -> Result<(), LogError> {
        let to = to.min(self.high_watermark);
        if to <= self.log_start_offset {
            return Ok(());
        }
        write_log_start(&self.directory, to)?;
        self.raise_log_start(to)
    }

    /// Raises the log start to `to`, for a log without records below `to` in a cold tier. At a border of segments, the
    /// name of the first remaining segment tells the log start, and nothing else is written.
    pub fn retain_from(&mut self, to: Offset) -> Result<(), LogError> {
        let to = to.min(self.high_watermark);
        let names_it =
            |s: &Arc<Segment>| s.base_offset == to && !s.new_in_directory.load(Ordering::Acquire);
        if to > self.log_start_offset && self.segments.iter().any(names_it) {
            return self.raise_log_start(to);
        }
        self.advance_log_start(to)
    }

    fn raise_log_start(&mut self, to: Offset) -> Result<(), LogError> {
        self.log_start_offset = to;
        self.change_epochs(|epochs| epochs.truncate_from_start(to));
        self.delete_local_below(to)
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
