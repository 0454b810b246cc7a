//! Opening logs: where a partition's log lies, from which offsets it opens, and the threads that open many.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use strandline_log::{
    LogConfig, LogError, OffsetCheckpoint, OpenOptions, PartitionLog, Segment, flush_segments,
};
use strandline_metadata::config::{BrokerConfig, TopicConfig};
use strandline_metadata::{ClusterImage, PartitionImage, TopicImage};
use strandline_types::{TopicId, TopicIdPartition, TopicPartition};

use super::checkpoints::DirectoryCheckpoints;
use super::failed::FailedReplica;
use super::handle::Partition;
use super::owned::OwnedPartition;
use super::shard::ShardMessage;
use super::table::PartitionManager;
use crate::descriptors;

/// A partition to be opened, and how.
pub(super) struct ToOpen {
    pub topic_partition: TopicPartition,
    pub topic_id: TopicId,
    pub state: Arc<PartitionImage>,
    pub config: TopicConfig,
    pub log_dir: usize,
    pub path: Option<PathBuf>,
    pub options: OpenOptions,
}

struct Opened {
    wanted: ToOpen,
    log: PartitionLog,
}

impl PartitionManager {
    /// `None` for a replica that failed to open before.
    pub(super) fn plan_open(
        &self,
        topic_partition: TopicPartition,
        topic: &TopicImage,
        state: &Arc<PartitionImage>,
        config: TopicConfig,
        image: &ClusterImage,
        broker: &BrokerConfig,
    ) -> Option<ToOpen> {
        let id = TopicIdPartition {
            topic_id: topic.id,
            partition: topic_partition.partition,
        };
        if self.has_failed(&id) {
            return None;
        }
        let found = {
            let mut claimed = self.claimed.lock().expect("no holder panics");
            claimed.to_open.remove(&id)
        };
        if found.is_none() && state.offline_replicas.contains(&self.node_id) {
            tracing::error!(partition = %topic_partition, "the replica lies in a log directory that is not here; it is offline until that is in log.dirs again, or replaced by a new one");
            let directories = Vec::new();
            self.fail(
                id,
                FailedReplica {
                    topic_partition,
                    directories,
                },
            );
            return None;
        }
        let (log_dir, path) = if let Some((log_dir, path)) = found {
            (log_dir, Some(path))
        } else {
            let mut preferred = self.preferred.lock().expect("no holder panics");
            let wanted = preferred.remove(&topic_partition);
            let wanted = wanted.filter(|index| !self.log_dirs.is_failed(*index));
            (wanted.unwrap_or_else(|| self.next_directory()), None)
        };
        let checkpoints = &self.checkpoints[log_dir];
        let known = path.is_some();
        let point = |map: &OffsetCheckpoint| map.get(&topic_partition).copied().filter(|_| known);
        // A replica that has just moved has them in the checkpoints of the directory that it came from.
        let point_anywhere = |which: fn(&DirectoryCheckpoints) -> &OffsetCheckpoint| {
            let others = self.checkpoints.iter().map(which);
            point(which(checkpoints)).or_else(|| others.filter_map(point).max())
        };
        // A lost checkpoint must not hide cold data: the log then begins where the first remote segment does. A
        // follower without a log learns from its leader where to begin.
        let is_leader = state.leader == Some(self.node_id);
        let remote = image.remote_log(id).filter(|_| known || is_leader);
        let first_remote = remote.and_then(|log| log.readable().next().map(|s| s.base_offset));
        let remote_epochs = remote.into_iter().flat_map(|log| log.readable());
        let remote_epochs = remote_epochs.flat_map(|s| s.segment_leader_epochs.iter().copied());
        let recovery_point = if known {
            checkpoints.recovery_point(&topic_partition)
        } else {
            0
        };
        let log_start = point_anywhere(|c| &c.log_starts).or(first_remote);
        let options = OpenOptions {
            config: log_config(&config, broker),
            recovery_point,
            log_start_offset: log_start.unwrap_or(0),
            first_remote_offset: first_remote,
            remote_epochs: remote_epochs.collect(),
            high_watermark: point_anywhere(|c| &c.high_watermarks).unwrap_or(0),
            clean: known && self.log_dirs.dirs[log_dir].clean,
        };
        Some(ToOpen {
            topic_partition,
            topic_id: topic.id,
            state: state.clone(),
            config,
            log_dir,
            path,
            options,
        })
    }

    /// Opens logs on `num.recovery.threads.per.data.dir` blocking threads for each directory, flushes once per directory, and
    /// hands them to shards.
    pub(super) async fn open_all(
        self: &Arc<Self>,
        to_open: Vec<ToOpen>,
        broker: &BrokerConfig,
    ) -> Vec<(Arc<Partition>, Arc<PartitionImage>)> {
        if to_open.is_empty() {
            return Vec::new();
        }
        let manager = self.clone();
        let threads = broker.number("num.recovery.threads.per.data.dir").max(1) as usize;
        let opening = tokio::task::spawn_blocking(move || manager.open_blocking(to_open, threads));
        let opened = opening.await.expect("opening logs does not panic");
        let mut partitions = Vec::with_capacity(opened.len());
        for Opened { wanted, log } in opened {
            let key = self.next_key.fetch_add(1, Ordering::Relaxed);
            let owner = self.shards.owner_of(key);
            let partition = Arc::new(Partition::new(
                wanted.topic_partition,
                wanted.topic_id,
                wanted.log_dir,
                key,
                log.view(),
                wanted.config,
                owner.clone(),
                self.log_dirs.health.clone(),
            ));
            // No flusher: the broker is stopping.
            let Some(flusher) = self.log_dirs.flusher(wanted.log_dir) else {
                continue;
            };
            let requests = self.isr_requests.clone();
            let owned =
                OwnedPartition::new(log, partition.clone(), self.node_id, requests, flusher);
            if owner.send(ShardMessage::Add(Box::new(owned))).await.is_ok() {
                partitions.push((partition, wanted.state));
            }
        }
        partitions
    }

    /// Moves that the last stop interrupted begin again.
    pub(super) fn resume_moves(self: &Arc<Self>, opened: &[Arc<Partition>]) {
        for partition in opened {
            let target = {
                let mut claimed = self.claimed.lock().expect("no holder panics");
                claimed.moves.remove(&partition.id())
            };
            if let Some(target) = target
                && let Err(error) = self.move_replica(partition, target)
            {
                tracing::warn!(partition = %partition.topic_partition, %error, "an interrupted move could not be resumed");
            }
        }
    }

    fn open_blocking(&self, to_open: Vec<ToOpen>, threads_per_directory: usize) -> Vec<Opened> {
        let new = to_open.iter().filter(|wanted| wanted.path.is_none());
        let new: Vec<_> = new.map(|wanted| wanted.topic_partition.clone()).collect();
        let mut by_directory: Vec<Vec<ToOpen>> = Vec::new();
        by_directory.resize_with(self.log_dirs.dirs.len(), Vec::new);
        let forgotten = self.forget_checkpoints(&new);
        // A command that was decided elsewhere does not know the limit of this process.
        let enough = descriptors::check(new.len() as u64, 0);
        for wanted in to_open {
            let is_new = wanted.path.is_none();
            match (&forgotten, &enough) {
                (Err(error), _) if is_new => self.fail_to_open(&wanted, error),
                (_, Err(error)) if is_new => self.fail_to_open(&wanted, error),
                _ => by_directory[wanted.log_dir].push(wanted),
            }
        }
        let mut opened: Vec<Opened> = std::thread::scope(|scope| {
            let mut running = Vec::new();
            for mut here in by_directory {
                let share = here.len().div_ceil(threads_per_directory);
                while !here.is_empty() {
                    let part = here.split_off(here.len().saturating_sub(share));
                    running.push(scope.spawn(move || {
                        part.into_iter()
                            .filter_map(|wanted| self.open_one(wanted))
                            .collect::<Vec<_>>()
                    }));
                }
            }
            running
                .into_iter()
                .flat_map(|t| t.join().expect("opening logs does not panic"))
                .collect()
        });
        let health = &self.log_dirs.health;
        for (index, dir) in self.log_dirs.dirs.iter().enumerate() {
            let here = || opened.iter().filter(|o| o.wanted.log_dir == index);
            let segments: Vec<Arc<Segment>> = here().flat_map(|o| o.log.to_flush().0).collect();
            let created = here().any(|o| new.contains(&o.wanted.topic_partition));
            let flushed = flush_segments(&dir.path, &segments)
                .and_then(|()| {
                    if !created {
                        return Ok(());
                    }
                    dir.sync().map_err(|source| LogError::Io {
                        path: dir.path.clone(),
                        source,
                    })
                })
                .map_err(|error| {
                    health.flush_failed(index, &error);
                    error.to_string()
                });
            if let Err(error) = flushed {
                let (failed, others) = opened
                    .into_iter()
                    .partition(|o: &Opened| o.wanted.log_dir == index);
                opened = others;
                for one in &failed {
                    self.fail_to_open(&one.wanted, &error);
                }
            }
        }
        for opened in &mut opened {
            let end = opened.log.log_end_offset();
            opened.log.mark_flushed(end);
        }
        opened
    }

    fn open_one(&self, mut wanted: ToOpen) -> Option<Opened> {
        match self.try_open(&mut wanted) {
            Ok(log) => Some(Opened { wanted, log }),
            Err(error) => {
                self.log_dirs.health.report(&error);
                self.fail_to_open(&wanted, &error);
                None
            }
        }
    }

    fn fail_to_open(&self, wanted: &ToOpen, error: &dyn std::fmt::Display) {
        let partition = &wanted.topic_partition;
        tracing::error!(%partition, %error, "the log cannot be opened; the replica is offline until the next start");
        let id = TopicIdPartition {
            topic_id: wanted.topic_id,
            partition: partition.partition,
        };
        let path = wanted.path.clone();
        self.fail(
            id,
            FailedReplica {
                topic_partition: partition.clone(),
                directories: path.into_iter().map(|p| (wanted.log_dir, p)).collect(),
            },
        );
    }

    fn try_open(&self, wanted: &mut ToOpen) -> Result<PartitionLog, LogError> {
        let dir = &self.log_dirs.dirs[wanted.log_dir];
        let path = match &wanted.path {
            Some(path) => path.clone(),
            None => dir
                .create_partition(&wanted.topic_partition, wanted.topic_id)
                .map_err(|source| LogError::Io {
                    path: dir.partition_path(&wanted.topic_partition),
                    source,
                })?,
        };
        wanted.path = Some(path.clone());
        PartitionLog::open(
            wanted.topic_partition.clone(),
            &path,
            wanted.options.clone(),
        )
    }
}

pub(super) fn log_config(topic: &TopicConfig, broker: &BrokerConfig) -> LogConfig {
    LogConfig {
        segment_bytes: topic.segment_bytes.max(1) as u64,
        segment_ms: topic.segment_ms,
        segment_index_bytes: topic.segment_index_bytes.max(1) as u32,
        index_interval_bytes: topic.index_interval_bytes.max(0) as u32,
        flush_messages: topic.flush_messages,
        flush_ms: topic.flush_ms,
        producer_id_expiration_ms: broker.number("producer.id.expiration.ms"),
    }
}
