//! Replacing all segments at once: the log begins again, empty, at another offset, or continues in another directory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_types::{EpochStart, Offset};
use strandline_wire::batch::BatchHeader;

use super::{OpenOptions, PartitionLog, write_leader_epochs};
use crate::checkpoint::sync_directory;
use crate::epochs::LeaderEpochs;
use crate::error::LogError;
use crate::log_start::write_log_start;
use crate::producer_state::ProducerState;
use crate::relocation::{REPLACES_ANOTHER, Relocation};
use crate::segment::{EXTENSIONS, Segment, file_name};

impl PartitionLog {
    /// Drops all segments and begins empty at `offset`: the disk lost records that the rest of the cluster has
    /// elsewhere.
    pub(super) fn restart_at(&mut self, offset: Offset) -> Result<(), LogError> {
        self.cuts += 1;
        // The newest first: a crash leaves a log that is merely shorter.
        for segment in self.segments.iter().rev() {
            segment.remove_files()?;
        }
        // After an error the log still has its segments, though their files may be gone.
        let segment = Arc::new(Segment::open(&self.directory, offset)?);
        self.segments.clear();
        self.unflushed.clear();
        self.push_segment(segment);
        self.log_end_offset = offset;
        self.flushed_offset = offset;
        self.high_watermark = self.high_watermark.min(offset);
        self.producers = ProducerState::default();
        self.change_epochs(|epochs| epochs.truncate_from_end(offset));
        Ok(())
    }

    /// Begins again, empty, where the leader's local log begins: earlier records are in the cold tier, and lineage and
    /// producer state come from there. Records in the cold tier are committed, so `offset` is the high watermark as
    /// well. Lineage and producer state may reach beyond `offset`, where segments of another leader end elsewhere; the
    /// next batches that are fetched repeat this part.
    pub fn start_behind_cold_tier(
        &mut self,
        offset: Offset,
        log_start_offset: Offset,
        epochs: Vec<EpochStart>,
        producers: ProducerState,
    ) -> Result<(), LogError> {
        let mut lineage = LeaderEpochs::from_entries(epochs);
        lineage.truncate_from_end(offset);
        // Write the lineage before the log begins at `offset`: with the old lineage, a crash would make recovery read
        // the epochs below as those of another history. A lineage that is ahead of the log is truncated at the log's
        // end.
        write_leader_epochs(&self.directory, &lineage).map_err(LogError::io(&self.directory))?;
        write_log_start(&self.directory, log_start_offset)?;
        self.log_start_offset = log_start_offset;
        self.restart_at(offset)?;
        self.high_watermark = offset;
        self.epochs = Arc::new(lineage);
        self.producers = producers;
        let snapshot = file_name(&self.directory, offset, "snapshot");
        self.producers
            .write_snapshot(&snapshot)
            .map_err(LogError::io(&snapshot))
    }

    /// Lets an empty log begin with `batch`, which contains the log's end offset: the log start may lie inside a batch,
    /// and followers fetch whole batches. The log then begins at the batch's base offset, as in Kafka; the log start
    /// does not change. Returns whether the log was empty and the batch fits.
    ///
    /// Crash consistency: a recovery point at the log start may stay on disk although the log now begins below it. No
    /// record below this recovery point may be read, so recovery can truncate the batch if it was torn.
    pub(super) fn begin_with(&mut self, batch: &BatchHeader) -> Result<bool, LogError> {
        let end = self.log_end_offset;
        let is_empty = self.segments.len() == 1 && self.active_bytes() == 0;
        if !is_empty || !(batch.base_offset..=batch.last_offset()).contains(&end) {
            return Ok(false);
        }
        let (epochs, high_watermark) = (self.epochs.clone(), self.high_watermark);
        let producers = std::mem::take(&mut self.producers);
        self.restart_at(batch.base_offset)?;
        self.epochs = epochs;
        self.high_watermark = high_watermark;
        self.producers = producers;
        let snapshot = file_name(&self.directory, batch.base_offset, "snapshot");
        self.producers
            .write_snapshot(&snapshot)
            .map_err(LogError::io(&snapshot))?;
        Ok(true)
    }

    /// Ends a relocation: copies the rest, and continues in `to`, durable up to its end. Returns the directory that
    /// must be deleted, or the relocation if it must begin again because this log was truncated in the meantime.
    ///
    /// After an error nothing has changed.
    pub fn relocate(
        &mut self,
        mut relocation: Relocation,
        to: &Path,
    ) -> Result<Result<PathBuf, Relocation>, LogError> {
        if relocation.cuts != self.cuts() {
            return Ok(Err(relocation));
        }
        self.prepare_to_close()?;
        let view = self.view();
        relocation.copy(&view, u64::MAX)?;
        let target = relocation.target.as_path();
        let segments = &view.segments;
        let active = segments.last().expect("a log has at least one segment");
        relocation.copy_companions(active, view.log_end_offset)?;
        let known: BTreeSet<Offset> = segments.iter().map(|s| s.base_offset).collect();
        // Segments that retention deleted during the copy must not come back, and the copy may have them in part only.
        for gone in relocation.begun.difference(&known) {
            for extension in EXTENSIONS {
                // Not every segment has every file.
                let _ = fs::remove_file(file_name(target, *gone, extension));
            }
        }
        write_leader_epochs(target, self.epochs()).map_err(LogError::io(target))?;
        write_log_start(target, self.log_start_offset())?;
        let marker = target.join(REPLACES_ANOTHER);
        fs::write(&marker, "").map_err(LogError::io(&marker))?;
        sync_directory(target).map_err(LogError::io(target))?;
        let parent = to.parent().unwrap_or(Path::new("."));
        fs::rename(target, to).map_err(LogError::io(to))?;
        let opened = sync_directory(parent)
            .map_err(LogError::io(parent))
            .and_then(|()| self.open_there(to));
        match opened {
            Ok(moved) => {
                let old = self.directory().to_path_buf();
                *self = moved;
                Ok(Ok(old))
            }
            Err(error) => {
                let _ = fs::rename(to, target);
                Err(error)
            }
        }
    }

    fn open_there(&self, to: &Path) -> Result<Self, LogError> {
        let options = OpenOptions {
            // Records below the local log are in the cold tier; otherwise the log start would be higher.
            first_remote_offset: Some(self.log_start_offset()),
            remote_epochs: Vec::new(),
            config: self.config,
            recovery_point: self.log_end_offset(),
            log_start_offset: self.log_start_offset(),
            high_watermark: self.high_watermark(),
            clean: true,
        };
        let mut moved = Self::open(self.topic_partition.clone(), to, options)?;
        if moved.log_end_offset() != self.log_end_offset() {
            return Err(LogError::Corrupt {
                path: to.to_path_buf(),
                position: 0,
                offset: moved.log_end_offset(),
                reason: format!(
                    "the copy ends at {}, the log at {}",
                    moved.log_end_offset(),
                    self.log_end_offset()
                ),
            });
        }
        moved.mark_flushed(self.log_end_offset());
        moved.adopt(self);
        Ok(moved)
    }

    /// Takes over the epochs and producers of `from`, the same log in another directory.
    fn adopt(&mut self, from: &Self) {
        self.epochs = from.epochs.clone();
        self.producers = from.producers.clone();
        self.cuts = from.cuts;
    }
}
