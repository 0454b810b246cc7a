//! Moves sealed segments to the cold tier and lets go of what retention no longer wants, in both tiers.
//!
//! Each pass looks at every tiered partition; partitions work side by side, steps of one partition in order. The plans
//! come from `tiering::planner`; every step is committed by the quorum before the next one relies on it:
//!
//! | step | a crash after it leaves | who repairs |
//! |---|---|---|
//! | `CopySegmentStarted` committed | a record without objects | the next pass deletes the attempt |
//! | objects uploaded | objects of an unfinished attempt | the same |
//! | `CopySegmentFinished` committed | the segment in both tiers | local retention, later |
//! | local segment deleted | nothing | – |
//! | `DeleteSegmentStarted` committed | unreadable objects | the next pass deletes them |
//! | objects deleted | a record without objects | the next pass removes it |

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rand::Rng;
use strandline_metadata::ClusterImage;
use strandline_metadata::controller::Command;
use strandline_tiering::collector::{
    SweepError, SweepMode, SweepReport, SweepRules, purge_topic, sweep,
};
use strandline_tiering::planner::{
    LocalSegment, TierRules, abandoned_copies, plan_copy, plan_local_retention,
    plan_total_retention,
};
use strandline_tiering::upload::SegmentFiles;
use strandline_types::{
    BrokerId, MonotonicMs, Mutant, Offset, RemoteLogSegmentId, RemoteLogSegmentMetadata,
    RemoteLogSegmentState, TopicPartition, is_mutant,
};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Tier;
use super::segment_check::BatchCheck;
use crate::clock::{monotonic, now_ms};
use crate::partition::Partition;
use crate::server::BrokerContext;
use crate::timers::{apply_local_retention, retention_is_due, roll_if_expired};

/// How often orphans are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);
const SWEEP_MAX_SHARE: f64 = 0.5;

/// Runs the cold tier of this broker.
pub struct TierManager {
    context: Arc<BrokerContext>,
    tier: Arc<Tier>,
    copies: Arc<Semaphore>,
    state: Mutex<State>,
    wake: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// Failed partitions: attempts so far and when the next one is due.
    backoff: HashMap<TopicPartition, (u32, MonotonicMs)>,
    /// Attempts of this process that are under way.
    running: BTreeMap<RemoteLogSegmentId, Offset>,
    /// Partitions that are being worked on.
    busy: HashSet<TopicPartition>,
    /// Deleted topics are being purged.
    purging: bool,
}

type StepError = String;

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
        // Dropped at the end, the set aborts what is under way.
        let mut work = JoinSet::new();
        loop {
            self.pass(&mut work).await;
            let cleans_up = self.cleans_up(&self.context.quorum.image());
            if cleans_up && last_sweep.elapsed() >= SWEEP_INTERVAL {
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

    /// Starts work on every tiered partition that is not being worked on, so that one that is slow holds up no other. A
    /// leader copies and deletes; a follower only lets go of what it has on its own disk. Objects of deleted topics and
    /// orphans are one broker's.
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

    /// One broker looks after what belongs to no partition: the first of those that live.
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

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    async fn partition_pass(&self, partition: &Arc<Partition>) {
        let tp = &partition.topic_partition;
        let due = {
            let state = self.lock();
            state
                .backoff
                .get(tp)
                .is_none_or(|(_, at)| *at <= monotonic())
        };
        let result = if due {
            self.work_on(partition).await
        } else {
            Ok(())
        };
        match result {
            Ok(()) if due => {
                self.state
                    .lock()
                    .expect("no holder panics")
                    .backoff
                    .remove(tp);
                self.tier.status.update(tp, |s| s.next_try_ms = None);
            }
            Ok(()) => {}
            Err(error) => self.note_failure(tp, error),
        }
        self.refresh_status(partition).await;
    }

    fn note_failure(&self, tp: &TopicPartition, error: StepError) {
        let config = self.context.config();
        let base = config
            .number("remote.log.manager.task.retry.backoff.ms")
            .max(1);
        let most = config
            .number("remote.log.manager.task.retry.backoff.max.ms")
            .max(base);
        let jitter = rand::rng().random_range(0.8..1.2);
        let delay_ms = {
            let mut state = self.lock();
            let (attempts, at) = state.backoff.entry(tp.clone()).or_default();
            *attempts += 1;
            let delay = base.saturating_mul(1 << (*attempts).min(16)).min(most);
            let delay = (delay as f64 * jitter) as i64;
            *at = monotonic().plus_ms(delay);
            delay
        };
        tracing::warn!(partition = %tp, %error, "the cold tier of a partition did not get on");
        self.tier.status.update(tp, |s| {
            s.last_error = Some(error);
            s.last_error_ms = Some(now_ms());
            s.next_try_ms = Some(now_ms().saturating_add(delay_ms));
        });
        // A pass looks at it again when the delay is over.
        let (wake, delay) = (self.wake.clone(), delay_ms.max(1) as u64);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(delay)).await;
            wake.notify_one();
        });
    }

    async fn work_on(&self, partition: &Arc<Partition>) -> Result<(), StepError> {
        if !self.leads(partition) {
            return if partition.config().remote_storage_enable {
                self.trim_local(partition).await
            } else {
                Ok(())
            };
        }
        self.finish_deletions(partition).await?;
        let config = partition.config();
        if !config.remote_storage_enable {
            // Switched off with consent to delete: everything that is there goes.
            return self.delete_everything(partition).await;
        }
        roll_if_expired(partition).await?;
        let copied = self.copy(partition).await;
        self.trim_local(partition).await?;
        self.apply_total_retention(partition).await?;
        copied
    }

    fn rules(partition: &Partition) -> TierRules {
        let config = partition.config();
        TierRules {
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
            local_retention_ms: config.local_retention_ms,
            local_retention_bytes: config.local_retention_bytes,
            copy_disabled: config.remote_log_copy_disable,
            copy_lag_ms: config.remote_copy_lag_ms,
            copy_lag_bytes: config.remote_copy_lag_bytes,
        }
    }

    /// Sealed segments as plans see them, and the bytes of the active one.
    async fn local_segments(
        partition: &Arc<Partition>,
    ) -> Result<(Vec<LocalSegment>, u64), StepError> {
        let ages = partition
            .run(|owned| (owned.log.sealed_ages(), owned.log.active_bytes()))
            .await
            .map_err(|e| e.to_string())?;
        let segments = ages.0.iter().map(|age| LocalSegment {
            base_offset: age.base_offset,
            end_offset: age.end_offset,
            bytes: age.bytes,
            newest_record_ms: age.newest_record_ms(),
        });
        Ok((segments.collect(), ages.1))
    }

    fn highest_remote(&self, partition: &Partition) -> Offset {
        let image = self.context.quorum.image();
        image
            .remote_log(partition.id())
            .map_or(-1, |log| log.highest_remote_offset())
    }

    // --- Copying

    async fn copy(&self, partition: &Arc<Partition>) -> Result<(), StepError> {
        let (sealed, active) = Self::local_segments(partition).await?;
        let view = partition.view();
        let stable = if is_mutant(Mutant::CopyAboveHighWatermark) {
            view.log_end_offset
        } else {
            view.high_watermark.min(view.last_stable_offset)
        };
        let rules = Self::rules(partition);
        let plans = plan_copy(
            &sealed,
            active,
            self.highest_remote(partition),
            stable,
            &rules,
            now_ms(),
        );
        for plan in plans {
            let _permit = self.copies.acquire().await.map_err(|e| e.to_string())?;
            self.copy_segment(partition, plan.base_offset).await?;
            self.tier.status.update(&partition.topic_partition, |s| {
                s.last_success_ms = Some(now_ms());
                s.last_error = None;
                s.last_error_ms = None;
            });
            // Local space is what a long backlog runs out of, so it is given back segment by segment.
            self.trim_local(partition).await?;
        }
        Ok(())
    }

    async fn copy_segment(
        &self,
        partition: &Arc<Partition>,
        base_offset: Offset,
    ) -> Result<(), StepError> {
        let found = partition
            .run(move |owned| {
                let sealed = owned
                    .log
                    .sealed_segments()
                    .into_iter()
                    .find(|s| s.base_offset == base_offset)?;
                let epochs = owned.log.epoch_range(sealed.base_offset, sealed.end_offset);
                let lineage = owned.log.epoch_range(0, sealed.end_offset);
                Some((sealed, epochs, lineage))
            })
            .await
            .map_err(|e| e.to_string())?;
        let Some((sealed, epochs, lineage)) = found else {
            return Ok(());
        };
        let started = RemoteLogSegmentMetadata {
            id: RemoteLogSegmentId(Uuid::new_v4()),
            partition: partition.id(),
            base_offset: sealed.base_offset,
            end_offset: sealed.end_offset,
            max_timestamp_ms: sealed.max_timestamp_ms,
            broker_id: BrokerId(self.context.node_id()),
            leader_epoch: partition.leader_epoch(),
            event_timestamp_ms: now_ms(),
            segment_leader_epochs: epochs,
            log_bytes: sealed.bytes,
            log_crc32c: 0,
            side_bytes: 0,
            side_crc32c: 0,
            state: RemoteLogSegmentState::CopySegmentStarted,
        };
        self.state
            .lock()
            .expect("no holder panics")
            .running
            .insert(started.id, base_offset);
        let result = self.upload_and_finish(&started, &sealed, &lineage).await;
        self.state
            .lock()
            .expect("no holder panics")
            .running
            .remove(&started.id);
        if result.is_err() {
            // The attempt is over, unless only the answer was lost; its record goes at once where the quorum answers, else
            // with the next pass.
            let _ = self.abandon(&started).await;
        }
        result
    }

    async fn upload_and_finish(
        &self,
        started: &RemoteLogSegmentMetadata,
        sealed: &strandline_log::SealedSegment,
        lineage: &[strandline_types::EpochStart],
    ) -> Result<(), StepError> {
        self.commit(started.clone()).await?;
        let mut epochs = format!("0\n{}\n", lineage.len());
        for entry in lineage {
            epochs.push_str(&format!("{} {}\n", entry.epoch, entry.start_offset));
        }
        let files = SegmentFiles {
            log: sealed.log_path.clone(),
            offset_index: sealed.offset_index_path.clone(),
            time_index: sealed.time_index_path.clone(),
            transaction_index: sealed.transaction_index_path.clone(),
            producer_snapshot: sealed.producer_snapshot_path.clone(),
            leader_epochs: epochs,
        };
        let check = Box::new(BatchCheck::new(started.base_offset));
        let upload = self.tier.uploader.upload(started, &files, check);
        let uploaded = upload.await.map_err(|e| e.to_string())?;
        let finished = RemoteLogSegmentMetadata {
            event_timestamp_ms: now_ms(),
            log_bytes: uploaded.log_bytes,
            log_crc32c: uploaded.log_crc32c,
            side_bytes: uploaded.side_bytes,
            side_crc32c: uploaded.side_crc32c,
            state: RemoteLogSegmentState::CopySegmentFinished,
            ..started.clone()
        };
        self.commit(finished).await
    }

    async fn commit(&self, segment: RemoteLogSegmentMetadata) -> Result<(), StepError> {
        let command = Command::UpdateRemoteSegment(segment);
        let committed = self.context.quorum.submit(command).await;
        committed.map(|_| ()).map_err(|e| e.to_string())
    }

    // --- Letting go

    async fn trim_local(&self, partition: &Arc<Partition>) -> Result<(), StepError> {
        let (sealed, active) = Self::local_segments(partition).await?;
        let highest = Some(self.highest_remote(partition));
        let plan =
            plan_local_retention(&sealed, active, highest, &Self::rules(partition), now_ms());
        let Some(start) = plan else { return Ok(()) };
        let deleted = partition
            .run(move |owned| owned.log.delete_local_below(start))
            .await;
        deleted
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())
    }

    async fn apply_total_retention(&self, partition: &Arc<Partition>) -> Result<(), StepError> {
        let image = self.context.quorum.image();
        let Some(log) = image.remote_log(partition.id()).cloned() else {
            return self.retain_without_copies(partition).await;
        };
        let readable: Vec<_> = log.readable().collect();
        let (sealed, active) = Self::local_segments(partition).await?;
        let highest = log.highest_remote_offset();
        let local_only = active
            + sealed
                .iter()
                .filter(|s| s.base_offset > highest)
                .map(|s| s.bytes)
                .sum::<u64>();
        let start = partition.view().log_start_offset;
        let plan = plan_total_retention(
            &readable,
            local_only,
            start,
            &Self::rules(partition),
            now_ms(),
        );
        if let Some(new_start) = plan.new_log_start_offset {
            self.advance_log_start(partition, new_start).await?;
        }
        for id in plan.delete {
            if let Some(segment) = readable.iter().find(|s| s.id == id) {
                self.delete_segment(segment).await?;
            }
        }
        if readable.is_empty() {
            self.retain_without_copies(partition).await
        } else {
            Ok(())
        }
    }

    /// A tiered topic of which nothing has been copied obeys total retention like any other.
    async fn retain_without_copies(&self, partition: &Arc<Partition>) -> Result<(), StepError> {
        apply_local_retention(partition).await
    }

    async fn advance_log_start(
        &self,
        partition: &Arc<Partition>,
        to: Offset,
    ) -> Result<(), StepError> {
        let moved = partition
            .run(move |owned| owned.log.advance_log_start(to))
            .await;
        moved.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    /// Two committed phases: unreadable first, forgotten when the objects are gone.
    async fn delete_segment(&self, segment: &RemoteLogSegmentMetadata) -> Result<(), StepError> {
        self.commit(RemoteLogSegmentMetadata {
            state: RemoteLogSegmentState::DeleteSegmentStarted,
            event_timestamp_ms: now_ms(),
            ..segment.clone()
        })
        .await?;
        self.finish_deletion(segment).await
    }

    /// The same for a copy that nobody will finish.
    async fn abandon(&self, segment: &RemoteLogSegmentMetadata) -> Result<(), StepError> {
        let command = Command::AbandonCopy {
            partition: segment.partition,
            id: segment.id,
        };
        let committed = self.context.quorum.submit(command).await;
        committed.map_err(|e| e.to_string())?;
        self.finish_deletion(segment).await
    }

    async fn finish_deletion(&self, segment: &RemoteLogSegmentMetadata) -> Result<(), StepError> {
        if !self.tier.uploader.remove(segment).await {
            return Err(format!(
                "the objects of remote segment {} could not be deleted",
                segment.id
            ));
        }
        self.commit(RemoteLogSegmentMetadata {
            state: RemoteLogSegmentState::DeleteSegmentFinished,
            event_timestamp_ms: now_ms(),
            ..segment.clone()
        })
        .await
    }

    /// Goes on with deletions that an earlier pass or process began, and ends copies that nobody will finish.
    async fn finish_deletions(&self, partition: &Arc<Partition>) -> Result<(), StepError> {
        let image = self.context.quorum.image();
        let Some(log) = image.remote_log(partition.id()) else {
            return Ok(());
        };
        let running = self.lock().running.clone();
        let abandoned: HashSet<_> = abandoned_copies(log.segments(), &running)
            .into_iter()
            .collect();
        for segment in log.segments() {
            if abandoned.contains(&segment.id) {
                self.abandon(segment).await?;
            } else if segment.state == RemoteLogSegmentState::DeleteSegmentStarted {
                self.finish_deletion(segment).await?;
            }
        }
        Ok(())
    }

    async fn delete_everything(&self, partition: &Arc<Partition>) -> Result<(), StepError> {
        let image = self.context.quorum.image();
        let Some(log) = image.remote_log(partition.id()) else {
            return Ok(());
        };
        let local_start = partition.view().local_log_start_offset;
        self.advance_log_start(partition, local_start).await?;
        for segment in log.readable() {
            self.delete_segment(segment).await?;
        }
        Ok(())
    }

    async fn purge_deleted_topics(&self) {
        let image = self.context.quorum.image();
        for (id, name) in image.purging() {
            match purge_topic(&self.tier.store, *id).await {
                Ok(objects) => {
                    let purged = self.context.quorum.submit(Command::TopicPurged(*id)).await;
                    if purged.is_ok() {
                        tracing::info!(topic = %name, objects, "the remote data of a deleted topic is gone");
                    }
                }
                Err(error) => {
                    tracing::warn!(topic = %name, %error, "the remote data of a deleted topic is still there");
                }
            }
        }
    }

    async fn sweep_orphans(&self) {
        match look_for_orphans(&self.context, &self.tier, SweepMode::Delete).await {
            Ok(report) if report.deleted > 0 => {
                tracing::info!(
                    deleted = report.deleted,
                    bytes = report.orphan_bytes,
                    "orphaned objects are gone"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "orphaned objects were not swept"),
        }
    }

    async fn refresh_status(&self, partition: &Arc<Partition>) {
        let Ok((sealed, _)) = Self::local_segments(partition).await else {
            return;
        };
        let image = self.context.quorum.image();
        let log = image.remote_log(partition.id());
        let highest = log.map_or(-1, |l| l.highest_remote_offset());
        // Only a leader copies, so only a leader can be behind.
        let leads = partition.is_leader();
        let lags = |s: &&LocalSegment| leads && s.end_offset - 1 > highest;
        let waiting: Vec<_> = sealed.iter().filter(lags).collect();
        let view = partition.view();
        self.tier.status.update(&partition.topic_partition, |s| {
            s.local_start_offset = view.local_log_start_offset;
            s.local_end_offset = view.log_end_offset;
            s.local_bytes = view.local_bytes();
            s.remote_start_offset = log
                .and_then(|l| l.readable().next())
                .map_or(-1, |s| s.base_offset.max(view.log_start_offset));
            s.remote_end_offset = if highest < 0 { -1 } else { highest + 1 };
            s.remote_bytes = log.map_or(0, |l| l.readable_bytes());
            s.remote_segments = log.map_or(0, |l| l.readable().count() as u64);
            s.copy_lag_bytes = waiting.iter().map(|s| s.bytes).sum();
            s.copy_lag_ms = waiting
                .first()
                .map_or(0, |s| now_ms().saturating_sub(s.newest_record_ms).max(0));
        });
    }
}

/// Objects in the bucket that the image does not know; removed, or only reported.
pub async fn look_for_orphans(
    context: &BrokerContext,
    tier: &Tier,
    mode: SweepMode,
) -> Result<SweepReport, SweepError> {
    let image = context.quorum.image();
    let known = image
        .remote_logs()
        .flat_map(|(_, log)| log.segments().map(|s| s.id))
        .collect();
    let grace = context
        .config()
        .number("strandline.remote.orphan.grace.ms")
        .max(60_000) as u64;
    let rules = SweepRules {
        mode,
        grace: Duration::from_millis(grace),
        max_share: SWEEP_MAX_SHARE,
    };
    sweep(&tier.store, &known, &rules, SystemTime::now()).await
}
