//! Passes over the tiered partitions of this broker: which partitions, when, and in which order of steps.
//!
//! Partitions work side by side, steps of one partition in order ([`next_step`]). The plans come from
//! `tiering::planner`; every step is committed by the quorum before the next one relies on it:
//!
//! | step | a crash after it leaves | who repairs |
//! |---|---|---|
//! | `CopySegmentStarted` committed | a record without objects | the next pass deletes the attempt |
//! | objects uploaded | objects of an unfinished attempt | the same |
//! | `CopySegmentFinished` committed | the segment in both tiers | local retention, later |
//! | local segment deleted | nothing | – |
//! | `DeleteSegmentStarted` committed | unreadable objects | the next pass deletes them |
//! | objects deleted | a record without objects | the next pass removes it |
//!
//! Read next: `copying`, `deleting`, `retention`, `sweeping`.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng;
use strandline_metadata::ClusterImage;
use strandline_types::{BrokerId, Offset, RemoteLogSegmentId, TopicPartition};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Tier;
use super::back_off::BackOff;
use super::next_step::{Seen, Step, next_step};
use super::ownership::{OwnershipError, own};
use super::sweeping::SWEEP_INTERVAL;
use crate::clock::{monotonic, now_ms};
use crate::partition::Partition;
use crate::retention::{retention_is_due, roll_if_expired};
use crate::server::BrokerContext;

/// Runs the cold tier of this broker.
pub struct TierManager {
    pub(super) context: Arc<BrokerContext>,
    pub(super) tier: Arc<Tier>,
    pub(super) copies: Arc<Semaphore>,
    state: Mutex<State>,
    wake: Arc<Notify>,
}

#[derive(Default)]
pub(super) struct State {
    /// Partitions whose last pass failed.
    back_off: BackOff<TopicPartition>,
    /// Attempts of this process that are under way.
    pub running: BTreeMap<RemoteLogSegmentId, Offset>,
    /// Partitions that are being worked on.
    busy: HashSet<TopicPartition>,
    /// Deleted topics are being purged.
    purging: bool,
}

pub(super) type StepError = String;

impl TierManager {
    pub fn new(context: Arc<BrokerContext>, tier: Arc<Tier>) -> Self {
        let copiers = context
            .config()
            .number("remote.log.manager.copier.thread.pool.size")
            .max(1);
        Self {
            context,
            tier,
            copies: Arc::new(Semaphore::new(copiers as usize)),
            state: Mutex::default(),
            wake: Arc::new(Notify::new()),
        }
    }

    /// Works until `stop`; a copy that is under way then is abandoned and swept up by the next start.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut last_sweep = tokio::time::Instant::now();
        // When the set is dropped at the end, it aborts running work.
        let mut work = JoinSet::new();
        loop {
            self.look_at_owner().await;
            self.pass(&mut work).await;
            let cleans_up = self.cleans_up(&self.context.quorum.image());
            if cleans_up && self.tier.is_owned() && last_sweep.elapsed() >= SWEEP_INTERVAL {
                last_sweep = tokio::time::Instant::now();
                let manager = self.clone();
                work.spawn(async move { manager.sweep_orphans().await });
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = retention_is_due(&self.context, true) => {}
                () = self.wake.notified() => {}
            }
            while work.try_join_next().is_some() {}
        }
    }

    /// Finds out whose the prefix is, where the store did not answer at start.
    async fn look_at_owner(&self) {
        if self.tier.is_owned() {
            return;
        }
        let (tier, quorum) = (&self.tier, &self.context.quorum);
        match own(&tier.store, quorum, &tier.url).await {
            Ok(()) => tier.set_owned(true),
            Err(error @ OwnershipError::Refused { .. }) => {
                tracing::error!(%error, "nothing is copied to the cold tier");
            }
            Err(error) => tracing::warn!(%error, "nothing is copied to the cold tier yet"),
        }
    }

    /// Starts work on every tiered partition that is not being worked on, so that a slow partition delays no other. A
    /// leader copies and deletes; a follower only deletes local segments. One broker deletes the objects of deleted
    /// topics, and orphans.
    async fn pass(self: &Arc<Self>, work: &mut JoinSet<()>) {
        let partitions = self.context.partitions.all();
        let image = self.context.quorum.image();
        let tiered: Vec<_> = partitions
            .into_iter()
            .filter(|p| !p.is_offline())
            .filter(|p| p.config().remote_storage_enable || image.remote_log(p.id()).is_some())
            .collect();
        let known: HashSet<TopicPartition> =
            tiered.iter().map(|p| p.topic_partition.clone()).collect();
        self.tier.status.retain(|tp| known.contains(tp));
        for partition in tiered {
            self.refresh_status(&partition).await;
            let tp = partition.topic_partition.clone();
            if self.lock().busy.insert(tp.clone()) {
                let manager = self.clone();
                work.spawn(async move {
                    manager.partition_pass(&partition).await;
                    manager.lock().busy.remove(&tp);
                });
            }
        }
        if self.cleans_up(&image)
            && self.tier.is_owned()
            && image.purging().next().is_some()
            && !std::mem::replace(&mut self.lock().purging, true)
        {
            let manager = self.clone();
            work.spawn(async move {
                manager.purge_deleted_topics().await;
                manager.lock().purging = false;
            });
        }
    }

    /// Whether this broker does the work that belongs to no partition: the first live broker does.
    fn cleans_up(&self, image: &ClusterImage) -> bool {
        let first = image.live_brokers().next();
        first.is_some_and(|b| b.id.0 == self.context.node_id())
    }

    /// Both the image and the partition's owner say that this broker leads: an image alone may be ahead.
    fn leads(&self, partition: &Partition) -> bool {
        let image = self.context.quorum.image();
        let leader = image.partition(partition.id()).and_then(|p| p.leader);
        partition.is_leader() && leader == Some(BrokerId(self.context.node_id()))
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Each change of the state is one call, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn partition_pass(&self, partition: &Arc<Partition>) {
        let tp = &partition.topic_partition;
        if self.lock().back_off.is_due(tp, monotonic()) {
            match self.work_on(partition).await {
                Ok(()) => {
                    self.lock().back_off.forget(tp);
                    self.tier.status.update(tp, |s| s.next_try_ms = None);
                }
                Err(error) => self.note_failure(tp, error),
            }
        }
        self.refresh_status(partition).await;
    }

    fn note_failure(&self, tp: &TopicPartition, error: StepError) {
        let config = self.context.config();
        let base_ms = config.number("remote.log.manager.task.retry.backoff.ms");
        let most_ms = config.number("remote.log.manager.task.retry.backoff.max.ms");
        let jitter = rand::rng().random_range(0.8..1.2);
        let delay_ms = {
            let back_off = &mut self.lock().back_off;
            back_off.failed(tp, (base_ms, most_ms), jitter, monotonic())
        };
        tracing::warn!(partition = %tp, %error, delay_ms, "a step of a partition's cold tier failed; the step is tried again");
        self.tier.status.update(tp, |s| {
            s.last_error = Some(error);
            s.last_error_ms = Some(now_ms());
            s.next_try_ms = Some(now_ms().saturating_add(delay_ms));
        });
        // The next pass looks at the partition when the delay is over.
        let (wake, delay) = (self.wake.clone(), delay_ms.max(1) as u64);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            wake.notify_one();
        });
    }

    /// All steps of one partition. Retention also runs after a failed copy, because earlier copies may allow deletions.
    async fn work_on(&self, partition: &Arc<Partition>) -> Result<(), StepError> {
        let seen = Seen {
            leads: self.leads(partition),
            is_taking_over: partition.is_taking_over(),
            remote_storage_enable: partition.config().remote_storage_enable,
            owns_prefix: self.tier.is_owned(),
        };
        let (mut last, mut copied) = (None, Ok(()));
        while let Some(step) = next_step(seen, last) {
            match step {
                Step::FinishDeletions => self.finish_deletions(partition).await?,
                Step::DeleteEverything => self.delete_everything(partition).await?,
                Step::Roll => roll_if_expired(partition).await?,
                Step::Copy => copied = self.copy(partition).await,
                Step::TrimLocal => self.trim_local(partition).await?,
                Step::ApplyRetention => self.apply_total_retention(partition).await?,
            }
            last = Some(step);
        }
        copied
    }
}
