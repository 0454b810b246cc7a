//! Shards: threads that own partitions. One thread appends to a log, advances its high watermark and publishes its view;
//! nothing of it is behind a lock.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use strandline_log::{
    AppendError, AppendInfo, FetchedError, LogError, PartitionLog, Relocation, SequenceError,
};
use strandline_replication::{IsrWish, LeaderState, Leadership};
use strandline_types::{BrokerId, LeaderEpoch, Mutant, Offset, TimestampMs, is_mutant};
use strandline_wire::ErrorCode;
use strandline_wire::batch::{BatchHeader, ValidatedBatch};
use tokio::sync::{mpsc, oneshot};

use super::flusher::FlushRequest;
use super::handle::{
    Acks, AppendReply, FetchedRecords, Partition, PartitionError, ReplicaFetch, Role,
};
use crate::clock::now_ms;

/// Messages that wait for a shard; above it connections stop being read.
const MAILBOX: usize = 1024;
/// Messages that a shard takes at once, so that their appends share writes and flushes.
const DRAIN: usize = 256;

/// Has its shard's mailbox for [`OwnedPartition::after_change`].
type Task = Box<dyn FnOnce(&mut OwnedPartition, &mpsc::WeakSender<ShardMessage>) + Send>;

/// What a shard is asked to do.
pub enum ShardMessage {
    Add(Box<OwnedPartition>),
    Append {
        key: u64,
        batches: Vec<ValidatedBatch>,
        acks: Acks,
        reply: oneshot::Sender<AppendReply>,
    },
    Flushed {
        key: u64,
        generation: u64,
        result: Result<Offset, String>,
    },
    /// Records from the leader, for a follower.
    AppendFetched {
        key: u64,
        fetched: FetchedRecords,
        reply: oneshot::Sender<Result<(), PartitionError>>,
    },
    /// A follower asked from here on, for a leader.
    ReplicaFetched {
        key: u64,
        fetch: ReplicaFetch,
    },
    Run {
        key: u64,
        task: Task,
    },
    /// Gives the partition up; its log is dropped and its directory returned.
    Remove {
        key: u64,
        reply: oneshot::Sender<PathBuf>,
    },
    /// Ends the thread. Handles keep the mailbox open, so its closing cannot say this.
    Stop,
}

/// The shards of a process.
pub struct ShardPool {
    shards: Vec<mpsc::Sender<ShardMessage>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl ShardPool {
    pub fn start(count: usize) -> Self {
        let mut shards = Vec::new();
        let mut threads = Vec::new();
        for number in 0..count.max(1) {
            let (sender, receiver) = mpsc::channel(MAILBOX);
            let weak = sender.downgrade();
            let thread = std::thread::Builder::new()
                .name(format!("shard-{number}"))
                .spawn(move || {
                    Shard {
                        partitions: HashMap::new(),
                        itself: weak,
                    }
                    .run(receiver);
                })
                .expect("a thread can be started");
            shards.push(sender);
            threads.push(thread);
        }
        Self {
            shards,
            threads: Mutex::new(threads),
        }
    }

    /// The shard that a partition with this key belongs to.
    pub(super) fn owner_of(&self, key: u64) -> mpsc::Sender<ShardMessage> {
        self.shards[(key % self.shards.len() as u64) as usize].clone()
    }

    /// Ends the threads after what is in their mailboxes. Blocks.
    pub fn stop(&self) {
        for shard in &self.shards {
            let _ = shard.blocking_send(ShardMessage::Stop);
        }
        for thread in self.threads.lock().expect("no holder panics").drain(..) {
            let _ = thread.join();
        }
    }
}

struct Shard {
    partitions: HashMap<u64, OwnedPartition>,
    itself: mpsc::WeakSender<ShardMessage>,
}

/// A leader's wish about its ISR, on its way to the controller.
#[derive(Debug)]
pub struct IsrRequest {
    pub partition: Arc<Partition>,
    pub wish: IsrWish,
}

/// What the metadata makes of this replica.
#[derive(Clone, Debug)]
pub enum Assignment {
    Lead(Leadership),
    Follow {
        leader: Option<BrokerId>,
        leader_epoch: LeaderEpoch,
    },
}

/// What this replica is.
enum ReplicaState {
    Leader(LeaderState),
    /// The leader's high watermark as of the last fetch.
    Follower {
        high_watermark: Offset,
    },
}

/// A partition in the hands of its owner.
pub struct OwnedPartition {
    pub log: PartitionLog,
    pub handle: Arc<Partition>,
    node_id: BrokerId,
    state: ReplicaState,
    /// When this broker began to lead.
    led_since: Instant,
    /// This broker should lead and does not dare to: see [`OwnedPartition::step_aside`].
    aside: bool,
    /// Where wishes about the ISR go; each partition has at most one under way.
    isr_requests: mpsc::UnboundedSender<IsrRequest>,
    flusher: mpsc::UnboundedSender<FlushRequest>,
    /// Counts the directories that the log was in.
    generation: u64,
    /// A flush is under way; the next one is asked for when it ends.
    flushing: bool,
    last_flush_ms: TimestampMs,
    /// `acks=all` appends that wait for the high watermark, in order of their end offsets.
    waiting: VecDeque<Waiting>,
    /// Appends of a follower that wait to be published, and on disk where the topic flushes before it acknowledges.
    unflushed: Vec<(Offset, oneshot::Sender<Result<(), PartitionError>>)>,
}

struct Waiting {
    end_offset: Offset,
    answer: AppendReply,
    reply: oneshot::Sender<AppendReply>,
}

/// Appends of one drain that go to the same partition.
#[derive(Default)]
struct Gathered {
    batches: Vec<ValidatedBatch>,
    /// How many of the batches belong to each request.
    requests: Vec<(usize, Acks, oneshot::Sender<AppendReply>)>,
}

impl Shard {
    fn run(mut self, mut mailbox: mpsc::Receiver<ShardMessage>) {
        let mut gathered: HashMap<u64, Gathered> = HashMap::new();
        while let Some(first) = mailbox.blocking_recv() {
            let mut next = Some(first);
            let mut taken = 0;
            while let Some(message) = next.take() {
                if matches!(message, ShardMessage::Stop) {
                    self.append_all(&mut gathered);
                    self.fail_all();
                    return;
                }
                self.handle(message, &mut gathered);
                taken += 1;
                if taken < DRAIN {
                    next = mailbox.try_recv().ok();
                }
            }
            self.append_all(&mut gathered);
        }
        self.fail_all();
    }

    fn fail_all(&mut self) {
        for owned in self.partitions.values_mut() {
            owned.fail_waiting(&PartitionError::Gone);
        }
        self.partitions.clear();
    }

    fn handle(&mut self, message: ShardMessage, gathered: &mut HashMap<u64, Gathered>) {
        match message {
            ShardMessage::Append {
                key,
                batches,
                acks,
                reply,
            } => {
                let slot = gathered.entry(key).or_default();
                slot.requests.push((batches.len(), acks, reply));
                slot.batches.extend(batches);
            }
            ShardMessage::Add(owned) => {
                self.partitions.insert(owned.handle.key(), *owned);
            }
            ShardMessage::Flushed {
                key,
                generation,
                result,
            } => {
                // What was asked of a directory that the partition has left says nothing any more.
                if let Some(owned) = self.partitions.get_mut(&key)
                    && owned.generation == generation
                {
                    owned.flushed(result, &self.itself);
                }
            }
            ShardMessage::AppendFetched {
                key,
                fetched,
                reply,
            } => {
                if let Some(owned) = self.partitions.get_mut(&key) {
                    owned.append_fetched(&fetched, reply);
                    owned.after_change(&self.itself);
                }
            }
            ShardMessage::ReplicaFetched { key, fetch } => {
                // What was appended before is what the follower is compared with.
                self.append_all(gathered);
                if let Some(owned) = self.partitions.get_mut(&key) {
                    owned.replica_fetched(&fetch);
                }
            }
            ShardMessage::Run { key, task } => {
                // What was sent before the task must be in the log before it runs.
                self.append_all(gathered);
                if let Some(owned) = self.partitions.get_mut(&key) {
                    task(owned, &self.itself);
                }
            }
            ShardMessage::Stop => unreachable!("the loop has taken it"),
            ShardMessage::Remove { key, reply } => {
                self.append_all(gathered);
                if let Some(mut owned) = self.partitions.remove(&key) {
                    owned.fail_waiting(&PartitionError::Gone);
                    owned.handle.set_offline();
                    let _ = reply.send(owned.log.directory().to_path_buf());
                }
            }
        }
    }

    fn append_all(&mut self, gathered: &mut HashMap<u64, Gathered>) {
        for (key, appends) in gathered.drain() {
            // The senders of appends to a partition that is gone see their channel closed.
            if let Some(owned) = self.partitions.get_mut(&key) {
                owned.append(appends);
                owned.after_change(&self.itself);
            }
        }
    }
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
            state: ReplicaState::Follower { high_watermark },
            led_since: Instant::now(),
            aside: false,
            isr_requests,
            flusher,
            generation: 0,
            flushing: false,
            last_flush_ms: now_ms(),
            waiting: VecDeque::new(),
            unflushed: Vec::new(),
        }
    }

    fn min_insync_replicas(&self) -> usize {
        self.handle.config().min_insync_replicas.max(1) as usize
    }

    /// Takes over what the metadata says about this replica.
    pub fn assign(&mut self, assignment: Assignment) {
        let now = now_ms();
        let min = self.min_insync_replicas();
        match assignment {
            Assignment::Lead(leadership) => match &mut self.state {
                ReplicaState::Leader(state) if state.leader_epoch() == leadership.leader_epoch => {
                    state.set_min_insync_replicas(min);
                    state.update(leadership, now);
                }
                _ => {
                    self.fail_waiting(&not_leader());
                    self.led_since = Instant::now();
                    // The controller has just been heard of.
                    self.aside = false;
                    self.log.start_leader_epoch(leadership.leader_epoch);
                    self.state = ReplicaState::Leader(LeaderState::new(
                        self.node_id,
                        leadership,
                        min,
                        self.log.log_end_offset(),
                        self.log.high_watermark(),
                        now,
                    ));
                }
            },
            Assignment::Follow {
                leader,
                leader_epoch,
            } => {
                self.fail_waiting(&not_leader());
                self.aside = false;
                if matches!(self.state, ReplicaState::Leader(_)) {
                    let high_watermark = self.log.high_watermark();
                    self.state = ReplicaState::Follower { high_watermark };
                }
                if is_mutant(Mutant::TruncateToHighWatermark)
                    && self.handle.leader_epoch() != leader_epoch
                {
                    let _ = self.log.truncate(self.log.high_watermark());
                }
                self.publish_role(Role {
                    leader,
                    leader_epoch,
                    is_leader: false,
                    enough_in_sync: false,
                });
            }
        }
    }

    fn publish_role(&self, role: Role) {
        if *self.handle.role() != role {
            self.handle.set_role(role);
        }
    }

    /// Readers must find a leader's log before they find the leader.
    fn publish_leadership(&self) {
        if let ReplicaState::Leader(state) = &self.state
            && !self.aside
        {
            self.publish_role(Role {
                leader: Some(self.node_id),
                leader_epoch: state.leader_epoch(),
                is_leader: true,
                enough_in_sync: state.has_enough_replicas(),
            });
        }
    }

    fn replica_fetched(&mut self, fetch: &ReplicaFetch) {
        let end = self.log.log_end_offset();
        let ReplicaState::Leader(state) = &mut self.state else {
            return;
        };
        if state.leader_epoch() != fetch.leader_epoch {
            return;
        }
        let (before, now) = (state.high_watermark(), now_ms());
        let after =
            state.follower_fetched(fetch.replica, fetch.broker_epoch, fetch.offset, end, now);
        if after > before {
            self.advance();
        }
        // A replica that joins should not wait for the next look at lags.
        if !self.is_in_sync(fetch.replica) {
            self.review_isr(i64::MAX);
        }
    }

    fn is_in_sync(&self, id: BrokerId) -> bool {
        matches!(&self.state, ReplicaState::Leader(state) if state.isr().contains(&id))
    }

    /// Asks the controller for another ISR where replicas have fallen behind by more than `max_lag_ms` or caught up.
    pub fn review_isr(&mut self, max_lag_ms: i64) {
        let ReplicaState::Leader(state) = &mut self.state else {
            return;
        };
        if let Some(wish) = state.wish(now_ms(), max_lag_ms) {
            let partition = self.handle.clone();
            let _ = self.isr_requests.send(IsrRequest { partition, wish });
        }
    }

    /// `min.insync.replicas` may have changed.
    pub fn configuration_changed(&mut self) {
        let min = self.min_insync_replicas();
        if let ReplicaState::Leader(state) = &mut self.state {
            state.set_min_insync_replicas(min);
        }
    }

    /// The controller refused a wish.
    pub fn isr_wish_refused(&mut self, partition_epoch: i32) {
        if let ReplicaState::Leader(state) = &mut self.state {
            state.wish_refused(partition_epoch);
        }
    }

    /// Whether a wish was granted is not known; it is made again.
    pub fn isr_wish_unanswered(&mut self, partition_epoch: i32) {
        if let ReplicaState::Leader(state) = &mut self.state {
            state.wish_unanswered(partition_epoch);
        }
        self.review_isr(i64::MAX);
    }

    /// Whether no in-sync follower has been silent for longer; then nobody else can be leading.
    pub fn hears_from_followers(&self, max_silence_ms: i64) -> bool {
        match &self.state {
            ReplicaState::Leader(state) => state.hears_from_followers(now_ms(), max_silence_ms),
            ReplicaState::Follower { .. } => true,
        }
    }

    /// Stops leading without waiting for the metadata, as long as `aside`: the controller has not answered for too long,
    /// and somebody else may lead by now.
    pub fn step_aside(&mut self, aside: bool) {
        self.aside = aside;
        if aside {
            self.fail_waiting(&not_leader());
            let role = *self.handle.role();
            self.publish_role(Role {
                is_leader: false,
                enough_in_sync: false,
                ..role
            });
        }
    }

    fn append_fetched(
        &mut self,
        fetched: &FetchedRecords,
        reply: oneshot::Sender<Result<(), PartitionError>>,
    ) {
        let current = *self.handle.role();
        let ReplicaState::Follower { high_watermark } = &mut self.state else {
            let _ = reply.send(Err(not_leader()));
            return;
        };
        if current.leader_epoch != fetched.leader_epoch {
            let _ = reply.send(Err(not_leader()));
            return;
        }
        *high_watermark = fetched.high_watermark;
        let appended = if fetched.records.is_empty() {
            Ok(())
        } else {
            self.log.append_fetched(&fetched.records, now_ms())
        };
        self.log
            .advance_high_watermark(fetched.high_watermark.min(self.vouched()));
        let result = appended
            .and_then(|()| Ok(self.log.advance_log_start(fetched.log_start_offset)?))
            .map_err(fetched_error);
        if result.is_ok() {
            // Answered when the view shows it: whoever asked names the position that it reads there.
            self.unflushed.push((self.log.log_end_offset(), reply));
        } else {
            let _ = reply.send(result);
        }
    }

    fn append(&mut self, appends: Gathered) {
        let (epoch, enough) = match &self.state {
            ReplicaState::Leader(state) if !self.aside => {
                (state.leader_epoch(), state.has_enough_replicas())
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
                    if acks == Acks::All
                        && end_offset > self.log.high_watermark()
                        && !is_mutant(Mutant::AcknowledgeBeforeIsr) =>
                {
                    self.waiting.push_back(Waiting {
                        end_offset,
                        answer,
                        reply,
                    });
                }
                _ => {
                    let _ = reply.send(answer);
                }
            }
        }
    }

    /// Remembers what an idempotent producer was refused, and says why its next batch is ahead of the sequence.
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
        fail_all(appends, error);
    }

    /// After anything that may have moved an offset: ask for a flush, advance the high watermark, publish, answer.
    pub(super) fn after_change(&mut self, itself: &mpsc::WeakSender<ShardMessage>) {
        self.request_flush(itself);
        self.advance();
    }

    fn request_flush(&mut self, itself: &mpsc::WeakSender<ShardMessage>) {
        let unflushed = self.log.log_end_offset() - self.log.flushed_offset();
        let overdue = unflushed > 0
            && now_ms().saturating_sub(self.last_flush_ms) >= self.log.config.flush_ms;
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

    fn flushed(&mut self, result: Result<Offset, String>, itself: &mpsc::WeakSender<ShardMessage>) {
        self.flushing = false;
        match result {
            Ok(offset) => {
                self.log.mark_flushed(offset);
                self.last_flush_ms = now_ms();
                self.after_change(itself);
            }
            Err(message) => {
                self.handle.set_offline();
                let error = PartitionError::Refused {
                    code: ErrorCode::KafkaStorageError,
                    message,
                };
                self.fail_waiting(&error);
            }
        }
    }

    /// Ends a move to another directory; gives the relocation back if it must begin again, else the old directory.
    pub(super) fn relocate(
        &mut self,
        relocation: Relocation,
        to: &Path,
        log_dir: usize,
        flusher: mpsc::UnboundedSender<FlushRequest>,
    ) -> Result<Result<PathBuf, Relocation>, LogError> {
        let moved = self.log.relocate(relocation, to)?;
        if moved.is_ok() {
            self.flusher = flusher;
            self.generation += 1;
            self.flushing = false;
            self.handle.set_log_dir(log_dir);
        }
        Ok(moved)
    }

    /// A replica vouches for what it has flushed where the topic flushes before it acknowledges.
    fn vouched(&self) -> Offset {
        if self.log.config.flushes_every_append() {
            self.log.flushed_offset()
        } else {
            self.log.log_end_offset()
        }
    }

    fn advance(&mut self) {
        let vouched = self.vouched();
        let (high_watermark, acknowledges) = match &mut self.state {
            ReplicaState::Leader(state) => (
                state.local_reached(vouched),
                state.has_enough_acknowledgements(),
            ),
            ReplicaState::Follower { high_watermark } => ((*high_watermark).min(vouched), true),
        };
        self.log.advance_high_watermark(high_watermark);
        // Readers must see a batch before its producer hears of it.
        self.handle.publish(self.log.view());
        self.publish_leadership();
        let (done, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unflushed)
            .into_iter()
            .partition(|(end, _)| *end <= vouched);
        self.unflushed = waiting;
        for (_, reply) in done {
            let _ = reply.send(Ok(()));
        }
        while self
            .waiting
            .front()
            .is_some_and(|w| w.end_offset <= high_watermark)
        {
            let done = self
                .waiting
                .pop_front()
                .expect("the front was just looked at");
            if acknowledges {
                let _ = done.reply.send(done.answer);
            } else {
                let code = ErrorCode::NotEnoughReplicasAfterAppend;
                done.fail(&not_enough_replicas(code));
            }
        }
    }

    fn fail_waiting(&mut self, error: &PartitionError) {
        for waiting in self.waiting.drain(..) {
            waiting.fail(error);
        }
        for (_, reply) in self.unflushed.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

impl Waiting {
    fn fail(self, error: &PartitionError) {
        let results = self.answer.results.iter();
        let results = results.map(|_| Err(error.clone())).collect();
        let _ = self.reply.send(AppendReply {
            results,
            ..self.answer
        });
    }
}

impl Gathered {
    /// Those that ask for `acks=all`, and the others.
    fn split_by_acks(self) -> (Self, Self) {
        let (mut all, mut others) = (Self::default(), Self::default());
        let mut batches = self.batches.into_iter();
        for (count, acks, reply) in self.requests {
            let to = if acks == Acks::All {
                &mut all
            } else {
                &mut others
            };
            to.batches.extend(batches.by_ref().take(count));
            to.requests.push((count, acks, reply));
        }
        (all, others)
    }
}

fn fail_all(appends: Gathered, error: &PartitionError) {
    for (count, _, reply) in appends.requests {
        let results = (0..count).map(|_| Err(error.clone())).collect();
        let _ = reply.send(AppendReply {
            results,
            log_start_offset: -1,
        });
    }
}

fn not_leader() -> PartitionError {
    PartitionError::Refused {
        code: ErrorCode::NotLeaderOrFollower,
        message: "this broker does not lead the partition".into(),
    }
}

fn not_enough_replicas(code: ErrorCode) -> PartitionError {
    PartitionError::Refused {
        code,
        message: "fewer replicas are in sync than min.insync.replicas asks for".into(),
    }
}

fn fetched_error(error: FetchedError) -> PartitionError {
    let code = match &error {
        FetchedError::Corrupt(_) => ErrorCode::CorruptMessage,
        FetchedError::Log(_) => ErrorCode::KafkaStorageError,
    };
    PartitionError::Refused {
        code,
        message: error.to_string(),
    }
}
