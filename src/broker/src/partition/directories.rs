//! Partition directories: found at start, claimed by the first image, chosen for new replicas, set aside.
//!
//! Crash consistency: [`claim`] decides for all directories of a name before any of them is opened. Renames come first and
//! are durable before anything is created or opened; a crash between two of them leaves a state from which the next start
//! decides the same again. A directory whose rename failed keeps its name, and no other is created under it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use strandline_log::{LogDir, PartitionDirectory};
use strandline_metadata::ClusterImage;
use strandline_replication::directories::{Action, FoundDirectory, Outcome, Stage, claim};
use strandline_types::{BrokerId, TopicId, TopicIdPartition, TopicPartition};

use super::failed::FailedReplica;
use super::table::PartitionManager;
use crate::clock::now_ms;

/// A directory in the log directory at this index.
pub(super) struct Located {
    pub log_dir: usize,
    pub directory: PartitionDirectory,
}

/// The directories found in the log directories at start, by partition name.
pub(super) type Unclaimed = BTreeMap<TopicPartition, Vec<Located>>;

/// The directories that the first image has claimed.
#[derive(Default)]
pub(super) struct Claimed {
    /// Directories that are opened, with the index of their log directory.
    pub to_open: HashMap<TopicIdPartition, (usize, PathBuf)>,
    /// Log directories to which the last stop interrupted a move.
    pub moves: HashMap<TopicIdPartition, usize>,
}

impl Located {
    fn facts(&self) -> FoundDirectory {
        let directory = &self.directory;
        FoundDirectory {
            topic_id: directory.topic_id.clone().ok(),
            stage: if directory.is_future {
                Stage::Future
            } else if directory.replaces_another {
                Stage::Moved
            } else {
                Stage::Current
            },
            has_records: directory.has_records,
        }
    }
}

/// The topic id that the metadata has for a name, if this broker has a replica of it.
fn wanted_id(image: &ClusterImage, tp: &TopicPartition, own: BrokerId) -> Option<TopicId> {
    let topic = image.topic(&tp.topic)?;
    let partition = topic.partitions.get(&tp.partition)?;
    partition.replicas.contains(&own).then_some(topic.id)
}

fn set_aside(found: &Located) -> std::io::Result<()> {
    let path = LogDir::quarantine(&found.directory.path, now_ms())?;
    let belongs_to = match &found.directory.topic_id {
        Ok(id) => id.to_string(),
        Err(reason) => reason.clone(),
    };
    tracing::warn!(path = %path.display(), topic_id = belongs_to, "no replica here has this directory; it is set aside");
    Ok(())
}

impl PartitionManager {
    /// Decides over every directory that was found at start, and renames those that are not to be opened. Only the first
    /// image finds any. Blocks.
    pub(super) fn claim_found(&self, image: &ClusterImage) {
        let unclaimed = std::mem::take(&mut *self.unclaimed.lock().expect("no holder panics"));
        if unclaimed.is_empty() {
            return;
        }
        let mut moved = Vec::new();
        for (tp, located) in unclaimed {
            moved.extend(self.claim_name(&tp, &located, wanted_id(image, &tp, self.node_id)));
        }
        if let Err(error) = self.sync_names() {
            tracing::error!(%error, "renames of partition directories may not be durable");
            return;
        }
        // The directories that these replaced are gone by now.
        for path in moved {
            if let Err(error) = LogDir::replaced(&path) {
                tracing::warn!(path = %path.display(), %error, "the marker of a finished move could not be removed");
            }
        }
    }

    /// Claims the directories of one name; returns those of finished moves.
    fn claim_name(
        &self,
        tp: &TopicPartition,
        located: &[Located],
        wanted: Option<TopicId>,
    ) -> Vec<PathBuf> {
        let facts: Vec<_> = located.iter().map(Located::facts).collect();
        let (outcome, actions) = claim(&facts, wanted);
        let id = wanted.map(|topic_id| TopicIdPartition {
            topic_id,
            partition: tp.partition,
        });
        let mut claimed = self.claimed.lock().expect("no holder panics");
        let (mut moved, mut left) = (Vec::new(), Vec::new());
        for (found, action) in located.iter().zip(actions) {
            let (path, log_dir) = (&found.directory.path, found.log_dir);
            let renamed = match action {
                Action::SetAside => set_aside(found),
                Action::Remove => LogDir::retire(path).map(|retired| self.removals.push(retired)),
                Action::Open => {
                    if let Some(id) = id {
                        claimed.to_open.insert(id, (log_dir, path.clone()));
                    }
                    if found.directory.replaces_another {
                        moved.push(path.clone());
                    }
                    Ok(())
                }
                Action::Move => {
                    if let Some(id) = id {
                        claimed.moves.insert(id, log_dir);
                    }
                    Ok(())
                }
                Action::Leave => {
                    left.push((log_dir, path.clone()));
                    Ok(())
                }
            };
            if let Err(error) = renamed {
                tracing::error!(path = %path.display(), %error, "an unused directory could not be renamed");
                left.push((log_dir, path.clone()));
            }
        }
        let Some(id) = id else { return Vec::new() };
        let reason = match outcome {
            Outcome::Offline(doubt) => format!("{doubt}"),
            Outcome::Create if !left.is_empty() => {
                "a directory of another topic has its name".to_owned()
            }
            _ if !left.is_empty() => return Vec::new(),
            _ => return moved,
        };
        let unreadable = located
            .iter()
            .find_map(|l| l.directory.topic_id.as_ref().err());
        let directories: Vec<_> = left.iter().map(|(_, path)| path.display()).collect();
        tracing::error!(partition = %tp, %reason, unreadable, ?directories, "the replica is offline; nothing in its directories is changed");
        self.fail(
            id,
            FailedReplica {
                topic_partition: tp.clone(),
                directories: left,
            },
        );
        Vec::new()
    }

    /// Directories take turns; a failed one gets nothing new, and a full one only where all are full.
    pub(super) fn next_directory(&self) -> usize {
        let usable = || self.log_dirs.usable().map(|(index, _)| index);
        let has_room = |index: &usize| !self.log_dirs.health.is_full(*index);
        let mut chosen: Vec<usize> = usable().filter(has_room).collect();
        if chosen.is_empty() {
            chosen = usable().collect();
        }
        let turn = self.next_directory.fetch_add(1, Ordering::Relaxed);
        let at = turn.checked_rem(chosen.len()).unwrap_or(0);
        chosen.get(at).copied().unwrap_or(0)
    }

    /// Where a replica that is not here yet is to be.
    pub fn prefer_log_dir(&self, tp: TopicPartition, index: usize) {
        let mut preferred = self.preferred.lock().expect("no holder panics");
        preferred.insert(tp, index);
    }

    /// Removes directories that were set aside longer ago than `age_ms`. Blocks.
    pub fn remove_strays(&self, age_ms: i64) {
        for (_, dir) in self.log_dirs.usable() {
            match dir.remove_strays(now_ms().saturating_sub(age_ms)) {
                Ok(removed) => {
                    for path in removed {
                        tracing::info!(path = %path.display(), "a directory that was set aside is removed");
                    }
                }
                Err(error) => {
                    self.log_dirs.health.report_io(&dir.path, &error);
                    tracing::warn!(directory = %dir.path.display(), %error, "directories that were set aside could not be removed");
                }
            }
        }
    }
}
