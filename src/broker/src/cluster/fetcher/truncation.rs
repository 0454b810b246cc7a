//! The truncation step of a round: logs that have diverged from their leaders' are truncated by leader epoch.

use strandline_replication::truncation_offset;
use strandline_types::{LeaderEpoch, Offset};

use super::answer::Asked;
use super::round::Fetcher;

impl Fetcher {
    /// Truncates logs that have diverged from their leaders'; returns when the new recovery points are on disk.
    pub(super) async fn truncate(&self, truncations: Vec<(Asked, (LeaderEpoch, Offset))>) {
        if truncations.is_empty() {
            return;
        }
        for (one, diverging) in truncations {
            let (partition, epoch) = (&one.partition, one.leader_epoch);
            let cut = partition
                .run(move |owned| {
                    if owned.handle.leader_epoch() != epoch || owned.handle.is_leader() {
                        return Ok(None);
                    }
                    let end = owned.log.log_end_offset();
                    let epochs = owned.log.epochs();
                    let to = truncation_offset(diverging, end, |e| epochs.end_offset_for(e, end));
                    owned.log.truncate(to).map(|cut| cut.then_some((end, to)))
                })
                .await;
            match cut {
                Ok(Ok(Some((from, to)))) => {
                    tracing::info!(partition = %partition.topic_partition, from, to, "the log was cut to the leader's");
                }
                Ok(Err(error)) => {
                    tracing::error!(partition = %partition.topic_partition, %error, "the log was not cut");
                }
                Ok(Ok(None)) | Err(_) => {}
            }
        }
        self.write_checkpoints().await;
    }

    pub(super) async fn write_checkpoints(&self) {
        let manager = self.context.partitions.clone();
        let _ = tokio::task::spawn_blocking(move || manager.write_checkpoints()).await;
    }
}
