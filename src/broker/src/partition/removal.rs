//! Removing partitions that this broker has no replica of any more.

use std::sync::Arc;

use strandline_log::LogDir;

use super::handle::Partition;
use super::shard::ShardMessage;
use super::table::PartitionManager;

impl PartitionManager {
    /// Takes a partition from its owner and deletes its directory.
    pub(super) async fn remove(&self, partition: &Arc<Partition>) {
        let owner = self.shards.owner_of(partition.key());
        let (reply, path) = tokio::sync::oneshot::channel();
        let sent = owner
            .send(ShardMessage::Remove {
                key: partition.key(),
                reply,
            })
            .await;
        if sent.is_err() {
            return;
        }
        if let Ok(path) = path.await {
            let deleted = tokio::task::spawn_blocking(move || {
                LogDir::delete_partition(&path).map_err(|e| (path, e))
            });
            if let Ok(Err((path, error))) = deleted.await {
                tracing::warn!(path = %path.display(), %error, "the directory of a deleted partition stays");
            }
        }
    }
}
