//! Deletes remote segments in two committed phases: first the segment becomes unreadable, and when its objects are
//! gone, the metadata forget it. Unfinished copies that no process continues, and deleted topics, go the same way.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use rand::Rng;
use strandline_metadata::controller::Command;
use strandline_tiering::collector::purge_topic;
use strandline_tiering::planner::abandoned_copies;
use strandline_types::{RemoteLogSegmentMetadata, RemoteLogSegmentState, TopicId};

use super::passes::{StepError, TierManager};
use crate::clock::{monotonic, now_ms};
use crate::partition::Partition;

/// Deleted topics whose objects are removed side by side.
const PURGES: usize = 4;
/// Deletions of segments that may fail in a row before a step ends.
const MOST_FAILURES: usize = 8;

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
        let removed = self.tier.uploader.remove(segment).await;
        removed.map_err(|e| e.to_string())?;
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
        // A copy that has ended since the image was read is not abandoned.
        let now = self.context.quorum.image();
        let now = now.remote_log(partition.id());
        let abandoned: HashSet<_> = abandoned_copies(log.segments(), &running)
            .into_iter()
            .filter(|id| {
                let known = now.and_then(|log| log.find(*id));
                known.is_some_and(|s| s.state == RemoteLogSegmentState::CopySegmentStarted)
            })
            .collect();
        let segments = log.segments().filter(|s| !running.contains_key(&s.id));
        let begun: Vec<_> = segments
            .filter(|s| {
                abandoned.contains(&s.id) || s.state == RemoteLogSegmentState::DeleteSegmentStarted
            })
            .cloned()
            .collect();
        let outcome = each_of(&begun, |segment| {
            let is_abandoned = abandoned.contains(&segment.id);
            async move {
                if is_abandoned {
                    self.abandon(segment).await
                } else {
                    self.finish_deletion(segment).await
                }
            }
        });
        outcome.await
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
        let segments: Vec<_> = log.readable().cloned().collect();
        each_of(&segments, |segment| self.delete_segment(segment)).await
    }

    /// Removes what is left of deleted topics, side by side: one that fails holds up no other.
    pub(super) async fn purge_deleted_topics(&self) {
        let image = self.context.quorum.image();
        let is_due = |id: &TopicId| self.lock().purge_back_off.is_due(id, monotonic());
        let due = image.purging().filter(|(id, _)| is_due(id));
        let work = due.map(|(id, name)| self.purge(*id, name));
        futures::stream::iter(work)
            .for_each_concurrent(PURGES, |purge| purge)
            .await;
    }

    async fn purge(&self, id: TopicId, name: &str) {
        let purged = match purge_topic(&self.tier.store, id).await {
            Ok(objects) => {
                let purged = self.context.quorum.submit(Command::TopicPurged(id)).await;
                purged.map(|_| objects).map_err(|e| e.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match purged {
            Ok(objects) => {
                self.lock().purge_back_off.forget(&id);
                tracing::info!(topic = %name, objects, "the remote data of a deleted topic is gone");
            }
            Err(error) => {
                let (bounds, jitter) = self.back_off_bounds();
                let mut state = self.lock();
                let delay_ms = state
                    .purge_back_off
                    .failed(&id, bounds, jitter, monotonic());
                let unsaid = state.purge_lines.line(id, monotonic());
                drop(state);
                if let Some(unsaid) = unsaid {
                    tracing::warn!(topic = %name, %error, delay_ms, unsaid, "the remote data of a deleted topic is still there");
                }
                self.wake();
            }
        }
    }
}

/// Deletes one segment after the other, also behind one that cannot be deleted; the first error is returned. A store that
/// refuses so many in a row refuses all.
pub(super) async fn each_of<'a, F>(
    segments: &'a [RemoteLogSegmentMetadata],
    delete: impl Fn(&'a RemoteLogSegmentMetadata) -> F,
) -> Result<(), StepError>
where
    F: Future<Output = Result<(), StepError>>,
{
    let (mut outcome, mut in_a_row) = (Ok(()), 0);
    // From another one each time, so that those behind some that are locked have their turn.
    let first = rand::rng().random_range(0..segments.len().max(1));
    let (before, from) = segments.split_at_checked(first).unwrap_or((segments, &[]));
    for segment in from.iter().chain(before) {
        match delete(segment).await {
            Ok(()) => in_a_row = 0,
            Err(error) => {
                in_a_row += 1;
                outcome = outcome.and(Err(error));
                if in_a_row >= MOST_FAILURES {
                    break;
                }
            }
        }
    }
    outcome
}
