//! The handle by which the rest of the broker uses a partition: its published view, and a way to ask its owner.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use strandline_log::{AppendError, AppendInfo, LeaderEpochs, LogError, LogView};
use strandline_metadata::config::TopicConfig;
use strandline_replication::end_is_known;
use strandline_types::{
    BrokerEpoch, BrokerId, LeaderEpoch, MonotonicMs, Offset, TopicId, TopicIdPartition,
    TopicPartition,
};
use strandline_wire::ErrorCode;
use strandline_wire::batch::ValidatedBatch;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::health::Health;
use super::owned::OwnedPartition;
use super::refusals::Refusals;
use super::relocate::Move;
use super::shard::ShardMessage;
use super::watch::{Watch, Watchers};

/// When a producer is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Never (`acks` 0): the request is over after the leader's append.
    None,
    /// After the leader's append, and where the leader is the only replica in sync, when the high watermark has passed the batch
    /// (`acks` 1). In Kafka both are the same moment there; a client that reads its own write relies on it (ADR 36).
    Leader,
    /// When the high watermark has passed the batch (`acks` −1).
    All,
}

/// Why an append or another request to a partition's owner failed.
#[derive(Clone, Debug, Error)]
pub enum PartitionError {
    #[error("{message}")]
    Refused { code: ErrorCode, message: String },
    /// The partition was removed, or the broker is stopping.
    #[error("the partition is not here")]
    Gone,
}

impl PartitionError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Gone => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl From<AppendError> for PartitionError {
    fn from(error: AppendError) -> Self {
        let code = match &error {
            AppendError::Sequence(sequence) => sequence.code(),
            AppendError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
            AppendError::Log(_) => ErrorCode::KafkaStorageError,
        };
        Self::Refused {
            code,
            message: error.to_string(),
        }
    }
}

/// One result per batch, and the log start at that time.
#[derive(Clone, Debug)]
pub struct AppendReply {
    pub results: Vec<Result<AppendInfo, PartitionError>>,
    pub log_start_offset: i64,
}

/// This broker's role for a partition, as far as the owner has taken it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    pub is_leader: bool,
    /// For a leader: as many replicas are in sync as `min.insync.replicas` asks for.
    pub enough_in_sync: bool,
}

/// A follower's fetch as its leader notes it.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaFetch {
    pub replica: BrokerId,
    pub broker_epoch: BrokerEpoch,
    pub leader_epoch: LeaderEpoch,
    /// All records below are on the follower's disk, if the topic asks for that.
    pub offset: Offset,
    /// The follower has deleted all records below, durably.
    pub log_start_offset: Offset,
}

/// The same position is noted again after this long, so that the follower counts as caught up.
const NOTE_AGAIN_MS: i64 = 500;

/// How long a full mailbox may keep the news that a partition is offline.
const TELL_OFFLINE: Duration = Duration::from_millis(100);

/// The records and offsets that a leader sent in answer to a fetch.
#[derive(Clone, Debug)]
pub struct FetchedRecords {
    pub leader_epoch: LeaderEpoch,
    pub records: Bytes,
    pub high_watermark: Offset,
    pub log_start_offset: Offset,
}

/// A partition of which this broker has a replica. Shared; the log itself has one owner elsewhere.
pub struct Partition {
    pub topic_partition: TopicPartition,
    pub topic_id: TopicId,
    /// Index of its directory in `log.dirs`.
    log_dir: AtomicUsize,
    /// A move to another directory that is under way.
    pub(super) moving: Mutex<Option<Arc<Move>>>,
    key: u64,
    view: ArcSwap<LogView>,
    config: ArcSwap<TopicConfig>,
    role: ArcSwap<Role>,
    offline: AtomicBool,
    pub(super) taking_over: AtomicBool,
    owner: mpsc::Sender<ShardMessage>,
    /// Of all log directories.
    health: Arc<Health>,
    /// Fetches that wait for news.
    watchers: Watchers,
    /// Batches that may come again.
    pub refusals: Refusals,
    /// The last fetch of each follower, and the time at which it was noted.
    noted: Mutex<Vec<(ReplicaFetch, MonotonicMs)>>,
    pub(super) stored_epochs: Mutex<StoredLineage>,
}

/// The part of a partition's lineage that is on disk.
#[derive(Default)]
pub(super) struct StoredLineage {
    pub epochs: Arc<LeaderEpochs>,
    /// The partition was removed: its directory has no name any more, or another partition has that name.
    pub closed: bool,
}

impl std::fmt::Debug for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.topic_partition.fmt(f)
    }
}

impl Partition {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        topic_partition: TopicPartition,
        topic_id: TopicId,
        log_dir: usize,
        key: u64,
        view: LogView,
        config: TopicConfig,
        owner: mpsc::Sender<ShardMessage>,
        health: Arc<Health>,
    ) -> Self {
        Self {
            topic_partition,
            topic_id,
            log_dir: AtomicUsize::new(log_dir),
            moving: Mutex::default(),
            key,
            stored_epochs: Mutex::default(),
            view: ArcSwap::from_pointee(view),
            config: ArcSwap::from_pointee(config),
            role: ArcSwap::from_pointee(Role {
                leader: None,
                leader_epoch: LeaderEpoch(-1),
                is_leader: false,
                enough_in_sync: false,
            }),
            offline: AtomicBool::new(false),
            taking_over: AtomicBool::new(false),
            owner,
            health,
            watchers: Watchers::default(),
            refusals: Refusals::default(),
            noted: Mutex::default(),
        }
    }

    pub fn id(&self) -> TopicIdPartition {
        TopicIdPartition {
            topic_id: self.topic_id,
            partition: self.topic_partition.partition,
        }
    }

    /// Index of its directory in `log.dirs`.
    pub fn log_dir(&self) -> usize {
        self.log_dir.load(Ordering::Acquire)
    }

    pub(super) fn set_log_dir(&self, index: usize) {
        self.log_dir.store(index, Ordering::Release);
    }

    /// The move to another directory that is under way.
    pub fn moving(&self) -> Option<Arc<Move>> {
        self.moving.lock().expect("no holder panics").clone()
    }

    /// Unique in this process: a partition that was deleted and created again has another one, and messages to the first
    /// go nowhere.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The picture that the owner published last.
    pub fn view(&self) -> Arc<LogView> {
        self.view.load_full()
    }

    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.load_full()
    }

    pub(super) fn set_config(&self, config: TopicConfig) {
        self.config.store(Arc::new(config));
    }

    pub fn role(&self) -> Arc<Role> {
        self.role.load_full()
    }

    pub fn is_leader(&self) -> bool {
        self.role.load().is_leader
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.role.load().leader_epoch
    }

    pub(super) fn set_role(&self, role: Role) {
        self.role.store(Arc::new(role));
        // Waiting readers must look again: most likely another broker leads now.
        self.wake_all();
    }

    /// Whether this leader knows the end of its log. Until then clients get `OFFSET_NOT_AVAILABLE`.
    pub fn knows_its_end(&self, view: &LogView) -> bool {
        let last = view.epochs.entries().last();
        let last = last.map(|e| (e.epoch, e.start_offset));
        end_is_known(self.leader_epoch(), last, view.high_watermark)
    }

    /// Its log directory failed; reads and writes are refused until the broker restarts.
    pub fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire)
    }

    pub(super) fn set_offline(&self) {
        self.offline.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Has the owner answer whatever waits: the partition is offline. Does not wait for that, because the owner may hang on
    /// the disk that has failed.
    pub(super) async fn tell_offline(&self) {
        let task = Box::new(|owned: &mut OwnedPartition, _: &_| owned.go_offline());
        let message = ShardMessage::Run {
            key: self.key,
            task,
        };
        let _ = tokio::time::timeout(TELL_OFFLINE, self.owner.send(message)).await;
    }

    /// Reports an error of this partition's log; an I/O error takes the log directory offline. Returns whether it has.
    pub fn report(&self, error: &LogError) -> bool {
        self.health.report(error)
    }

    /// Whether the log directory has failed.
    pub fn is_on_failed_directory(&self) -> bool {
        self.health.is_failed(self.log_dir())
    }

    /// Whether records may be appended without touching the reserve of the disk.
    pub fn has_room(&self) -> bool {
        !self.health.is_full(self.log_dir())
    }

    /// Whether `bytes` may be appended without touching the reserve of the disk; counts them as used.
    pub fn take_room(&self, bytes: u64) -> bool {
        self.health.take(self.log_dir(), bytes)
    }

    pub(super) fn publish(&self, view: LogView) {
        let before = self.view.swap(Arc::new(view));
        let now = self.view.load();
        let committed = now.high_watermark > before.high_watermark
            || now.log_start_offset > before.log_start_offset;
        let appended = now.log_end_offset > before.log_end_offset;
        if committed || appended {
            self.watchers.tell(committed, appended);
        }
    }

    /// Wakes all callers that wait for news, so that they look again.
    pub(super) fn wake_all(&self) {
        self.watchers.tell(true, true);
    }

    /// Announces news to `watch` under `number` from now on. Look at the view after this.
    pub fn watch(&self, watch: &Arc<Watch>, number: u32) {
        self.watchers.add(watch, number);
    }

    /// Tells the owner a follower's position, unless the owner got the same position a moment ago.
    pub async fn note_replica_fetch(&self, fetch: ReplicaFetch, now: MonotonicMs) {
        {
            let mut noted = self.noted.lock().expect("no holder panics");
            let same = |f: &ReplicaFetch| {
                f.offset == fetch.offset
                    && f.log_start_offset == fetch.log_start_offset
                    && f.leader_epoch == fetch.leader_epoch
                    && f.broker_epoch == fetch.broker_epoch
            };
            match noted.iter_mut().find(|(f, _)| f.replica == fetch.replica) {
                Some((f, at)) if same(f) && now.ms_since(*at) < NOTE_AGAIN_MS => return,
                Some(known) => *known = (fetch, now),
                None => noted.push((fetch, now)),
            }
        }
        let message = ShardMessage::ReplicaFetched {
            key: self.key,
            fetch,
        };
        // A failed send is ignored: the partition is gone.
        let _ = self.owner.send(message).await;
    }

    /// Hands over records that the leader sent. Returns when they are in the log, and on disk where the topic flushes
    /// before it acknowledges.
    pub async fn append_fetched(&self, fetched: FetchedRecords) -> Result<(), PartitionError> {
        let (reply, receiver) = oneshot::channel();
        let message = ShardMessage::AppendFetched {
            key: self.key,
            fetched,
            reply,
        };
        self.owner
            .send(message)
            .await
            .map_err(|_| PartitionError::Gone)?;
        receiver.await.map_err(|_| PartitionError::Gone)?
    }

    /// Hands batches to the owner. When this returns, their order behind earlier calls is settled; the receiver gets
    /// the answer. Waits while the owner's mailbox is full.
    pub async fn append(
        &self,
        batches: Vec<ValidatedBatch>,
        acks: Acks,
    ) -> Result<oneshot::Receiver<AppendReply>, PartitionError> {
        if self.is_offline() {
            return Err(PartitionError::Refused {
                code: ErrorCode::KafkaStorageError,
                message: "the log directory of this partition has failed".into(),
            });
        }
        let (reply, receiver) = oneshot::channel();
        let message = ShardMessage::Append {
            key: self.key,
            batches,
            acks,
            reply,
        };
        self.owner
            .send(message)
            .await
            .map_err(|_| PartitionError::Gone)?;
        Ok(receiver)
    }

    /// Runs `task` on the owner's thread. When this returns, the published view shows the effects of the task.
    pub async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut OwnedPartition) -> T + Send + 'static,
    ) -> Result<T, PartitionError> {
        let (reply, receiver) = oneshot::channel();
        let task = Box::new(move |owned: &mut OwnedPartition, shard: &_| {
            let result = task(owned);
            owned.after_change(shard);
            // The caller may have gone away, so a failed send is ignored.
            let _ = reply.send(result);
        });
        let message = ShardMessage::Run {
            key: self.key,
            task,
        };
        self.owner
            .send(message)
            .await
            .map_err(|_| PartitionError::Gone)?;
        receiver.await.map_err(|_| PartitionError::Gone)
    }
}
