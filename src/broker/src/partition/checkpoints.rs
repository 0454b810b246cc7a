//! Checkpoints of the log directories: recovery points, high watermarks, log starts, and the lineage of each partition.
//!
//! Crash consistency: checkpoints lag; recovery reads the batches that they do not cover. Checkpoints know partitions
//! by name, so a name is removed from them, durably, before a directory is created under it. A replica that is offline
//! keeps its entries: without a recovery point, the next start would truncate bytes that this start refused to
//! truncate.

use std::io;
use std::sync::{Arc, MutexGuard};

use strandline_log::{LogDir, LogView, OffsetCheckpoint, OpenOptions, write_leader_epochs};
use strandline_types::{Offset, TopicPartition};

use super::handle::{Partition, StoredLineage};
use super::table::PartitionManager;

/// The checkpoints of one directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DirectoryCheckpoints {
    pub recovery_points: OffsetCheckpoint,
    pub high_watermarks: OffsetCheckpoint,
    pub log_starts: OffsetCheckpoint,
    /// The recovery points could not be read: those that are not here are not known.
    pub recovery_points_are_lost: bool,
}

impl DirectoryCheckpoints {
    /// Reads the checkpoints of the last process. A lost high watermark is found again among the replicas, and a lost
    /// log start in the partition's own directory; a lost recovery point is not.
    pub fn read(dir: &LogDir) -> Self {
        let lost = |what: &str, error: &io::Error| {
            tracing::error!(directory = %dir.path.display(), %error, "the checkpoint of {what} cannot be read");
        };
        let points = dir.read_recovery_points();
        if let Err(error) = &points {
            lost("recovery points", error);
        }
        let read = |what, found: io::Result<OffsetCheckpoint>| {
            found.unwrap_or_else(|error| {
                lost(what, &error);
                OffsetCheckpoint::default()
            })
        };
        Self {
            recovery_points_are_lost: points.is_err(),
            recovery_points: points.unwrap_or_default(),
            high_watermarks: read("high watermarks", dir.read_high_watermarks()),
            log_starts: read("log starts", dir.read_log_starts()),
        }
    }

    /// The recovery point of a log in this directory.
    pub fn recovery_point(&self, tp: &TopicPartition) -> Offset {
        let unknown = if self.recovery_points_are_lost {
            OpenOptions::NOTHING_MAY_BE_CUT
        } else {
            0
        };
        self.recovery_points.get(tp).copied().unwrap_or(unknown)
    }

    fn knows(&self, tp: &TopicPartition) -> bool {
        let all = [
            &self.recovery_points,
            &self.high_watermarks,
            &self.log_starts,
        ];
        all.iter().any(|map| map.contains_key(tp))
    }

    fn forget(&mut self, tp: &TopicPartition) {
        self.recovery_points.remove(tp);
        self.high_watermarks.remove(tp);
        self.log_starts.remove(tp);
    }

    /// Keeps the old entries of a partition that has no new ones.
    fn keep(&mut self, tp: &TopicPartition, before: &Self) {
        self.recovery_points
            .insert(tp.clone(), before.recovery_point(tp));
        if let Some(offset) = before.high_watermarks.get(tp) {
            self.high_watermarks.insert(tp.clone(), *offset);
        }
        if let Some(offset) = before.log_starts.get(tp) {
            self.log_starts.insert(tp.clone(), *offset);
        }
    }

    fn note(&mut self, tp: &TopicPartition, view: &LogView) {
        self.recovery_points.insert(tp.clone(), view.flushed_offset);
        self.high_watermarks.insert(tp.clone(), view.high_watermark);
        self.log_starts.insert(tp.clone(), view.log_start_offset);
    }

    /// Lost recovery points are not overwritten by fewer: the next start must find that they are lost.
    fn write(&self, dir: &LogDir) -> io::Result<()> {
        if !self.recovery_points_are_lost {
            dir.write_recovery_points(&self.recovery_points)?;
        }
        dir.write_high_watermarks(&self.high_watermarks)?;
        dir.write_log_starts(&self.log_starts)
    }
}

impl PartitionManager {
    fn written(&self) -> MutexGuard<'_, Vec<DirectoryCheckpoints>> {
        self.written.lock().expect("no holder panics")
    }

    /// Writes the checkpoints of every directory in which they have changed. Blocks.
    pub fn write_checkpoints(&self) {
        let mut written = self.written();
        // Loaded behind the lock: a name that was forgotten is in no table that is loaded later.
        let table = self.table.load();
        for (index, dir) in self.log_dirs.usable() {
            let mut now = DirectoryCheckpoints::default();
            let Some(before) = written.get_mut(index) else {
                continue;
            };
            for partition in table.values().filter(|p| p.log_dir() == index) {
                let tp = &partition.topic_partition;
                // Recovery does not read batches below a recovery point again, so their epochs must be on disk first.
                match partition.store_epochs(dir) {
                    Ok(view) => now.note(tp, &view),
                    Err(error) => {
                        // The partition may have moved to another directory meanwhile.
                        if error.kind() != io::ErrorKind::NotFound {
                            self.log_dirs.health.report_io(&dir.path, &error);
                        }
                        tracing::error!(partition = %tp, %error, "the leader epochs were not written");
                        now.keep(tp, before);
                    }
                }
            }
            for tp in self.failed_in(index) {
                now.keep(&tp, before);
            }
            if *before == now {
                continue;
            }
            match now.write(dir) {
                Ok(()) => *before = now,
                Err(error) => {
                    self.log_dirs.health.report_io(&dir.path, &error);
                    tracing::error!(directory = %dir.path.display(), %error, "checkpoints were not written");
                }
            }
        }
    }

    fn failed_in(&self, log_dir: usize) -> Vec<TopicPartition> {
        let failed = self.failed.lock().expect("no holder panics");
        let here = failed
            .values()
            .filter(|f| f.directories.iter().any(|(index, _)| *index == log_dir));
        here.map(|f| f.topic_partition.clone()).collect()
    }

    /// Removes these names from the checkpoints of all directories, durably: the entries belong to directories that are
    /// gone. Blocks.
    pub(super) fn forget_checkpoints(&self, names: &[TopicPartition]) -> io::Result<()> {
        let mut written = self.written();
        for ((index, dir), before) in self
            .log_dirs
            .dirs
            .iter()
            .enumerate()
            .zip(written.iter_mut())
        {
            if self.log_dirs.is_failed(index) || !names.iter().any(|tp| before.knows(tp)) {
                continue;
            }
            let mut now = before.clone();
            names.iter().for_each(|tp| now.forget(tp));
            now.write(dir).inspect_err(|error| {
                self.log_dirs.health.report_io(&dir.path, error);
            })?;
            *before = now;
        }
        Ok(())
    }
}

impl Partition {
    /// Writes the lineage where it has changed, and the partition has not been closed; returns the view that has it.
    fn store_epochs(&self, dir: &LogDir) -> io::Result<Arc<LogView>> {
        let mut stored = self.stored_lineage();
        // Loaded behind the lock: an owner that writes a lineage itself publishes it before it releases the lock.
        let view = self.view();
        if !stored.closed && stored.epochs != view.epochs {
            write_leader_epochs(&dir.partition_path(&self.topic_partition), &view.epochs)?;
            stored.epochs = view.epochs.clone();
        }
        Ok(view)
    }

    /// The lineage on disk. Only the holder of this lock writes it.
    pub(super) fn stored_lineage(&self) -> MutexGuard<'_, StoredLineage> {
        self.stored_epochs.lock().expect("no holder panics")
    }

    /// Stops all writes into the partition's directory: its name may soon belong to another topic.
    pub(super) fn close_lineage(&self) {
        self.stored_lineage().closed = true;
    }
}
