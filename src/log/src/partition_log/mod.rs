//! The owner's side of a partition's log: its state, and the picture of it that readers get.
//!
//! Exactly one owner holds a [`PartitionLog`]. [`open`] makes one from a directory, [`append`] writes batches behind its
//! end, [`roll`] seals segments, [`truncate`] drops records at either end, [`replace`] swaps all segments at once.

mod append;
mod open;
mod replace;
mod roll;
mod truncate;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_types::{
    EpochStart, LeaderEpoch, MonotonicMs, Mutant, Offset, TimestampMs, TopicPartition, is_mutant,
};

use crate::config::LogConfig;
use crate::epochs::LeaderEpochs;
use crate::producer_state::ProducerState;
use crate::retention::SegmentAge;
use crate::segment::{SealedSegment, Segment};
use crate::view::LogView;

pub use append::AppendInfo;
pub use open::{OpenOptions, write_leader_epochs};

/// One partition's log. Not shared: exactly one owner holds it.
#[derive(Debug)]
pub struct PartitionLog {
    pub topic_partition: TopicPartition,
    directory: PathBuf,
    pub config: LogConfig,
    segments: Vec<Arc<Segment>>,
    shared_segments: Arc<Vec<Arc<Segment>>>,
    producers: ProducerState,
    epochs: Arc<LeaderEpochs>,
    log_start_offset: Offset,
    log_end_offset: Offset,
    high_watermark: Offset,
    flushed_offset: Offset,
    /// Segments with bytes at or above `flushed_offset`, oldest first; the active one is always the last candidate.
    unflushed: VecDeque<Arc<Segment>>,
    bytes_since_index_entry: u64,
    /// Timestamp of the active segment's first batch.
    active_first_timestamp_ms: Option<TimestampMs>,
    /// When a segment of this base offset was first written, as far as this process has looked.
    active_since: Option<(Offset, MonotonicMs)>,
    /// How often records were taken away at the end.
    cuts: u64,
}

impl PartitionLog {
    fn active(&self) -> &Arc<Segment> {
        self.segments
            .last()
            .expect("a log has at least one segment")
    }

    /// Counts the times that records were taken away at the end: bytes that were read before may not be there any more.
    pub fn cuts(&self) -> u64 {
        self.cuts
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn log_start_offset(&self) -> Offset {
        self.log_start_offset
    }

    pub fn log_end_offset(&self) -> Offset {
        self.log_end_offset
    }

    pub fn local_log_start_offset(&self) -> Offset {
        self.segments[0].base_offset.max(self.log_start_offset)
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Everything below is on disk.
    pub fn flushed_offset(&self) -> Offset {
        self.flushed_offset
    }

    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// Notes that this broker leads in `epoch` from the current end on.
    pub fn start_leader_epoch(&mut self, epoch: LeaderEpoch) {
        if is_mutant(Mutant::ForgetProducers) {
            self.producers.forget_all();
        }
        if self.epochs.latest().is_none_or(|latest| latest < epoch) {
            let start = self.log_end_offset;
            self.change_epochs(|epochs| {
                epochs.assign(epoch, start);
            });
        }
    }

    fn change_epochs(&mut self, change: impl FnOnce(&mut LeaderEpochs)) {
        let mut epochs = LeaderEpochs::clone(&self.epochs);
        change(&mut epochs);
        if epochs != *self.epochs {
            self.epochs = Arc::new(epochs);
        }
    }

    /// Leader epochs of `[base_offset, end_offset)`.
    pub fn epoch_range(&self, base_offset: Offset, end_offset: Offset) -> Vec<EpochStart> {
        self.epochs.range(base_offset, end_offset)
    }

    /// The segments that a flush must cover now, and the offset that is durable once it has succeeded.
    pub fn to_flush(&self) -> (Vec<Arc<Segment>>, Offset) {
        (
            self.unflushed.iter().cloned().collect(),
            self.log_end_offset,
        )
    }

    /// A flush that was asked for by [`PartitionLog::to_flush`] has succeeded up to `offset`.
    pub fn mark_flushed(&mut self, offset: Offset) {
        self.flushed_offset = self.flushed_offset.max(offset);
        while self.unflushed.len() > 1 && self.unflushed[1].base_offset <= self.flushed_offset {
            self.unflushed.pop_front();
        }
    }

    /// Moves the high watermark forward; it never moves back and never passes the log's end.
    pub fn advance_high_watermark(&mut self, to: Offset) -> bool {
        let to = to.min(self.log_end_offset);
        let advanced = to > self.high_watermark;
        self.high_watermark = self.high_watermark.max(to);
        advanced
    }

    /// The sequence numbers of every producer.
    pub fn producers(&self) -> &ProducerState {
        &self.producers
    }

    /// Forgets producers that have been silent for `producer.id.expiration.ms`.
    pub fn expire_producers(&mut self, now: MonotonicMs) {
        self.producers
            .expire(now, self.config.producer_id_expiration_ms);
    }

    /// Sealed segments in order, for retention.
    pub fn sealed_ages(&self) -> Vec<SegmentAge> {
        self.sealed_segments()
            .into_iter()
            .map(|s| SegmentAge {
                base_offset: s.base_offset,
                end_offset: s.end_offset,
                bytes: s.bytes,
                max_timestamp_ms: s.max_timestamp_ms,
                last_append_ms: s.last_append_ms,
            })
            .collect()
    }

    /// Sealed segments in order, for copying. If retention has expired every segment, it may seal the active one first.
    pub fn sealed_segments(&self) -> Vec<SealedSegment> {
        self.segments
            .windows(2)
            .map(|pair| pair[0].sealed(pair[1].base_offset))
            .collect()
    }

    /// The properties of the active segment by which retention decides.
    pub fn active_age(&self) -> SegmentAge {
        let active = self.active();
        SegmentAge {
            base_offset: active.base_offset,
            end_offset: self.log_end_offset,
            bytes: active.bytes(),
            max_timestamp_ms: active.max_timestamp_ms(),
            last_append_ms: active.last_append_ms(),
        }
    }

    pub fn active_bytes(&self) -> u64 {
        self.active().bytes()
    }

    /// The picture for readers.
    pub fn view(&self) -> LogView {
        LogView {
            segments: self.shared_segments.clone(),
            log_start_offset: self.log_start_offset,
            local_log_start_offset: self.local_log_start_offset(),
            log_end_offset: self.log_end_offset,
            high_watermark: self.high_watermark,
            // Without transactions the last stable offset is the high watermark.
            last_stable_offset: self.high_watermark,
            flushed_offset: self.flushed_offset,
            epochs: self.epochs.clone(),
            active_bytes: self.active().bytes(),
        }
    }
}
