//! Deletes remote segments in two committed phases: first the segment becomes unreadable, and when its objects are
//! gone, the metadata forget it. Unfinished copies that no process continues, and deleted topics, go the same way.

use std::collections::HashSet;
use std::sync::Arc;

use strandline_metadata::controller::Command;
use strandline_tiering::collector::purge_topic;
use strandline_tiering::planner::abandoned_copies;
use strandline_types::{RemoteLogSegmentMetadata, RemoteLogSegmentState};

use super::passes::{StepError, TierManager};
use crate::clock::now_ms;
use crate::partition::Partition;

impl TierManager {
    /// Two committed phases: unreadable first, forgotten when the objects are gone.
    pub(super) async fn delete_segment(
        &self,
        segment: &RemoteLogSegmentMetadata,
    ) -> Result<(), StepError> {
        self.commit(RemoteLogSegmentMetadata {
            state: RemoteLogSegmentState::DeleteSegmentStarted,
            event_timestamp_ms: now_ms(),
            ..segment.clone()
        })
        .await?;
        self.finish_deletion(segment).await
    }

    /// Deletes an unfinished copy that no process continues.
    pub(super) async fn abandon(
        &self,
        segment: &RemoteLogSegmentMetadata,
    ) -> Result<(), StepError> {
        let command = Command::AbandonCopy {
            partition: segment.partition,
            id: segment.id,
        };
        let committed = self.context.quorum.submit(command).await;
        committed.map_err(|e| e.to_string())?;
        self.finish_deletion(segment).await
    }

    pub(super) async fn finish_deletion(
        &self,
        segment: &RemoteLogSegmentMetadata,
    ) -> Result<(), StepError> {
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

    /// Continues deletions that an earlier pass or process began, and deletes unfinished copies that no process
    /// continues.
    pub(super) async fn finish_deletions(
        &self,
        partition: &Arc<Partition>,
    ) -> Result<(), StepError> {
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

    pub(super) async fn delete_everything(
        &self,
        partition: &Arc<Partition>,
    ) -> Result<(), StepError> {
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

    pub(super) async fn purge_deleted_topics(&self) {
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
}
