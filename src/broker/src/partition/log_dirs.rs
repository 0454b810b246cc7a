//! The log directories of this process, each with its flusher.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strandline_log::{LogDir, LogDirError, PartitionDirectories};
use strandline_metadata::controller::FoundReplica;
use strandline_types::TopicIdPartition;
use tokio::sync::mpsc;

use super::flusher::{FlushRequest, Flusher};
use super::health::Health;
use crate::latencies::Latencies;

/// The log directories of this process, in the order of `log.dirs`.
pub struct LogDirs {
    pub dirs: Vec<LogDir>,
    pub absent: Vec<AbsentDir>,
    /// The partition directories in each log directory when it was opened.
    pub(super) found: Vec<PartitionDirectories>,
    pub(super) flushers: Vec<Flusher>,
    pub health: Arc<Health>,
    /// How long flushes of appended records took, in all directories.
    pub(crate) flush_times: Arc<Latencies>,
}

/// A directory of `log.dirs` that could not be opened.
#[derive(Debug)]
pub struct AbsentDir {
    pub path: PathBuf,
    pub reason: String,
}

impl LogDirs {
    /// Opens all directories. The broker starts without those that fail, unless it is `indispensable`, because the metadata
    /// lies there, or the last. Blocks.
    pub fn open(
        paths: &[PathBuf],
        node_id: i32,
        cluster_id: Option<&str>,
        reserve_bytes: u64,
        indispensable: &Path,
    ) -> Result<Self, LogDirError> {
        let (mut dirs, mut found, mut absent) = (Vec::new(), Vec::new(), Vec::new());
        let mut last_error = None;
        for path in paths {
            match open_one(path, node_id, cluster_id, reserve_bytes) {
                Ok((dir, partitions)) => {
                    dirs.push(dir);
                    found.push(partitions);
                }
                Err(error @ LogDirError::Io { .. }) if path != indispensable => {
                    tracing::error!(directory = %path.display(), %error, "the log directory cannot be opened; its replicas are offline until a start at which it can");
                    absent.push(AbsentDir {
                        path: path.clone(),
                        reason: error.to_string(),
                    });
                    last_error = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = last_error.filter(|_| dirs.is_empty()) {
            return Err(error);
        }
        let health = Health::new(&dirs);
        let flush_times = Arc::<Latencies>::default();
        let flusher = |(index, d): (usize, &LogDir)| {
            let times = flush_times.clone();
            let started = Flusher::start(d.path.clone(), index, health.clone(), times);
            started.map_err(|source| LogDirError::Io {
                path: d.path.clone(),
                source,
            })
        };
        let flushers = dirs.iter().enumerate().map(flusher);
        Ok(Self {
            flushers: flushers.collect::<Result<_, _>>()?,
            dirs,
            absent,
            found,
            health,
            flush_times,
        })
    }

    /// The replicas that lie in the directories, for the registration.
    pub fn found_replicas(&self) -> Vec<FoundReplica> {
        let mut replicas: BTreeMap<TopicIdPartition, bool> = BTreeMap::new();
        let directories = self.found.iter().flat_map(|found| &found.partitions);
        for directory in directories.filter(|d| !d.is_future) {
            if let Ok(topic_id) = directory.topic_id {
                let id = TopicIdPartition {
                    topic_id,
                    partition: directory.topic_partition.partition,
                };
                *replicas.entry(id).or_default() |= directory.has_records;
            }
        }
        let replicas = replicas.into_iter();
        let replicas = replicas.map(|(partition, has_records)| FoundReplica {
            partition,
            has_records,
        });
        replicas.collect()
    }

    pub(super) fn flusher(&self, index: usize) -> Option<mpsc::UnboundedSender<FlushRequest>> {
        self.flushers[index].sender()
    }

    /// Whether an I/O error has taken the directory offline.
    pub fn is_failed(&self, index: usize) -> bool {
        self.health.is_failed(index)
    }

    /// The directories that have not failed, with their indexes.
    pub fn usable(&self) -> impl Iterator<Item = (usize, &LogDir)> {
        let all = self.dirs.iter().enumerate();
        all.filter(|(index, _)| !self.is_failed(*index))
    }

    /// Keeps this many bytes free in each directory from now on (`strandline.log.dir.reserved.bytes`).
    pub fn set_reserve(&self, bytes: u64) {
        self.dirs.iter().for_each(|d| d.space.set_reserve(bytes));
    }

    /// Looks whether the directories are still there, and how much room they have. Blocks.
    pub fn look(&self) {
        for (index, dir) in self.dirs.iter().enumerate() {
            self.health.look_at(index, dir);
        }
    }
}

fn open_one(
    path: &Path,
    node_id: i32,
    cluster_id: Option<&str>,
    reserve_bytes: u64,
) -> Result<(LogDir, PartitionDirectories), LogDirError> {
    let dir = LogDir::open(path, node_id, cluster_id, reserve_bytes)?;
    let found = dir.partitions().map_err(|source| LogDirError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    Ok((dir, found))
}
