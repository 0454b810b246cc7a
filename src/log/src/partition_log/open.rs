//! Opening a log: what recovery found in a directory becomes the owner's state.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use strandline_types::{Offset, TopicPartition};

use super::PartitionLog;
use crate::checkpoint::{read_epochs, write_epochs};
use crate::config::LogConfig;
use crate::epochs::LeaderEpochs;
use crate::error::LogError;
use crate::recovery::{Recovered, RecoveryInput, recover};

const EPOCH_FILE: &str = "leader-epoch-checkpoint";

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    pub config: LogConfig,
    pub recovery_point: Offset,
    pub log_start_offset: Offset,
    /// As it was written last; it may lag.
    pub high_watermark: Offset,
    pub clean: bool,
}

/// Writes the lineage of a partition's directory. It must be durable before a recovery point is that covers its epochs:
/// what lies above the recovery point tells its epochs itself.
pub fn write_leader_epochs(directory: &Path, epochs: &LeaderEpochs) -> std::io::Result<()> {
    write_epochs(&directory.join(EPOCH_FILE), epochs.entries())
}

impl PartitionLog {
    /// Opens or creates the log in `directory`, repairing what a crash left.
    pub fn open(
        topic_partition: TopicPartition,
        directory: &Path,
        options: OpenOptions,
    ) -> Result<Self, LogError> {
        let epochs = LeaderEpochs::from_entries(
            read_epochs(&directory.join(EPOCH_FILE)).unwrap_or_default(),
        );
        let Recovered {
            segments,
            log_end_offset,
            producers,
            epochs,
            bytes_since_index_entry,
        } = recover(RecoveryInput {
            directory,
            config: &options.config,
            recovery_point: options.recovery_point,
            clean: options.clean,
            epochs,
            log_start_offset: options.log_start_offset,
        })?;
        let active = segments
            .last()
            .expect("a log has at least one segment")
            .clone();
        let active_first = active.header_at(0, active.bytes()).ok().flatten();
        let mut log = Self {
            topic_partition,
            directory: directory.to_path_buf(),
            config: options.config,
            shared_segments: Arc::new(segments.clone()),
            log_start_offset: options.log_start_offset,
            log_end_offset,
            high_watermark: options.high_watermark.clamp(
                options.log_start_offset,
                log_end_offset.max(options.log_start_offset),
            ),
            // What recovery kept was either flushed before or is flushed by the caller before it is acknowledged.
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
        }
        if !log.unflushed.iter().any(|s| Arc::ptr_eq(s, &active)) {
            log.unflushed.push_back(active);
        }
        Ok(log)
    }
}
