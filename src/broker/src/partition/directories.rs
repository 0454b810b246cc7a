//! Partition directories: found at start, claimed by the metadata, chosen for new replicas, set aside.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use strandline_log::LogDir;
use strandline_types::{TopicIdPartition, TopicPartition};

use super::table::PartitionManager;
use crate::clock::now_ms;

pub(super) struct FoundDirectory {
    pub log_dir: usize,
    pub path: PathBuf,
    /// The other one of the same partition is what a move has left behind.
    pub replaces_another: bool,
}

/// Notes a directory that was found; of two for one partition only the newer one stays.
pub(super) fn keep_newer(
    found: &mut HashMap<TopicIdPartition, FoundDirectory>,
    id: TopicIdPartition,
    here: FoundDirectory,
) -> std::io::Result<()> {
    let Some(other) = found.remove(&id) else {
        found.insert(id, here);
        return Ok(());
    };
    let (newer, older) = if here.replaces_another {
        (here, other)
    } else {
        (other, here)
    };
    if newer.replaces_another {
        LogDir::delete_partition(&older.path)?;
    } else {
        tracing::error!(kept = %newer.path.display(), aside = %older.path.display(), "a partition has two directories; one is set aside");
        LogDir::quarantine(&older.path, now_ms())?;
    }
    found.insert(id, newer);
    Ok(())
}

impl PartitionManager {
    /// Directories take turns; a failed one gets nothing new.
    pub(super) fn next_directory(&self) -> usize {
        let usable: Vec<usize> = (0..self.log_dirs.dirs.len())
            .filter(|i| !self.log_dirs.is_failed(*i))
            .collect();
        let turn = self.next_directory.fetch_add(1, Ordering::Relaxed);
        if usable.is_empty() {
            0
        } else {
            usable[turn % usable.len()]
        }
    }

    /// Where a replica that is not here yet is to be.
    pub fn prefer_log_dir(&self, tp: TopicPartition, index: usize) {
        let mut preferred = self.preferred.lock().expect("no holder panics");
        preferred.insert(tp, index);
    }

    /// Sets directories aside that the image does not know. Called once, after the first image.
    pub fn quarantine_strays(&self) {
        for (id, future) in self.futures.lock().expect("no holder panics").drain() {
            if let Err(error) = std::fs::remove_dir_all(&future.path) {
                tracing::error!(partition = %id, path = %future.path.display(), %error, "what a move left behind stays");
            }
        }
        for (id, found) in self.found.lock().expect("no holder panics").drain() {
            match LogDir::quarantine(&found.path, now_ms()) {
                Ok(path) => {
                    tracing::warn!(partition = %id, path = %path.display(), "no topic has this directory; it is set aside");
                }
                Err(error) => {
                    tracing::error!(path = %found.path.display(), %error, "a stray directory stays");
                }
            }
        }
    }

    /// Removes directories that were set aside longer ago than `age_ms`. Blocks.
    pub fn remove_strays(&self, age_ms: i64) {
        for dir in &self.log_dirs.dirs {
            match dir.remove_strays(now_ms().saturating_sub(age_ms)) {
                Ok(removed) => {
                    for path in removed {
                        tracing::info!(path = %path.display(), "a directory that was set aside is removed");
                    }
                }
                Err(error) => {
                    tracing::warn!(directory = %dir.path.display(), %error, "directories that were set aside stay");
                }
            }
        }
    }
}
