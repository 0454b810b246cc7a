//! Which partitions live here: follows the cluster image, opens and removes logs, keeps checkpoints.
//!
//! Crash consistency: a partition directory without a topic in the image is set aside at start, never deleted; a topic in
//! the image without a directory gets an empty log. Checkpoints lag; recovery walks what they do not cover.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use strandline_log::{
    LogConfig, LogDir, LogDirError, LogError, OffsetCheckpoint, OpenOptions, PartitionLog, Segment,
    flush_segments,
};
use strandline_metadata::config::{BrokerConfig, TopicConfig};
use strandline_metadata::{ClusterImage, TopicImage};
use strandline_types::{BrokerId, LeaderEpoch, TopicId, TopicIdPartition, TopicPartition};
use tokio::sync::watch;

use super::flusher::Flusher;
use super::handle::Partition;
use super::shard::{OwnedPartition, ShardMessage, ShardPool};

/// The log directories of this process, in the order of `log.dirs`.
pub struct LogDirs {
    pub dirs: Vec<LogDir>,
    flushers: Vec<Flusher>,
}

impl LogDirs {
    pub fn open(
        paths: &[PathBuf],
        node_id: i32,
        cluster_id: Option<&str>,
        reserve_bytes: u64,
    ) -> Result<Self, LogDirError> {
        let dirs = paths
            .iter()
            .map(|p| LogDir::open(p, node_id, cluster_id, reserve_bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let flushers = dirs
            .iter()
            .map(|d| Flusher::start(d.path.clone()))
            .collect();
        Ok(Self { dirs, flushers })
    }

    /// Whether a flush in this directory has failed.
    pub fn is_failed(&self, index: usize) -> bool {
        self.flushers[index].has_failed()
    }
}

/// Partitions by name.
type Table = HashMap<TopicPartition, Arc<Partition>>;

pub struct PartitionManager {
    node_id: BrokerId,
    pub log_dirs: LogDirs,
    shards: ShardPool,
    table: ArcSwap<Table>,
    /// What was found on disk at start and has not been claimed by the image yet.
    found: Mutex<HashMap<TopicIdPartition, FoundDirectory>>,
    next_key: AtomicU64,
    next_directory: AtomicUsize,
    /// Index of the image that the table reflects.
    applied: watch::Sender<u64>,
    last: Mutex<Option<(Arc<ClusterImage>, BrokerConfig)>>,
    checkpoints: Vec<DirectoryCheckpoints>,
    /// Recovery points, high watermarks and log starts as they were written last, by directory.
    written: Mutex<Vec<[OffsetCheckpoint; 3]>>,
}

/// The checkpoints of one directory as they were at start.
struct DirectoryCheckpoints {
    recovery_points: OffsetCheckpoint,
    log_starts: OffsetCheckpoint,
}

struct FoundDirectory {
    log_dir: usize,
    path: PathBuf,
}

/// A partition to be opened, and how.
struct ToOpen {
    topic_partition: TopicPartition,
    topic_id: TopicId,
    leader_epoch: LeaderEpoch,
    config: TopicConfig,
    log_dir: usize,
    path: Option<PathBuf>,
    options: OpenOptions,
}

struct Opened {
    wanted: ToOpen,
    log: PartitionLog,
}

impl PartitionManager {
    pub fn new(node_id: BrokerId, log_dirs: LogDirs, shards: usize) -> std::io::Result<Self> {
        let mut found = HashMap::new();
        let mut checkpoints = Vec::new();
        for (index, dir) in log_dirs.dirs.iter().enumerate() {
            for partition in dir.partitions()? {
                let id = TopicIdPartition {
                    topic_id: partition.topic_id,
                    partition: partition.topic_partition.partition,
                };
                found.insert(
                    id,
                    FoundDirectory {
                        log_dir: index,
                        path: partition.path,
                    },
                );
            }
            checkpoints.push(DirectoryCheckpoints {
                recovery_points: dir.read_recovery_points(),
                log_starts: dir.read_log_starts(),
            });
        }
        Ok(Self {
            node_id,
            log_dirs,
            shards: ShardPool::start(shards),
            table: ArcSwap::default(),
            found: Mutex::new(found),
            next_key: AtomicU64::new(0),
            next_directory: AtomicUsize::new(0),
            applied: watch::Sender::new(0),
            last: Mutex::new(None),
            written: Mutex::new(vec![<[OffsetCheckpoint; 3]>::default(); checkpoints.len()]),
            checkpoints,
        })
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        // Looked up by a borrowed key would need another map; topics are short.
        self.table
            .load()
            .get(&TopicPartition::new(topic, partition))
            .cloned()
    }

    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.table.load().values().cloned().collect()
    }

    pub fn table(&self) -> Arc<HashMap<TopicPartition, Arc<Partition>>> {
        self.table.load_full()
    }

    /// Waits until everything up to `index` of the quorum's log is reflected here.
    pub async fn wait_until_applied(&self, index: u64) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self
            .applied
            .subscribe()
            .wait_for(|applied| *applied >= index)
            .await;
    }

    /// Brings the table in line with an image. Called by one task, image after image.
    pub async fn apply(self: &Arc<Self>, image: Arc<ClusterImage>, broker: BrokerConfig) {
        let before = self
            .last
            .lock()
            .expect("no holder panics")
            .replace((image.clone(), broker.clone()));
        let old_table = self.table.load_full();
        let mut wanted: HashMap<TopicPartition, (&Arc<TopicImage>, LeaderEpoch)> = HashMap::new();
        for topic in image.topics() {
            for (number, partition) in &topic.partitions {
                if partition.leader == Some(self.node_id) {
                    let tp = TopicPartition::new(topic.name.clone(), *number);
                    wanted.insert(tp, (topic, partition.leader_epoch));
                }
            }
        }
        let gone: Vec<Arc<Partition>> = old_table
            .values()
            .filter(|p| {
                wanted
                    .get(&p.topic_partition)
                    .is_none_or(|(t, _)| t.id != p.topic_id)
            })
            .cloned()
            .collect();
        let mut table = Table::clone(&old_table);
        for partition in &gone {
            table.remove(&partition.topic_partition);
        }
        let configs_changed = |name: &str| {
            before.as_ref().is_none_or(|(old_image, old_broker)| {
                old_image.topic_configs(name) != image.topic_configs(name)
                    || old_broker.dynamic != broker.dynamic
                    || old_broker.dynamic_default != broker.dynamic_default
            })
        };
        let mut to_open = Vec::new();
        let mut configs: HashMap<&str, TopicConfig> = HashMap::new();
        for (tp, (topic, epoch)) in &wanted {
            let config = || TopicConfig::resolve(image.topic_configs(&topic.name), &broker);
            if let Some(known) = table.get(tp) {
                if configs_changed(&topic.name) {
                    let config = configs.entry(&topic.name).or_insert_with(config).clone();
                    reconfigure(known, config, &broker).await;
                }
                if known.leader_epoch() < *epoch {
                    begin_epoch(known, *epoch).await;
                }
            } else {
                let config = configs.entry(&topic.name).or_insert_with(config).clone();
                let first_remote = image
                    .remote_log(TopicIdPartition {
                        topic_id: topic.id,
                        partition: tp.partition,
                    })
                    .and_then(|log| log.readable().next().map(|s| s.base_offset));
                to_open.push(self.plan_open(
                    tp.clone(),
                    topic.id,
                    *epoch,
                    config,
                    &broker,
                    first_remote,
                ));
            }
        }
        for partition in self.open_all(to_open).await {
            table.insert(partition.topic_partition.clone(), partition);
        }
        self.table.store(Arc::new(table));
        for partition in gone {
            self.remove(&partition).await;
        }
        self.applied.send_replace(image.applied_index);
    }

    fn plan_open(
        &self,
        topic_partition: TopicPartition,
        topic_id: TopicId,
        leader_epoch: LeaderEpoch,
        config: TopicConfig,
        broker: &BrokerConfig,
        first_remote_offset: Option<i64>,
    ) -> ToOpen {
        let id = TopicIdPartition {
            topic_id,
            partition: topic_partition.partition,
        };
        let found = self.found.lock().expect("no holder panics").remove(&id);
        let (log_dir, path) = match found {
            Some(found) => (found.log_dir, Some(found.path)),
            None => (self.next_directory(), None),
        };
        let checkpoints = &self.checkpoints[log_dir];
        let known = path.is_some();
        let point = |map: &OffsetCheckpoint| map.get(&topic_partition).copied().filter(|_| known);
        // A lost checkpoint must not hide cold data: the log then begins where the first remote segment does.
        let log_start = point(&checkpoints.log_starts).or(first_remote_offset);
        let options = OpenOptions {
            config: log_config(&config, broker),
            recovery_point: point(&checkpoints.recovery_points).unwrap_or(0),
            log_start_offset: log_start.unwrap_or(0),
            clean: known && self.log_dirs.dirs[log_dir].clean,
        };
        ToOpen {
            topic_partition,
            topic_id,
            leader_epoch,
            config,
            log_dir,
            path,
            options,
        }
    }

    /// Directories take turns; a failed one gets nothing new.
    fn next_directory(&self) -> usize {
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

    /// Opens logs on as many blocking threads as there are cores, flushes once per directory, and hands them to shards.
    async fn open_all(self: &Arc<Self>, to_open: Vec<ToOpen>) -> Vec<Arc<Partition>> {
        if to_open.is_empty() {
            return Vec::new();
        }
        let manager = self.clone();
        let opening = tokio::task::spawn_blocking(move || manager.open_blocking(to_open));
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
                wanted.leader_epoch,
                owner.clone(),
            ));
            // No flusher: the broker is stopping.
            let Some(flusher) = self.log_dirs.flushers[wanted.log_dir].sender() else {
                continue;
            };
            let owned = OwnedPartition::new(log, partition.clone(), self.node_id, flusher);
            if owner.send(ShardMessage::Add(Box::new(owned))).await.is_ok() {
                partitions.push(partition);
            }
        }
        partitions
    }

    fn open_blocking(&self, mut to_open: Vec<ToOpen>) -> Vec<Opened> {
        let threads = std::thread::available_parallelism()
            .map_or(2, usize::from)
            .min(8);
        let share = to_open.len().div_ceil(threads);
        let mut opened: Vec<Opened> = std::thread::scope(|scope| {
            let mut running = Vec::new();
            while !to_open.is_empty() {
                let part = to_open.split_off(to_open.len().saturating_sub(share));
                running.push(scope.spawn(move || {
                    part.into_iter()
                        .filter_map(|wanted| self.open_one(wanted))
                        .collect::<Vec<_>>()
                }));
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
            // The only replica has everything that there is.
            opened.log.advance_high_watermark(end);
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
        let mut log = PartitionLog::open(
            wanted.topic_partition.clone(),
            &path,
            wanted.options.clone(),
        )?;
        log.start_leader_epoch(wanted.leader_epoch)?;
        Ok(log)
    }

    /// Takes a partition from its owner and deletes its directory.
    async fn remove(&self, partition: &Arc<Partition>) {
        let owner = self.shards.owner_of(partition.key);
        let (reply, path) = tokio::sync::oneshot::channel();
        let sent = owner
            .send(ShardMessage::Remove {
                key: partition.key,
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

    /// Sets directories aside that the image does not know. Called once, after the first image.
    pub fn quarantine_strays(&self) {
        for (id, found) in self.found.lock().expect("no holder panics").drain() {
            match LogDir::quarantine(&found.path) {
                Ok(path) => {
                    tracing::warn!(partition = %id, path = %path.display(), "no topic has this directory; it is set aside");
                }
                Err(error) => {
                    tracing::error!(path = %found.path.display(), %error, "a stray directory stays");
                }
            }
        }
    }

    /// Writes the checkpoints of every directory in which they have changed. Blocks.
    pub fn write_checkpoints(&self) {
        let table = self.table.load();
        let mut written = self.written.lock().expect("no holder panics");
        for (index, dir) in self.log_dirs.dirs.iter().enumerate() {
            let (mut points, mut watermarks, mut starts) =
                (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            for partition in table.values().filter(|p| p.log_dir == index) {
                let (tp, view) = (partition.topic_partition.clone(), partition.view());
                points.insert(tp.clone(), view.flushed_offset);
                watermarks.insert(tp.clone(), view.high_watermark);
                starts.insert(tp, view.log_start_offset);
            }
            let now = [points, watermarks, starts];
            if written[index] == now {
                continue;
            }
            match dir.write_checkpoints(&now[0], &now[1], &now[2]) {
                Ok(()) => written[index] = now,
                Err(error) => {
                    tracing::error!(directory = %dir.path.display(), %error, "checkpoints were not written");
                }
            }
        }
    }

    pub fn refresh_disk_space(&self) {
        for dir in &self.log_dirs.dirs {
            if let Err(error) = dir.refresh_space() {
                tracing::warn!(directory = %dir.path.display(), %error, "free space is unknown");
            }
        }
    }

    /// Closes every log, flushes, writes checkpoints and the clean-shutdown markers. Nothing may append any more.
    pub async fn shutdown(self: &Arc<Self>) {
        let mut closed: HashSet<usize> = (0..self.log_dirs.dirs.len()).collect();
        for partition in self.all() {
            let result = partition
                .run(|owned| {
                    owned.log.prepare_to_close()?;
                    let (segments, end) = owned.log.to_flush();
                    flush_segments(owned.log.directory(), &segments)?;
                    owned.log.mark_flushed(end);
                    Ok::<(), LogError>(())
                })
                .await;
            if !matches!(result, Ok(Ok(()))) {
                tracing::error!(%partition.topic_partition, "the log was not closed cleanly");
                closed.remove(&partition.log_dir);
            }
        }
        let manager = self.clone();
        let finish = tokio::task::spawn_blocking(move || {
            manager.write_checkpoints();
            manager.shards.stop();
            manager.log_dirs.flushers.iter().for_each(Flusher::stop);
            for index in closed {
                let dir = &manager.log_dirs.dirs[index];
                if let Err(error) = dir.mark_clean() {
                    tracing::error!(directory = %dir.path.display(), %error, "the clean-shutdown marker was not written");
                }
            }
        });
        let _ = finish.await;
    }
}

fn log_config(topic: &TopicConfig, broker: &BrokerConfig) -> LogConfig {
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

async fn reconfigure(partition: &Arc<Partition>, config: TopicConfig, broker: &BrokerConfig) {
    let log = log_config(&config, broker);
    partition.set_config(config);
    let _ = partition.run(move |owned| owned.log.config = log).await;
}

async fn begin_epoch(partition: &Arc<Partition>, epoch: LeaderEpoch) {
    partition.set_leader_epoch(epoch);
    let begun = partition
        .run(move |owned| owned.log.start_leader_epoch(epoch))
        .await;
    if let Ok(Err(error)) = begun {
        tracing::error!(%partition.topic_partition, %error, "the leader epoch was not noted");
    }
}
