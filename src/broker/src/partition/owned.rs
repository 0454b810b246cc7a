//! A partition in the hands of its owner: the log, its role, its flushes, and the appends that wait.
//!
//! After each change the owner requests a flush, advances the high watermark, publishes the view, and only then
//! answers: readers must see a batch before its producer gets the acknowledgement.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use strandline_log::{
    AppendError, AppendInfo, FetchedError, LogDir, LogError, PartitionLog, ProducerState,
    Relocation, SequenceError,
};
use strandline_replication::Leadership;
use strandline_types::{BrokerId, EpochStart, MonotonicMs, Mutant, Offset, is_mutant};
use strandline_wire::ErrorCode;
use strandline_wire::batch::BatchHeader;
use tokio::sync::{mpsc, oneshot};

use super::acks::WaitingAppends;
use super::deletions::WaitingDeletions;
use super::flusher::FlushRequest;
use super::gathered::Gathered;
use super::handle::{Acks, AppendReply, FetchedRecords, Partition, PartitionError};
use super::leadership::{Followed, IsrRequest, ReplicaState};
use super::shard::ShardMessage;
use crate::clock::{monotonic, now_ms};

/// A partition in the hands of its owner.
pub struct OwnedPartition {
    pub(super) log: PartitionLog,
    pub handle: Arc<Partition>,
    pub(super) node_id: BrokerId,
    pub(super) state: ReplicaState,
    /// When this broker began to lead.
    pub(super) led_since: Instant,
    /// This broker should lead but does not serve: see [`OwnedPartition::step_aside`].
    pub(super) aside: bool,
    /// A leadership that begins when log and cold tier are one log: see [`OwnedPartition::take_over`].
    pub(super) takeover: Option<Leadership>,
    /// The queue of wishes about the ISR; each partition has at most one under way.
    pub(super) isr_requests: mpsc::UnboundedSender<IsrRequest>,
    flusher: mpsc::UnboundedSender<FlushRequest>,
    /// Counts the directories that the log was in.
    pub(super) generation: u64,
    /// A flush is under way; the next one is asked for when it ends.
    flushing: bool,
    last_flush: MonotonicMs,
    pub(super) waiting: WaitingAppends,
    pub(super) deletions: WaitingDeletions,
}

impl OwnedPartition {
    pub(super) fn new(
        log: PartitionLog,
        handle: Arc<Partition>,
        node_id: BrokerId,
        isr_requests: mpsc::UnboundedSender<IsrRequest>,
        flusher: mpsc::UnboundedSender<FlushRequest>,
    ) -> Self {
        let high_watermark = log.high_watermark();
        Self {
            log,
            handle,
            node_id,
            state: ReplicaState::Follower(Followed::nothing(high_watermark)),
            led_since: Instant::now(),
            aside: false,
            takeover: None,
            isr_requests,
            flusher,
            generation: 0,
            flushing: false,
            last_flush: monotonic(),
            waiting: WaitingAppends::default(),
            deletions: WaitingDeletions::default(),
        }
    }

    pub(super) fn append_fetched(
        &mut self,
        fetched: &FetchedRecords,
        reply: oneshot::Sender<Result<(), PartitionError>>,
    ) {
        let current = *self.handle.role();
        let ReplicaState::Follower(followed) = &mut self.state else {
            let _ = reply.send(Err(not_leader()));
            return;
        };
        if current.leader_epoch != fetched.leader_epoch {
            let _ = reply.send(Err(not_leader()));
            return;
        }
        if self.handle.is_offline() {
            let _ = reply.send(Err(offline()));
            return;
        }
        *followed = Followed {
            high_watermark: fetched.high_watermark,
            log_start_offset: fetched.log_start_offset,
            leader_epoch: fetched.leader_epoch,
        };
        let appended = if fetched.records.is_empty() {
            Ok(())
        } else if !self.handle.take_room(fetched.records.len() as u64) {
            let _ = reply.send(Err(PartitionError::Refused {
                code: ErrorCode::KafkaStorageError,
                message: "the log directory is full".into(),
            }));
            return;
        } else {
            self.log.append_fetched(&fetched.records, now_ms())
        };
        self.log
            .advance_high_watermark(fetched.high_watermark.min(self.vouched()));
        let result = appended
            .and_then(|()| Ok(self.follow_log_start()?))
            .map_err(|error| {
                if let FetchedError::Log(error) = &error {
                    self.report(error);
                }
                fetched_error(error)
            });
        if result.is_ok() {
            // Answered when the view shows the append: the fetcher reads its next position from the view.
            self.waiting.fetched(self.log.log_end_offset(), reply);
        } else {
            let _ = reply.send(result);
        }
    }

    /// Follows the leader's log start as far as this replica's high watermark allows. A leader without news does not send
    /// its log start again, so a follower looks again whenever its high watermark has risen.
    fn follow_log_start(&mut self) -> Result<(), LogError> {
        let ReplicaState::Follower(followed) = &self.state else {
            return Ok(());
        };
        let to = followed.log_start_offset;
        let is_current = followed.leader_epoch == self.handle.leader_epoch();
        if !is_current || self.handle.is_offline() || to <= self.log.log_start_offset() {
            return Ok(());
        }
        if self.handle.config().remote_storage_enable {
            self.log.advance_log_start(to)
        } else {
            self.log.retain_from(to)
        }
    }

    /// The log, for looking at it.
    pub fn log(&self) -> &PartitionLog {
        &self.log
    }

    /// Forgets producers that have been silent for too long.
    pub fn expire_producers(&mut self, now: MonotonicMs) {
        self.log.expire_producers(now);
    }

    /// Changes the log. An I/O error takes its log directory offline.
    pub fn change_log<T>(
        &mut self,
        change: impl FnOnce(&mut PartitionLog) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        change(&mut self.log).inspect_err(|error| self.report(error))
    }

    /// Lets the log begin again, empty, behind its cold tier: see [`PartitionLog::start_behind_cold_tier`], which writes the
    /// lineage. A checkpoint waits meanwhile, and finds the new lineage in the view.
    pub fn start_behind_cold_tier(
        &mut self,
        offset: Offset,
        log_start_offset: Offset,
        epochs: Vec<EpochStart>,
        producers: ProducerState,
    ) -> Result<(), LogError> {
        let handle = self.handle.clone();
        let mut stored = handle.stored_lineage();
        self.change_log(|log| {
            log.start_behind_cold_tier(offset, log_start_offset, epochs, producers)
        })?;
        let view = self.log.view();
        stored.epochs = view.epochs.clone();
        handle.publish(view);
        Ok(())
    }

    fn report(&mut self, error: &LogError) {
        if self.handle.report(error) {
            self.go_offline();
        }
    }

    /// Takes the replica offline: its log directory has failed.
    pub(super) fn go_offline(&mut self) {
        self.handle.set_offline();
        self.fail_waiting(&offline());
    }

    pub(super) fn append(&mut self, appends: Gathered) {
        if self.handle.is_offline() {
            return self.refuse(appends, &offline());
        }
        let (epoch, enough, alone) = match &self.state {
            ReplicaState::Leader(state) if !self.aside => {
                let alone = state.isr().len() == 1;
                (state.leader_epoch(), state.has_enough_replicas(), alone)
            }
            _ => return self.refuse(appends, &not_leader()),
        };
        let appends = if enough {
            appends
        } else {
            let (refused, others) = appends.split_by_acks();
            self.refuse(refused, &not_enough_replicas(ErrorCode::NotEnoughReplicas));
            others
        };
        let results = self.log.append(&appends.batches, epoch, now_ms());
        let is_fatal = |result: &Result<AppendInfo, AppendError>| matches!(result, Err(AppendError::Log(error)) if self.handle.report(error));
        if results.iter().any(is_fatal) {
            // Appends that wait are answered after this change.
            self.handle.set_offline();
        }
        let headers = appends.batches.iter().map(|batch| &batch.header);
        let results: Vec<_> = results
            .into_iter()
            .zip(headers)
            .map(|(result, header)| self.note_result(result, header))
            .collect();
        let mut results = results.into_iter();
        let log_start_offset = self.log.log_start_offset();
        for (count, acks, reply) in appends.requests {
            let results: Vec<_> = results.by_ref().take(count).collect();
            let end_offset = results
                .iter()
                .flatten()
                .map(|info: &AppendInfo| info.end_offset)
                .max();
            let answer = AppendReply {
                results,
                log_start_offset,
            };
            match end_offset {
                Some(end_offset)
                    if (acks == Acks::All || acks == Acks::Leader && alone)
                        && end_offset > self.log.high_watermark()
                        && !is_mutant(Mutant::AcknowledgeBeforeIsr) =>
                {
                    self.waiting.produced(end_offset, acks, answer, reply);
                }
                _ => {
                    let _ = reply.send(answer);
                }
            }
        }
    }

    /// Remembers the refusal of an idempotent producer's batch, and explains why its next batch is ahead of the
    /// sequence.
    fn note_result(
        &self,
        result: Result<AppendInfo, AppendError>,
        header: &BatchHeader,
    ) -> Result<AppendInfo, PartitionError> {
        let error = match result {
            Ok(info) => {
                self.handle.refusals.forget(header);
                return Ok(info);
            }
            Err(error) => error,
        };
        let partition = &self.handle.topic_partition;
        tracing::debug!(%partition, %error, "a batch was refused");
        let refusals = &self.handle.refusals;
        if let AppendError::Sequence(SequenceError::OutOfOrder { expected, .. }) = error
            && let Some(code) = refusals.explain(header, expected, self.led_since)
        {
            return Err(PartitionError::Refused {
                code,
                message: "the batch before it is still to come".into(),
            });
        }
        let error = PartitionError::from(error);
        if error.code() == ErrorCode::KafkaStorageError {
            refusals.note(header, error.code());
        }
        Err(error)
    }

    fn refuse(&self, appends: Gathered, error: &PartitionError) {
        for batch in &appends.batches {
            self.handle.refusals.note(&batch.header, error.code());
        }
        appends.fail(error);
    }

    /// After anything that may have moved an offset: ask for a flush, advance the high watermark, publish, answer.
    pub(super) fn after_change(&mut self, itself: &mpsc::WeakSender<ShardMessage>) {
        self.request_flush(itself);
        self.advance();
    }

    fn request_flush(&mut self, itself: &mpsc::WeakSender<ShardMessage>) {
        if self.handle.is_offline() {
            return self.fail_waiting(&offline());
        }
        let unflushed = self.log.log_end_offset() - self.log.flushed_offset();
        let overdue =
            unflushed > 0 && monotonic().ms_since(self.last_flush) >= self.log.config.flush_ms;
        if self.flushing
            || !(unflushed >= self.log.config.flush_messages && unflushed > 0 || overdue)
        {
            return;
        }
        let (segments, offset) = self.log.to_flush();
        self.flushing = true;
        let request = FlushRequest {
            key: self.handle.key(),
            generation: self.generation,
            segments,
            offset,
            owner: itself.clone(),
        };
        let _ = self.flusher.send(request);
    }

    pub(super) fn flushed(
        &mut self,
        result: Result<Offset, String>,
        itself: &mpsc::WeakSender<ShardMessage>,
    ) {
        self.flushing = false;
        match result {
            Ok(offset) => {
                self.log.mark_flushed(offset);
                self.last_flush = monotonic();
                self.after_change(itself);
            }
            Err(_) => self.go_offline(),
        }
    }

    /// Ends a move to another directory. Gives the relocation back if it must begin again, else the old directory, which
    /// has left its name: another partition may take that as soon as this one is removed.
    pub(super) fn relocate(
        &mut self,
        relocation: Relocation,
        to: &Path,
        log_dir: usize,
        flusher: mpsc::UnboundedSender<FlushRequest>,
    ) -> Result<Result<std::io::Result<PathBuf>, Relocation>, LogError> {
        // The caller reports an error: which of the two directories has failed is in its path.
        let old = match self.log.relocate(relocation, to)? {
            Ok(old) => old,
            Err(again) => return Ok(Err(again)),
        };
        self.flusher = flusher;
        self.generation += 1;
        self.flushing = false;
        self.handle.set_log_dir(log_dir);
        Ok(Ok(LogDir::retire(&old)))
    }

    /// The end up to which this replica vouches for its log: the flushed end where the topic flushes before it
    /// acknowledges.
    fn vouched(&self) -> Offset {
        if self.log.config.flushes_every_append() {
            self.log.flushed_offset()
        } else {
            self.log.log_end_offset()
        }
    }

    pub(super) fn advance(&mut self) {
        let vouched = self.vouched();
        let (high_watermark, acknowledges) = match &mut self.state {
            ReplicaState::Leader(state) => (
                state.local_reached(vouched),
                state.has_enough_acknowledgements(),
            ),
            ReplicaState::Follower(followed) => (followed.high_watermark.min(vouched), true),
        };
        self.log.advance_high_watermark(high_watermark);
        if let Err(error) = self.follow_log_start() {
            self.report(&error);
        }
        // Readers must see a batch before its producer gets the acknowledgement.
        self.handle.publish(self.log.view());
        self.publish_leadership();
        self.waiting.vouched(vouched);
        self.waiting.committed(high_watermark, acknowledges);
        self.answer_deletions();
    }

    pub(super) fn fail_waiting(&mut self, error: &PartitionError) {
        self.waiting.fail(error);
        self.deletions.fail();
    }
}

fn offline() -> PartitionError {
    PartitionError::Refused {
        code: ErrorCode::KafkaStorageError,
        message: "the log directory of this partition has failed".into(),
    }
}

pub(super) fn not_leader() -> PartitionError {
    PartitionError::Refused {
        code: ErrorCode::NotLeaderOrFollower,
        message: "this broker does not lead the partition".into(),
    }
}

pub(super) fn not_enough_replicas(code: ErrorCode) -> PartitionError {
    PartitionError::Refused {
        code,
        message: "fewer replicas are in sync than min.insync.replicas asks for".into(),
    }
}

fn fetched_error(error: FetchedError) -> PartitionError {
    let code = match &error {
        FetchedError::Corrupt(_) | FetchedError::Overlaps { .. } => ErrorCode::CorruptMessage,
        FetchedError::Log(_) => ErrorCode::KafkaStorageError,
    };
    PartitionError::Refused {
        code,
        message: error.to_string(),
    }
}
