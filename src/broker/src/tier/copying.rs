//! Copying sealed segments into the bucket: which are next, the record before the upload and the one after it.
//!
//! Copies of one partition overlap, because a store answers late but answers many at once. Their commits do not: a copy is
//! finished when the one before it is ([`turn`](super::turn)), so the tier never has a gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt;
use strandline_log::{SealedSegment, read_snapshot};
use strandline_metadata::controller::Command;
use strandline_tiering::planner::plan_copy;
use strandline_tiering::upload::SegmentFiles;
use strandline_types::{
    BrokerId, EpochStart, Mutant, Offset, RemoteLogSegmentId, RemoteLogSegmentMetadata,
    RemoteLogSegmentState, is_mutant,
};
use uuid::Uuid;

use super::passes::{StepError, TierManager};
use super::sections::Claimed;
use super::segment_check::BatchCheck;
use super::turn::{Turn, turns};
use crate::clock::now_ms;
use crate::partition::Partition;

/// Copies of one partition that are under way at once, as far as `remote.log.manager.copier.thread.pool.size` and
/// `strandline.remote.copy.memory.bytes` allow.
const OVERLAPPING_COPIES: usize = 8;

impl TierManager {
    pub(super) async fn copy(&self, partition: &Arc<Partition>) -> Result<(), StepError> {
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
        let has_failed = AtomicBool::new(false);
        let copies = futures::stream::iter(plans.into_iter().zip(turns()))
            .take_while(|_| std::future::ready(!has_failed.load(Ordering::Relaxed)))
            // In order, so that no copy holds a permit which an earlier one waits for.
            .then(|(plan, turn)| {
                let permit = self.copies.clone().acquire_owned();
                async move { (plan, turn, permit.await) }
            })
            .map(|(plan, turn, permit)| {
                let has_failed = &has_failed;
                async move {
                    let _permit = permit.map_err(|e| e.to_string())?;
                    let copied = self.copy_segment(partition, plan.base_offset, turn).await;
                    has_failed.fetch_or(copied.is_err(), Ordering::Relaxed);
                    copied
                }
            })
            .buffered(OVERLAPPING_COPIES);
        let mut copies = std::pin::pin!(copies);
        let mut outcome = Ok(());
        while let Some(copied) = copies.next().await {
            if copied.is_ok() {
                self.tier.status.update(&partition.topic_partition, |s| {
                    s.last_success_ms = Some(now_ms());
                });
                // A long backlog uses up local space, so free space after each segment.
                self.trim_local(partition).await?;
            }
            // The first error is the cause of the others.
            outcome = outcome.and(copied);
        }
        outcome
    }

    pub(super) async fn copy_segment(
        &self,
        partition: &Arc<Partition>,
        base_offset: Offset,
        mut turn: Turn,
    ) -> Result<(), StepError> {
        let found = partition
            .run(move |owned| {
                let sealed = owned
                    .log()
                    .sealed_segments()
                    .into_iter()
                    .find(|s| s.base_offset == base_offset)?;
                let epochs = owned
                    .log()
                    .epoch_range(sealed.base_offset, sealed.end_offset);
                let lineage = owned.log().epoch_range(0, sealed.end_offset);
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
        self.lock().running.insert(started.id, base_offset);
        let interval = u64::try_from(partition.config().index_interval_bytes).unwrap_or(0);
        let copied = self.upload_and_finish(&started, &sealed, &lineage, interval, &mut turn);
        let result = copied.await;
        if result.is_ok() {
            turn.pass_on();
        } else if !self.tier.uploader.stop.is_cancelled() {
            // The attempt is over, unless only the answer was lost; its record goes at once where the quorum answers, else
            // with the next pass.
            let _ = self.abandon(&started).await;
        }
        self.lock().running.remove(&started.id);
        result
    }

    pub(super) async fn upload_and_finish(
        &self,
        started: &RemoteLogSegmentMetadata,
        sealed: &SealedSegment,
        lineage: &[EpochStart],
        index_interval_bytes: u64,
        turn: &mut Turn,
    ) -> Result<(), StepError> {
        if self.commit(started.clone()).await.is_err() {
            // A controller of an earlier version takes no copy before the one before it is finished.
            turn.wait().await?;
            self.commit(started.clone()).await?;
        }
        let files = SegmentFiles {
            log: sealed.log_path.clone(),
            transaction_index: sealed.transaction_index_path.clone(),
        };
        let base = sealed.log_path.with_extension("snapshot");
        let check = Box::new(BatchCheck::new(Claimed {
            base_offset: started.base_offset,
            end_offset: started.end_offset,
            index_interval_bytes,
            lineage: lineage.to_vec(),
            producers_before: read_snapshot(&base),
            producers_after: read_snapshot(&sealed.producer_snapshot_path),
        }));
        let upload = self.tier.uploader.upload(started, &files, check);
        let uploaded = upload.await.map_err(|e| e.to_string())?;
        let finished = RemoteLogSegmentMetadata {
            event_timestamp_ms: now_ms(),
            log_bytes: uploaded.log_bytes,
            log_crc32c: uploaded.log_crc32c,
            side_bytes: uploaded.side_bytes,
            side_crc32c: uploaded.side_crc32c,
            segment_leader_epochs: uploaded.segment_leader_epochs,
            max_timestamp_ms: uploaded.max_timestamp_ms,
            state: RemoteLogSegmentState::CopySegmentFinished,
            ..started.clone()
        };
        turn.wait().await?;
        self.commit(finished).await
    }

    pub(super) async fn commit(&self, segment: RemoteLogSegmentMetadata) -> Result<(), StepError> {
        let command = Command::UpdateRemoteSegment(segment);
        let committed = self.context.quorum.submit(command).await;
        committed.map(|_| ()).map_err(|e| e.to_string())
    }
}
