//! Opening logs: where a partition's log lies, from which offsets it opens, and the threads that open many.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use strandline_log::{
    LogConfig, LogError, OffsetCheckpoint, OpenOptions, PartitionLog, Segment, flush_segments,
};
use strandline_metadata::config::{BrokerConfig, TopicConfig};
use strandline_metadata::{ClusterImage, PartitionImage, TopicImage};
use strandline_types::{TopicId, TopicIdPartition, TopicPartition};

use super::checkpoints::DirectoryCheckpoints;
use super::handle::Partition;
use super::owned::OwnedPartition;
use super::shard::ShardMessage;
use super::table::PartitionManager;

use std::path::PathBuf;

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
    pub(super) fn plan_open(
        &self,
        topic_partition: TopicPartition,
        topic: &TopicImage,
        state: &Arc<PartitionImage>,
        config: TopicConfig,
        image: &ClusterImage,
        broker: &BrokerConfig,
    ) -> ToOpen {
        let id = TopicIdPartition {
            topic_id: topic.id,
            partition: topic_partition.partition,
        };
        let found = self.found.lock().expect("no holder panics").remove(&id);
        let (log_dir, path) = if let Some(found) = found {
            (found.log_dir, Some(found.path))
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
        // A lost checkpoint must not hide cold data: the log then begins where the first remote segment does. A follower
        // without a log hears from its leader where to begin.
        let is_leader = state.leader == Some(self.node_id);
        let first_remote = image.remote_log(id).filter(|_| known || is_leader);
        let first_remote =
            first_remote.and_then(|log| log.readable().next().map(|s| s.base_offset));
        let log_start = point_anywhere(|c| &c.log_starts).or(first_remote);
        let options = OpenOptions {
            config: log_config(&config, broker),
            recovery_point: point(&checkpoints.recovery_points).unwrap_or(0),
            log_start_offset: log_start.unwrap_or(0),
            high_watermark: point_anywhere(|c| &c.high_watermarks).unwrap_or(0),
            clean: known && self.log_dirs.dirs[log_dir].clean,
        };
        ToOpen {
            topic_partition,
            topic_id: topic.id,
            state: state.clone(),
            config,
            log_dir,
            path,
            options,
        }
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
            ));
            // No flusher: the broker is stopping.
            let Some(flusher) = self.log_dirs.flusher(wanted.log_dir) else {
                continue;
            };
            let requests = self.isr_requests.clone();
            let owned =
                OwnedPartition::new(log, partition.clone(), self.node_id, requests, flusher);
            if owner.send(ShardMessage::Add(Box::new(owned))).await.is_ok() {
                let interrupted = {
                    let mut futures = self.futures.lock().expect("no holder panics");
                    futures.remove(&partition.id())
                };
                if let Some(future) = interrupted
                    && let Err(error) = self.move_replica(&partition, future.log_dir)
                {
                    tracing::warn!(partition = %partition.topic_partition, %error, "an interrupted move does not go on");
                }
                partitions.push((partition, wanted.state));
            }
        }
        partitions
    }

    fn open_blocking(&self, to_open: Vec<ToOpen>, threads_per_directory: usize) -> Vec<Opened> {
        let mut by_directory: Vec<Vec<ToOpen>> = Vec::new();
        by_directory.resize_with(self.log_dirs.dirs.len(), Vec::new);
        for wanted in to_open {
            by_directory[wanted.log_dir].push(wanted);
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
        for (index, dir) in self.log_dirs.dirs.iter().enumerate() {
            let here = || opened.iter().filter(|o| o.wanted.log_dir == index);
            let segments: Vec<Arc<Segment>> = here().flat_map(|o| o.log.to_flush().0).collect();
            let created = here().any(|o| o.wanted.path.is_none());
            let flushed = flush_segments(&dir.path, &segments)
                .map_err(|e| e.to_string())
                .and_then(|()| {
                    if created {
                        dir.sync().map_err(|e| e.to_string())
                    } else {
                        Ok(())
                    }
                });
            if let Err(error) = flushed {
                tracing::error!(directory = %dir.path.display(), %error, "flush failed; its partitions stay offline");
                opened.retain(|o| o.wanted.log_dir != index);
            }
        }
        for opened in &mut opened {
            let end = opened.log.log_end_offset();
            opened.log.mark_flushed(end);
        }
        opened
    }

    fn open_one(&self, mut wanted: ToOpen) -> Option<Opened> {
        let result = self.try_open(&mut wanted);
        match result {
            Ok(log) => Some(Opened { wanted, log }),
            Err(error) => {
                tracing::error!(partition = %wanted.topic_partition, %error, "the log cannot be opened; the partition is offline");
                None
            }
        }
    }

    fn try_open(&self, wanted: &mut ToOpen) -> Result<PartitionLog, LogError> {
        let dir = &self.log_dirs.dirs[wanted.log_dir];
        let path = match &wanted.path {
            Some(path) => path.clone(),
            None => dir
                .create_partition(&wanted.topic_partition, wanted.topic_id)
                .map_err(|source| LogError::Io {
                    path: dir.path.clone(),
                    source,
                })?,
        };
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
