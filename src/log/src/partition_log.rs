//! The owner's side of a partition's log: append, roll, delete, advance, publish.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use strandline_types::{
    EpochStart, LeaderEpoch, Mutant, Offset, TimestampMs, TopicPartition, is_mutant,
};
use strandline_wire::batch::{
    BATCH_HEADER_BYTES, BatchHeader, ValidatedBatch, patch_for_append, split_batches, verify_crc,
};

use crate::checkpoint::{read_epochs, write_epochs};
use crate::config::LogConfig;
use crate::epochs::LeaderEpochs;
use crate::error::{AppendError, FetchedError, LogError};
use crate::index::{OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES};
use crate::producer_state::{ProducerState, SequenceError};
use crate::recovery::{Recovered, RecoveryInput, recover};
use crate::retention::{SegmentAge, newest_record_ms};
use crate::segment::{SealedSegment, Segment, file_name};
use crate::view::LogView;

const EPOCH_FILE: &str = "leader-epoch-checkpoint";
/// Kernel limit on buffers in one vectored write.
const MAX_BUFFERS: usize = 1024;

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendInfo {
    pub base_offset: Offset,
    /// Exclusive; an `acks=all` answer waits until the high watermark reaches it.
    pub end_offset: Offset,
    /// −1 unless the broker stamped the records.
    pub log_append_time_ms: TimestampMs,
    /// The producer sent this batch before; nothing was appended now.
    pub duplicate: bool,
}

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
    /// How often records were taken away at the end.
    cuts: u64,
}

/// Writes the lineage of a partition's directory. It must be durable before a recovery point is that covers its epochs:
/// what lies above the recovery point tells its epochs itself.
pub fn write_leader_epochs(directory: &Path, epochs: &LeaderEpochs) -> std::io::Result<()> {
    write_epochs(&directory.join(EPOCH_FILE), epochs.entries())
}

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

    /// Drops all segments and begins empty at `offset`: the disk lost what the rest of the cluster has elsewhere.
    fn restart_at(&mut self, offset: Offset) -> Result<(), LogError> {
        self.cuts += 1;
        for segment in self.segments.drain(..) {
            segment.remove_files()?;
        }
        self.unflushed.clear();
        self.log_end_offset = offset;
        self.flushed_offset = offset;
        self.high_watermark = self.high_watermark.min(offset);
        self.producers = ProducerState::default();
        self.change_epochs(|epochs| epochs.truncate_from_end(offset));
        self.add_segment(offset)
    }

    /// Begins again, empty, where the leader's local log begins: what lies before is in the cold tier, from which
    /// lineage and producer state come. It is committed, so the high watermark is there as well. Both may reach beyond
    /// `offset`, where segments of another leader end elsewhere; what is fetched next says the same again.
    pub fn start_behind_cold_tier(
        &mut self,
        offset: Offset,
        log_start_offset: Offset,
        epochs: Vec<EpochStart>,
        producers: ProducerState,
    ) -> Result<(), LogError> {
        self.restart_at(offset)?;
        self.log_start_offset = log_start_offset;
        self.high_watermark = offset;
        let mut lineage = LeaderEpochs::from_entries(epochs);
        lineage.truncate_from_end(offset);
        self.epochs = Arc::new(lineage);
        self.producers = producers;
        let snapshot = file_name(&self.directory, offset, "snapshot");
        self.producers
            .write_snapshot(&snapshot)
            .map_err(LogError::io(&snapshot))
    }

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
        Ok(true)
    }

    fn active(&self) -> &Arc<Segment> {
        self.segments
            .last()
            .expect("a log has at least one segment")
    }

    /// Counts the times that records were taken away at the end: bytes that were read before may not be there any more.
    pub fn cuts(&self) -> u64 {
        self.cuts
    }

    /// Takes over what `from`, the same log in another directory, knows of epochs and producers.
    pub(crate) fn adopt(&mut self, from: &Self) {
        self.epochs = from.epochs.clone();
        self.producers = from.producers.clone();
        self.cuts = from.cuts;
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
            self.producers.expire(TimestampMs::MAX);
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

    /// Appends batches as the leader in `epoch`: checks sequences, gives offsets, writes them with as few system calls
    /// as segments allow. One result per batch, in order; a refused batch does not touch its neighbours.
    pub fn append(
        &mut self,
        batches: &[ValidatedBatch],
        epoch: LeaderEpoch,
        now_ms: TimestampMs,
    ) -> Vec<Result<AppendInfo, AppendError>> {
        let mut results = Vec::with_capacity(batches.len());
        let mut run = PendingWrite::default();
        for batch in batches {
            let result = self.stage(batch, epoch, now_ms, &mut run, &mut results);
            results.push(result);
        }
        // Each batch of the run has its own result.
        let _ = self.write_run(&mut run, now_ms, &mut results);
        results
    }

    /// Gives one batch its place in the run that will be written next, writing the run first where the batch must go
    /// into a new segment.
    fn stage(
        &mut self,
        batch: &ValidatedBatch,
        epoch: LeaderEpoch,
        now_ms: TimestampMs,
        run: &mut PendingWrite,
        results: &mut [Result<AppendInfo, AppendError>],
    ) -> Result<AppendInfo, AppendError> {
        let log_append_time_ms = match batch.header.timestamp_type() {
            strandline_wire::batch::TimestampType::LogAppendTime => batch.header.max_timestamp,
            strandline_wire::batch::TimestampType::CreateTime => -1,
        };
        let deleted = self.log_start_offset > 0;
        match self.producers.check(&batch.header, deleted) {
            Err(SequenceError::Duplicate {
                base_offset,
                timestamp_ms,
            }) => {
                return Ok(AppendInfo {
                    base_offset,
                    end_offset: base_offset + i64::from(batch.header.last_offset_delta) + 1,
                    log_append_time_ms: if log_append_time_ms < 0 {
                        -1
                    } else {
                        timestamp_ms
                    },
                    duplicate: true,
                });
            }
            Err(refused) => return Err(refused.into()),
            Ok(()) => {}
        }
        let size = batch.bytes.len() as u64;
        if size > self.config.segment_bytes {
            return Err(AppendError::LargerThanSegment {
                size,
                max: self.config.segment_bytes,
            });
        }
        let end = run.end_offset.unwrap_or(self.log_end_offset);
        if self.must_roll(&batch.header, run.bytes, end, now_ms) {
            self.write_run(run, now_ms, results)?;
            self.roll()?;
        }
        let base_offset = run.end_offset.unwrap_or(self.log_end_offset);
        let header = BatchHeader {
            base_offset,
            partition_leader_epoch: epoch.0,
            ..batch.header
        };
        self.producers.update(&header);
        run.push(
            header,
            patch_for_append(&batch.header, base_offset, epoch.0),
            &batch.bytes,
            results.len(),
        );
        Ok(AppendInfo {
            base_offset,
            end_offset: header.end_offset(),
            log_append_time_ms,
            duplicate: false,
        })
    }

    /// Appends whole batches as the leader wrote them: offsets and epochs are final. Every batch is checked; what follows
    /// a bad one is not appended.
    pub fn append_fetched(
        &mut self,
        records: &Bytes,
        now_ms: TimestampMs,
    ) -> Result<(), FetchedError> {
        let mut run = PendingWrite::default();
        let mut results = Vec::new();
        let mut bad = None;
        let mut epochs = LeaderEpochs::clone(&self.epochs);
        for found in split_batches(records) {
            let staged = found
                .map_err(|e| FetchedError::Corrupt(e.to_string()))
                .and_then(|(at, header)| {
                    let bytes = records.slice(at..at + header.size());
                    self.stage_fetched(header, bytes, now_ms, &mut run, &mut results)?;
                    epochs.assign(
                        LeaderEpoch(header.partition_leader_epoch),
                        header.base_offset,
                    );
                    Ok(())
                });
            if let Err(error) = staged {
                bad = Some(error);
                break;
            }
        }
        let written = self.write_run(&mut run, now_ms, &mut results);
        let result = match written {
            Ok(()) => bad.map_or(Ok(()), Err),
            Err(error) => Err(error.into()),
        };
        if result.is_err() {
            // Of what was to come, and did not.
            epochs.truncate_from_end(self.log_end_offset.max(1));
        }
        if epochs != *self.epochs {
            self.epochs = Arc::new(epochs);
        }
        result
    }

    fn stage_fetched(
        &mut self,
        header: BatchHeader,
        bytes: Bytes,
        now_ms: TimestampMs,
        run: &mut PendingWrite,
        results: &mut Vec<Result<AppendInfo, AppendError>>,
    ) -> Result<(), FetchedError> {
        let corrupt = |e: &dyn std::fmt::Display| {
            FetchedError::Corrupt(format!("offset {}: {e}", header.base_offset))
        };
        verify_crc(&header, &bytes).map_err(|e| corrupt(&e))?;
        let end = run.end_offset.unwrap_or(self.log_end_offset);
        if header.base_offset < end {
            return Err(corrupt(&format!("the log ends at {end} already")));
        }
        if self.must_roll(&header, run.bytes, header.base_offset, now_ms) {
            self.write_run(run, now_ms, results)?;
            self.roll()?;
        }
        self.producers.update(&header);
        let mut front = [0; 16];
        front.copy_from_slice(&bytes[..16]);
        run.push(header, front, &bytes, results.len());
        results.push(Ok(AppendInfo {
            base_offset: header.base_offset,
            end_offset: header.end_offset(),
            log_append_time_ms: -1,
            duplicate: false,
        }));
        Ok(())
    }

    fn must_roll(
        &self,
        next: &BatchHeader,
        pending: u64,
        end: Offset,
        now_ms: TimestampMs,
    ) -> bool {
        let active = self.active();
        let bytes = active.bytes() + pending;
        if bytes == 0 {
            return false;
        }
        let index_limit = u64::from(self.config.segment_index_bytes);
        bytes + next.size() as u64 > self.config.segment_bytes
            || self.is_overdue(next.max_timestamp, now_ms)
            || active.offset_index.0.bytes() + OFFSET_ENTRY_BYTES > index_limit
            || active.time_index.0.bytes() + TIME_ENTRY_BYTES > index_limit
            || end + i64::from(next.last_offset_delta) - active.base_offset > i64::from(i32::MAX)
    }

    /// `segment.ms` has passed between the segment's first batch and `timestamp_ms`, or by the broker's clock.
    fn is_overdue(&self, timestamp_ms: TimestampMs, now_ms: TimestampMs) -> bool {
        let active = self.active();
        let by_clock = now_ms.saturating_sub(active.first_append_ms.load(Ordering::Acquire));
        let by_records = self
            .active_first_timestamp_ms
            .filter(|first| *first >= 0 && timestamp_ms >= 0)
            .map_or(0, |first| timestamp_ms.saturating_sub(first));
        by_clock.max(by_records) > self.config.segment_ms
    }

    /// Writes what has gathered. An error is noted in the result of each batch of the run; nothing that was checked against
    /// them may follow.
    fn write_run(
        &mut self,
        run: &mut PendingWrite,
        now_ms: TimestampMs,
        results: &mut [Result<AppendInfo, AppendError>],
    ) -> Result<(), LogError> {
        let run = std::mem::take(run);
        if run.batches.is_empty() {
            return Ok(());
        }
        let active = self.active().clone();
        let start = active.bytes();
        if let Err(error) = run.write(&active, start) {
            // The bytes behind `start` are garbage nobody can see; the next append writes over them. The producer
            // state is rebuilt, because it already counted these batches.
            let _ = active.file().set_len(start);
            let failed = || LogError::Io {
                path: active.log_path.clone(),
                source: std::io::Error::other(error.to_string()),
            };
            for at in &run.result_at {
                results[*at] = Err(AppendError::Log(failed()));
            }
            // A duplicate of what was not written is none.
            for result in results.iter_mut() {
                if matches!(result, Ok(info) if info.end_offset > self.log_end_offset) {
                    *result = Err(AppendError::Log(failed()));
                }
            }
            self.rebuild_producers();
            return Err(failed());
        }
        if start == 0 {
            active.first_append_ms.store(now_ms, Ordering::Release);
            self.active_first_timestamp_ms = run.batches.first().map(|b| b.header.max_timestamp);
        }
        let mut position = start;
        for batch in &run.batches {
            active.note_timestamp(batch.header.max_timestamp, batch.header.last_offset());
            if self.bytes_since_index_entry > u64::from(self.config.index_interval_bytes) {
                // A missing entry costs a longer scan and nothing else, so a failed write here is no error.
                let _ = active.push_index_entries(batch.header.last_offset(), position);
                self.bytes_since_index_entry = 0;
            }
            self.bytes_since_index_entry += batch.header.size() as u64;
            position += batch.header.size() as u64;
        }
        active.publish_bytes(position);
        self.log_end_offset = run.end_offset.expect("a run that is not empty has an end");
        Ok(())
    }

    /// Replays the last two segments after a failed write or a truncation: a snapshot knows one batch of each producer,
    /// and five must be recognised.
    fn rebuild_producers(&mut self) {
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

    /// Seals the active segment and begins a new one.
    fn roll(&mut self) -> Result<(), LogError> {
        let active = self.active().clone();
        active
            .push_time_entry()
            .map_err(LogError::io(&active.log_path))?;
        active
            .offset_index
            .0
            .sync()
            .map_err(LogError::io(&active.log_path))?;
        active
            .time_index
            .0
            .sync()
            .map_err(LogError::io(&active.log_path))?;
        let snapshot = file_name(&self.directory, self.log_end_offset, "snapshot");
        self.producers
            .write_snapshot(&snapshot)
            .map_err(LogError::io(&snapshot))?;
        self.add_segment(self.log_end_offset)
    }

    fn add_segment(&mut self, base_offset: Offset) -> Result<(), LogError> {
        let segment = Arc::new(Segment::open(&self.directory, base_offset)?);
        self.segments.push(segment.clone());
        self.unflushed.push_back(segment);
        self.shared_segments = Arc::new(self.segments.clone());
        self.bytes_since_index_entry = 0;
        self.active_first_timestamp_ms = None;
        Ok(())
    }

    /// Rolls an active segment that is not empty and older than `segment.ms`, though nobody appends. Returns whether
    /// it did.
    pub fn roll_if_overdue(&mut self, now_ms: TimestampMs) -> Result<bool, LogError> {
        let due = self.active().bytes() > 0 && self.is_overdue(-1, now_ms);
        if due {
            self.roll()?;
        }
        Ok(due)
    }

    /// Rolls an active segment whose newest record is older than `retention_ms`, so that it can be deleted as any other
    /// one: without appends, no clock of its own would seal it. Only what is committed. Returns whether it did.
    pub fn roll_if_expired(
        &mut self,
        retention_ms: i64,
        now_ms: TimestampMs,
    ) -> Result<bool, LogError> {
        let committed = self.high_watermark() >= self.log_end_offset;
        if retention_ms < 0 || self.active_bytes() == 0 || !committed {
            return Ok(false);
        }
        let expired = now_ms - newest_record_ms(&self.active_age(), now_ms) > retention_ms;
        if expired {
            self.roll()?;
        }
        Ok(expired)
    }

    /// Forgets producers that have been silent for `producer.id.expiration.ms`.
    pub fn expire_producers(&mut self, now_ms: TimestampMs) {
        self.producers
            .expire(now_ms - self.config.producer_id_expiration_ms);
    }

    /// The segments that a flush must cover now, and the offset that is durable once it has succeeded.
    pub fn to_flush(&self) -> (Vec<Arc<Segment>>, Offset) {
        (
            self.unflushed.iter().cloned().collect(),
            self.log_end_offset,
        )
    }

    pub fn needs_flush(&self) -> bool {
        self.flushed_offset < self.log_end_offset
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

    /// Sealed segments in order, for retention.
    pub fn sealed_ages(&self) -> Vec<SegmentAge> {
        self.sealed_segments()
            .into_iter()
            .map(|s| SegmentAge {
                base_offset: s.base_offset,
                end_offset: s.end_offset,
                bytes: s.bytes,
                max_timestamp_ms: s.max_timestamp_ms,
                first_append_ms: s.sealed_ms,
            })
            .collect()
    }

    /// Sealed segments in order, for whoever copies them. Retention of everything may seal the active one first.
    pub fn sealed_segments(&self) -> Vec<SealedSegment> {
        self.segments
            .windows(2)
            .map(|pair| pair[0].sealed(pair[1].base_offset))
            .collect()
    }

    /// What retention looks at in the active segment.
    pub fn active_age(&self) -> SegmentAge {
        let active = self.active();
        SegmentAge {
            base_offset: active.base_offset,
            end_offset: self.log_end_offset,
            bytes: active.bytes(),
            max_timestamp_ms: active.max_timestamp_ms(),
            first_append_ms: active.first_append_ms.load(Ordering::Acquire),
        }
    }

    pub fn active_bytes(&self) -> u64 {
        self.active().bytes()
    }

    /// Seals the active segment so that retention or copying can reach it. Does nothing on an empty one.
    pub fn seal_active(&mut self) -> Result<(), LogError> {
        if self.active().bytes() > 0 {
            self.roll()
        } else {
            Ok(())
        }
    }

    /// Leader epochs of `[base_offset, end_offset)`.
    pub fn epoch_range(&self, base_offset: Offset, end_offset: Offset) -> Vec<EpochStart> {
        self.epochs.range(base_offset, end_offset)
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

/// Batches of one append that go to the same segment.
#[derive(Default)]
struct PendingWrite {
    batches: Vec<StagedBatch>,
    result_at: Vec<usize>,
    bytes: u64,
    end_offset: Option<Offset>,
}

struct StagedBatch {
    header: BatchHeader,
    front: [u8; 16],
    rest: Bytes,
}

impl PendingWrite {
    fn push(&mut self, header: BatchHeader, front: [u8; 16], bytes: &Bytes, result_at: usize) {
        debug_assert!(bytes.len() >= BATCH_HEADER_BYTES);
        self.bytes += bytes.len() as u64;
        self.end_offset = Some(header.end_offset());
        self.result_at.push(result_at);
        self.batches.push(StagedBatch {
            header,
            front,
            rest: bytes.slice(16..),
        });
    }

    fn write(&self, segment: &Segment, mut position: u64) -> std::io::Result<()> {
        let mut slices = Vec::with_capacity(self.batches.len() * 2);
        for batch in &self.batches {
            slices.push(IoSlice::new(&batch.front));
            slices.push(IoSlice::new(&batch.rest));
        }
        let mut left = &mut slices[..];
        while !left.is_empty() {
            let count = left.len().min(MAX_BUFFERS);
            let written = rustix::io::pwritev(segment.file(), &left[..count], position)?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            position += written as u64;
            IoSlice::advance_slices(&mut left, written);
        }
        Ok(())
    }
}
