//! Passes over the tiered partitions of this broker: which partitions, when, and in which order of steps.
//!
//! Partitions work side by side, and so do the lanes of one ([`lanes`]); each step has its own errors and its own back-off.
//! The plans come from `tiering::planner`; every step is committed by the quorum before the next one relies on it:
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
use strandline_types::{
    BrokerId, MonotonicMs, Offset, RemoteLogSegmentId, TopicId, TopicPartition,
};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Tier;
use super::back_off::BackOff;
use super::next_step::{Lane, Seen, Step, lanes};
use super::ownership::{OwnershipError, own};
use super::sweeping::SWEEP_INTERVAL;
use crate::clock::{monotonic, now_ms};
use crate::context::BrokerContext;
use crate::log_limit::LogLimit;
use crate::partition::Partition;
use crate::retention::{retention_is_due, roll_if_expired};

/// Between looks at a store that has not answered yet.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Steps that failed are gathered for this long, so that many that are due one after the other make one pass.
const GATHER: Duration = Duration::from_millis(100);
/// However long the back-off, one partition tries a step again within this; when it succeeds, so do the others.
const SCOUT_MS: i64 = 5_000;
/// At a stop, copies under way have this long to abort what they have begun in the store.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

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
    /// Steps whose last attempt failed.
    back_off: BackOff<(TopicPartition, Step)>,
    pub(super) purge_back_off: BackOff<TopicId>,
    lines: LogLimit<(TopicPartition, Step)>,
    pub(super) purge_lines: LogLimit<TopicId>,
    /// Attempts of this process that are under way.
    pub(super) running: BTreeMap<RemoteLogSegmentId, Offset>,
    /// Partitions that are being worked on, by the first step of the lane.
    busy: HashSet<(TopicPartition, &'static str)>,
    /// Deleted topics are being purged.
    purging: bool,
    /// Somebody looks whose the prefix is and what the store can do.
    looking: bool,
}

pub(super) type StepError = String;

/// Which partitions a pass works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    All,
    /// Partitions with a step that failed and is due again.
    Failed,
}

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

    /// Works until `stop`; copies that are under way then are aborted, in the store too.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut last_sweep = tokio::time::Instant::now();
        let mut last_look = None;
        // When the set is dropped at the end, it aborts running work.
        let mut work = JoinSet::new();
        let mut pass = Pass::All;
        let mut all_are_due = Box::pin(retention_is_due(&self.context, true));
        loop {
            let is_known = self.tier.is_owned() && self.tier.store.copies.is_known();
            let looked = |at: tokio::time::Instant| at.elapsed() < LOOK_AGAIN;
            if !is_known
                && !last_look.is_some_and(looked)
                && !std::mem::replace(&mut self.lock().looking, true)
            {
                last_look = Some(tokio::time::Instant::now());
                let manager = self.clone();
                work.spawn(async move {
                    manager.look_at_store().await;
                    manager.lock().looking = false;
                });
            }
            let began = monotonic();
            self.pass(&mut work, pass).await;
            let cleans_up = self.cleans_up(&self.context.quorum.image());
            if cleans_up && self.tier.is_owned() && last_sweep.elapsed() >= SWEEP_INTERVAL {
                last_sweep = tokio::time::Instant::now();
                let manager = self.clone();
                work.spawn(async move { manager.sweep_orphans().await });
            }
            pass = tokio::select! {
                () = stop.cancelled() => break,
                () = &mut all_are_due => Pass::All,
                () = self.failed_is_due(began) => Pass::Failed,
            };
            if pass == Pass::All {
                all_are_due = Box::pin(retention_is_due(&self.context, true));
            }
            while work.try_join_next().is_some() {}
        }
        self.tier.uploader.stop.cancel();
        let _ = tokio::time::timeout(STOP_PATIENCE, async {
            while !self.lock().running.is_empty() && work.join_next().await.is_some() {}
        })
        .await;
    }

    /// Returns when a step that failed, and was not due yet when the last pass began, may be tried again.
    async fn failed_is_due(&self, last_pass: MonotonicMs) {
        loop {
            let next = {
                let state = self.lock();
                let steps = state.back_off.next_due(last_pass);
                let purges = state.purge_back_off.next_due(last_pass);
                steps.into_iter().chain(purges).min()
            };
            let wait = next.map(|at: MonotonicMs| at.ms_since(monotonic()) as u64);
            let due = async {
                match wait {
                    Some(ms) => tokio::time::sleep(Duration::from_millis(ms) + GATHER).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => return,
                // There is another one.
                () = self.wake.notified() => {}
            }
        }
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Finds out whose the prefix is, and how copies are proved, where the store did not answer at start.
    async fn look_at_store(&self) {
        let (tier, quorum) = (&self.tier, &self.context.quorum);
        if !tier.is_owned() {
            match own(&tier.store, quorum, &tier.url).await {
                Ok(()) => tier.set_owned(true),
                Err(error @ OwnershipError::Refused { .. }) => {
                    tracing::error!(%error, "nothing is copied to the cold tier");
                }
                Err(error) => tracing::warn!(%error, "nothing is copied to the cold tier yet"),
            }
        }
        if tier.is_owned() && !tier.store.copies.is_known() {
            tier.store.learn_proof().await;
        }
    }

    /// Starts work on tiered partitions that are not being worked on, so that a slow partition delays no other. A leader
    /// copies and deletes; a follower only deletes local segments. One broker deletes the objects of deleted topics, and
    /// orphans.
    async fn pass(self: &Arc<Self>, work: &mut JoinSet<()>, pass: Pass) {
        let partitions = self.context.partitions.all();
        let image = self.context.quorum.image();
        let tiered: Vec<_> = partitions
            .into_iter()
            .filter(|p| !p.is_offline())
            .filter(|p| p.config().remote_storage_enable || image.remote_log(p.id()).is_some())
            .collect();
        if pass == Pass::All {
            let known: HashSet<TopicPartition> =
                tiered.iter().map(|p| p.topic_partition.clone()).collect();
            self.tier.status.retain(|tp| known.contains(tp));
            let mut state = self.lock();
            state.back_off.retain(|(tp, _)| known.contains(tp));
            let purged: HashSet<_> = image.purging().map(|(id, _)| *id).collect();
            state.purge_back_off.retain(|id| purged.contains(id));
        }
        for partition in tiered {
            self.start_lanes(work, &partition, pass);
            if pass == Pass::All {
                self.refresh_status(&partition).await;
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

    fn start_lanes(
        self: &Arc<Self>,
        work: &mut JoinSet<()>,
        partition: &Arc<Partition>,
        pass: Pass,
    ) {
        let seen = Seen {
            leads: self.leads(partition),
            is_taking_over: partition.is_taking_over(),
            remote_storage_enable: partition.config().remote_storage_enable,
            owns_prefix: self.tier.is_owned(),
        };
        for lane in lanes(seen) {
            let Some(first) = lane.first() else { continue };
            let tp = partition.topic_partition.clone();
            let now = monotonic();
            let begins = {
                let mut state = self.lock();
                let due = |step: &Step| {
                    let key = (tp.clone(), *step);
                    match pass {
                        Pass::All => state.back_off.is_due(&key, now),
                        Pass::Failed => state.back_off.is_waited_for(&key, now),
                    }
                };
                lane.iter().any(due) && state.busy.insert((tp.clone(), first.name()))
            };
            if begins {
                let (manager, partition) = (self.clone(), partition.clone());
                work.spawn(async move {
                    manager.go_through(lane, &partition).await;
                    manager.lock().busy.remove(&(tp, first.name()));
                });
            }
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

    /// The steps of a lane, each that is due, whatever became of the one before.
    async fn go_through(&self, lane: Lane, partition: &Arc<Partition>) {
        let tp = &partition.topic_partition;
        for step in lane {
            let key = (tp.clone(), *step);
            if !self.lock().back_off.is_due(&key, monotonic()) {
                continue;
            }
            match self.take(*step, partition).await {
                Ok(()) => {
                    let mut state = self.lock();
                    if state.back_off.forget(&key) {
                        // The store may be well again: the others need not wait any longer.
                        let same = |key: &(TopicPartition, Step)| key.1 == *step;
                        state.back_off.hasten(same, monotonic().plus_ms(1));
                        self.wake();
                    }
                    drop(state);
                    self.tier.status.update(tp, |s| s.step_succeeded(*step));
                }
                Err(_) if self.tier.uploader.stop.is_cancelled() => return,
                Err(error) => self.note_failure(key, &error),
            }
        }
        self.refresh_status(partition).await;
    }

    async fn take(&self, step: Step, partition: &Arc<Partition>) -> Result<(), StepError> {
        match step {
            Step::FinishDeletions => self.finish_deletions(partition).await,
            Step::DeleteEverything => self.delete_everything(partition).await,
            Step::Roll => roll_if_expired(partition).await,
            Step::Copy => self.copy(partition).await,
            Step::TrimLocal => self.trim_local(partition).await,
            Step::ApplyRetention => self.apply_total_retention(partition).await,
        }
    }

    /// The shortest and the longest delay, and a factor around 1.
    pub(super) fn back_off_bounds(&self) -> ((i64, i64), f64) {
        let config = self.context.config();
        let base_ms = config.number("remote.log.manager.task.retry.backoff.ms");
        let most_ms = config.number("remote.log.manager.task.retry.backoff.max.ms");
        ((base_ms, most_ms), rand::rng().random_range(0.8..1.2))
    }

    fn note_failure(&self, key: (TopicPartition, Step), error: &str) {
        let (bounds, jitter) = self.back_off_bounds();
        let now = monotonic();
        let (delay_ms, unsaid) = {
            let mut state = self.lock();
            let mut delay_ms = state.back_off.failed(&key, bounds, jitter, now);
            let scouted_by = now.plus_ms(SCOUT_MS);
            let same = |other: &(TopicPartition, Step)| other.1 == key.1;
            if !state.back_off.is_any_due(same, scouted_by) {
                state.back_off.hasten(|other| *other == key, scouted_by);
                delay_ms = delay_ms.min(SCOUT_MS);
            }
            (delay_ms, state.lines.line(key.clone(), now))
        };
        self.tier.count_failed_step();
        let (tp, step) = key;
        if let Some(unsaid) = unsaid {
            let step = step.name();
            tracing::warn!(partition = %tp, step, %error, delay_ms, unsaid, "a step of a partition's cold tier failed; the step is tried again");
        }
        self.tier
            .status
            .update(&tp, |s| s.step_failed(step, error, now_ms(), delay_ms));
        self.wake();
    }
}
