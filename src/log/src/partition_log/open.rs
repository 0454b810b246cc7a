//! Opening a log: the findings of recovery become the owner's state.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use strandline_types::{EpochStart, Offset, TopicPartition};

use super::PartitionLog;
use crate::checkpoint::{Found, read_epochs, write_epochs};
use crate::config::LogConfig;
use crate::epochs::LeaderEpochs;
use crate::error::LogError;
use crate::log_start::read_log_start;
use crate::recovery::{Lineage, NOTHING_MAY_BE_CUT, Recovered, RecoveryInput, recover};

const EPOCH_FILE: &str = "leader-epoch-checkpoint";

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub config: LogConfig,
    /// Everything below was flushed; [`OpenOptions::NOTHING_MAY_BE_CUT`] where it is not known.
    pub recovery_point: Offset,
    /// The log start in the log directory's checkpoint. A log start in the partition's own directory takes precedence.
    pub log_start_offset: Offset,
    /// Where the readable remote segments begin, if there are any.
    pub first_remote_offset: Option<Offset>,
    /// The lineage of the remote segments, in case the local one is lost.
    pub remote_epochs: Vec<EpochStart>,
    /// The high watermark in the checkpoint; it may lag.
    pub high_watermark: Offset,
    pub clean: bool,
}

impl OpenOptions {
    /// The recovery point if everything may have been flushed: damage is then an error wherever it lies.
    pub const NOTHING_MAY_BE_CUT: Offset = NOTHING_MAY_BE_CUT;

    /// Options for a log of which only the directory is known.
    pub fn new(config: LogConfig) -> Self {
        Self {
            config,
            recovery_point: 0,
            log_start_offset: 0,
            first_remote_offset: None,
            remote_epochs: Vec::new(),
            high_watermark: 0,
            clean: false,
        }
    }
}

/// Writes the lineage of a partition's directory. The lineage must be durable before a recovery point that covers its
/// epochs: recovery reads the epochs of batches above the recovery point from the batches themselves.
pub fn write_leader_epochs(directory: &Path, epochs: &LeaderEpochs) -> std::io::Result<()> {
    write_epochs(&directory.join(EPOCH_FILE), epochs.entries())
}

impl PartitionLog {
    /// Opens or creates the log in `directory`, and repairs the traces of a crash.
    pub fn open(
        topic_partition: TopicPartition,
        directory: &Path,
        options: OpenOptions,
    ) -> Result<Self, LogError> {
        let lineage_path = directory.join(EPOCH_FILE);
        let lineage = match read_epochs(&lineage_path).map_err(LogError::io(&lineage_path))? {
            Found::Whole(entries) => Lineage::Written(LeaderEpochs::from_entries(entries)),
            Found::Missing | Found::Damaged => Lineage::Lost {
                remote: LeaderEpochs::from_entries(options.remote_epochs),
            },
        };
        let recorded = read_log_start(directory)?.unwrap_or(options.log_start_offset);
        let Recovered {
            segments,
            log_start_offset,
            log_end_offset,
            producers,
            epochs,
            bytes_since_index_entry,
        } = recover(RecoveryInput {
            directory,
            config: &options.config,
            recovery_point: options.recovery_point,
            clean: options.clean,
            lineage,
            log_start_offset: recorded,
            first_remote_offset: options.first_remote_offset,
        })?;
        let active = segments
            .last()
            .expect("a log has at least one segment")
            .clone();
        let active_first = active.header_at(0, active.bytes())?;
        let mut log = Self {
            topic_partition,
            directory: directory.to_path_buf(),
            config: options.config,
            shared_segments: Arc::new(segments.clone()),
            log_start_offset,
            log_end_offset,
            high_watermark: options
                .high_watermark
                .clamp(log_start_offset, log_end_offset.max(log_start_offset)),
            // The records that recovery kept were either flushed before, or the caller flushes them before
            // acknowledging them.
            flushed_offset: options.recovery_point.min(log_end_offset),
            unflushed: segments
                .iter()
                .filter(|s| !options.clean || s.new_in_directory.load(Ordering::Acquire))
                .cloned()
                .collect(),
            segments,
            producers,
            epochs: Arc::new(epochs),
            bytes_since_index_entry,
            active_first_timestamp_ms: active_first.map(|h| h.max_timestamp),
            active_since: None,
            cuts: 0,
        };
        if log.log_end_offset < log.log_start_offset {
            log.restart_at(log.log_start_offset)?;
            return Ok(log);
        }
        if !log.unflushed.iter().any(|s| Arc::ptr_eq(s, &active)) {
            log.unflushed.push_back(active);
        }
        Ok(log)
    }
}
