//! Replicas that failed to open. Such a replica stays offline until the next start: if it were opened again with other
//! offsets, its log could be truncated below acknowledged records. Its directory and its checkpoints stay as they are.

use std::path::PathBuf;

use strandline_log::LogDir;
use strandline_metadata::ClusterImage;
use strandline_types::{TopicIdPartition, TopicPartition};

use super::table::PartitionManager;
use crate::clock::now_ms;

/// A replica that is offline, and its directories with the indexes of their log directories.
pub(super) struct FailedReplica {
    pub topic_partition: TopicPartition,
    pub directories: Vec<(usize, PathBuf)>,
}

impl PartitionManager {
    pub(super) fn fail(&self, id: TopicIdPartition, replica: FailedReplica) {
        let mut failed = self.failed.lock().expect("no holder panics");
        failed.insert(id, replica);
    }

    pub(super) fn has_failed(&self, id: &TopicIdPartition) -> bool {
        self.failed
            .lock()
            .expect("no holder panics")
            .contains_key(id)
    }

    /// How many replicas failed to open.
    pub fn failed_count(&self) -> usize {
        self.failed.lock().expect("no holder panics").len()
    }

    /// The directories of failed replicas, with the indexes of their log directories.
    pub(super) fn failed_directories(&self) -> Vec<(usize, PathBuf)> {
        let failed = self.failed.lock().expect("no holder panics");
        let all = failed.values().flat_map(|f| f.directories.iter());
        all.cloned().collect()
    }

    /// Sets the directories of failed replicas aside that the metadata does not want here any more, so that their names are
    /// free. Blocks.
    pub(super) fn release_failed(&self, image: &ClusterImage) {
        let mut failed = self.failed.lock().expect("no holder panics");
        let wanted = |id: &TopicIdPartition| {
            let state = image.partition(*id);
            state.is_some_and(|s| s.replicas.contains(&self.node_id))
        };
        failed.retain(|id, replica| {
            if wanted(id) {
                return true;
            }
            for (log_dir, path) in &replica.directories {
                if self.log_dirs.is_failed(*log_dir) {
                    continue;
                }
                let renamed = LogDir::quarantine(path, now_ms())
                    .and_then(|aside| self.sync_names().map(|()| aside));
                match renamed {
                    Ok(aside) => {
                        tracing::warn!(partition = %id, path = %aside.display(), "the directory of a failed replica is set aside");
                    }
                    Err(error) => {
                        tracing::error!(path = %path.display(), %error, "the directory of a failed replica could not be renamed");
                    }
                }
            }
            false
        });
    }
}
