//! What the rest of the broker holds of a partition: its published view, and a way to ask its owner.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use arc_swap::ArcSwap;
use strandline_log::{AppendError, AppendInfo, LogView};
use strandline_metadata::config::TopicConfig;
use strandline_types::{LeaderEpoch, TopicId, TopicIdPartition, TopicPartition};
use strandline_wire::ErrorCode;
use strandline_wire::batch::ValidatedBatch;
use thiserror::Error;
use tokio::sync::{Notify, mpsc, oneshot};

use super::shard::{OwnedPartition, ShardMessage};

/// When a producer is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// After the leader's append (`acks` 0 and 1).
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

/// A partition that this broker leads. Shared; the log itself has one owner elsewhere.
pub struct Partition {
    pub topic_partition: TopicPartition,
    pub topic_id: TopicId,
    /// Index of its directory in `log.dirs`.
    pub log_dir: usize,
    /// Unique in this process, so that a message to a partition that was deleted and created again goes nowhere.
    pub(super) key: u64,
    view: ArcSwap<LogView>,
    config: ArcSwap<TopicConfig>,
    leader_epoch: AtomicI32,
    offline: AtomicBool,
    owner: mpsc::Sender<ShardMessage>,
    /// Fetches that wait for more records. Those that have gone away are dropped when the next one comes.
    waiting: Mutex<Vec<Weak<Notify>>>,
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
        leader_epoch: LeaderEpoch,
        owner: mpsc::Sender<ShardMessage>,
    ) -> Self {
        Self {
            topic_partition,
            topic_id,
            log_dir,
            key,
            view: ArcSwap::from_pointee(view),
            config: ArcSwap::from_pointee(config),
            leader_epoch: AtomicI32::new(leader_epoch.0),
            offline: AtomicBool::new(false),
            owner,
            waiting: Mutex::default(),
        }
    }

    pub fn id(&self) -> TopicIdPartition {
        TopicIdPartition {
            topic_id: self.topic_id,
            partition: self.topic_partition.partition,
        }
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

    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(self.leader_epoch.load(Ordering::Acquire))
    }

    pub(super) fn set_leader_epoch(&self, epoch: LeaderEpoch) {
        self.leader_epoch.store(epoch.0, Ordering::Release);
    }

    /// Its disk failed; reads and writes are refused until the broker restarts.
    pub fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire)
    }

    pub(super) fn set_offline(&self) {
        self.offline.store(true, Ordering::Release);
        self.wake_waiting();
    }

    pub(super) fn publish(&self, view: LogView) {
        let before = self.view.swap(Arc::new(view));
        let now = self.view.load();
        if now.high_watermark > before.high_watermark
            || now.log_start_offset > before.log_start_offset
        {
            self.wake_waiting();
        }
    }

    /// Wakes `fetch` at the next change of the high watermark. Look at the view again after registering.
    pub fn wake_on_change(&self, fetch: &Arc<Notify>) {
        let mut waiting = self.waiting.lock().expect("no holder panics");
        waiting.retain(|other| other.strong_count() > 0);
        waiting.push(Arc::downgrade(fetch));
    }

    fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().expect("no holder panics"));
        for fetch in waiting.iter().filter_map(Weak::upgrade) {
            fetch.notify_one();
        }
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

    /// Runs `task` on the owner's thread.
    pub async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut OwnedPartition) -> T + Send + 'static,
    ) -> Result<T, PartitionError> {
        let (reply, receiver) = oneshot::channel();
        let task = Box::new(move |owned: &mut OwnedPartition| {
            // Whoever asked may have gone away.
            let _ = reply.send(task(owned));
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
