//! Which partitions live here: follows the cluster image, opens and removes logs, keeps checkpoints.
//!
//! Crash consistency: a partition directory without a topic in the image is set aside at start, never deleted; a topic in
//! the image without a directory gets an empty log. Checkpoints lag; recovery walks what they do not cover.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use futures::future::join_all;
use strandline_log::{
    LogConfig, LogDir, LogDirError, LogError, LogView, OffsetCheckpoint, OpenOptions, PartitionLog,
    Segment, flush_segments, write_leader_epochs,
};
use strandline_metadata::config::{BrokerConfig, TopicConfig};
use strandline_metadata::{ClusterImage, PartitionImage, TopicImage};
use strandline_replication::{Leadership, Replica};
use strandline_types::{BrokerEpoch, BrokerId, TopicId, TopicIdPartition, TopicPartition};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::throttle::Throttle;

use super::flusher::{FlushRequest, Flusher};
use super::handle::Partition;
use super::shard::{Assignment, IsrRequest, OwnedPartition, ShardMessage, ShardPool};

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

    pub(super) fn flusher(&self, index: usize) -> Option<mpsc::UnboundedSender<FlushRequest>> {
        self.flushers[index].sender()
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
    isr_requests: mpsc::UnboundedSender<IsrRequest>,
    table: ArcSwap<Table>,
    /// What was found on disk at start and has not been claimed by the image yet.
    found: Mutex<HashMap<TopicIdPartition, FoundDirectory>>,
    /// Directories of moves that the last stop interrupted.
    futures: Mutex<HashMap<TopicIdPartition, FoundDirectory>>,
    /// Where replicas that are not here yet were asked to be.
    preferred: Mutex<HashMap<TopicPartition, usize>>,
    /// Replicas move between directories one at a time.
    pub(super) moves: Semaphore,
    pub(super) stop_moves: CancellationToken,
    /// `replica.alter.log.dirs.io.max.bytes.per.second`.
    pub(super) move_throttle: Throttle,
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
    high_watermarks: OffsetCheckpoint,
    log_starts: OffsetCheckpoint,
}

struct FoundDirectory {
    log_dir: usize,
    path: PathBuf,
    /// The other one of the same partition is what a move has left behind.
    replaces_another: bool,
}

/// Notes a directory that was found; of two for one partition only the newer one stays.
fn keep_newer(
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

/// A partition to be opened, and how.
struct ToOpen {
    topic_partition: TopicPartition,
    topic_id: TopicId,
    state: Arc<PartitionImage>,
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
    /// `isr_requests` takes what leaders ask of the controller.
    pub fn new(
        node_id: BrokerId,
        log_dirs: LogDirs,
        shards: usize,
        isr_requests: mpsc::UnboundedSender<IsrRequest>,
    ) -> std::io::Result<Self> {
        let mut found: HashMap<TopicIdPartition, FoundDirectory> = HashMap::new();
        let mut futures = HashMap::new();
        let mut checkpoints = Vec::new();
        for (index, dir) in log_dirs.dirs.iter().enumerate() {
            for partition in dir.partitions()? {
                let id = TopicIdPartition {
                    topic_id: partition.topic_id,
                    partition: partition.topic_partition.partition,
                };
                let here = FoundDirectory {
                    log_dir: index,
                    path: partition.path,
                    replaces_another: partition.replaces_another,
                };
                if partition.is_future {
                    futures.insert(id, here);
                } else {
                    keep_newer(&mut found, id, here)?;
                }
            }
            checkpoints.push(DirectoryCheckpoints {
                recovery_points: dir.read_recovery_points(),
                high_watermarks: dir.read_high_watermarks(),
                log_starts: dir.read_log_starts(),
            });
        }
        // A move that was interrupted after its end: the other directory is gone by now.
        for moved in found.values_mut().filter(|f| f.replaces_another) {
            LogDir::replaced(&moved.path)?;
            moved.replaces_another = false;
        }
        Ok(Self {
            node_id,
            log_dirs,
            shards: ShardPool::start(shards),
            isr_requests,
            table: ArcSwap::default(),
            found: Mutex::new(found),
            futures: Mutex::new(futures),
            preferred: Mutex::default(),
            moves: Semaphore::new(1),
            stop_moves: CancellationToken::new(),
            move_throttle: Throttle::default(),
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

    /// Index of the quorum's log up to which partitions reflect the metadata.
    pub fn applied_index(&self) -> u64 {
        *self.applied.borrow()
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
        self.move_throttle
            .set_rate(broker.number("replica.alter.log.dirs.io.max.bytes.per.second"));
        let before = self
            .last
            .lock()
            .expect("no holder panics")
            .replace((image.clone(), broker.clone()));
        let before = before.as_ref();
        let old = before.map(|(image, _)| image);
        let brokers_changed = old.is_none_or(|old| old.brokers != image.brokers);
        let defaults_changed = before.is_none_or(|(_, old)| {
            old.dynamic != broker.dynamic || old.dynamic_default != broker.dynamic_default
        });
        let old_table = self.table.load_full();
        let mut table = Table::clone(&old_table);
        let gone = self.gone(&old_table, &image);
        for partition in &gone {
            table.remove(&partition.topic_partition);
        }
        let mut to_open = Vec::new();
        let mut to_assign = Vec::new();
        for topic in image.topics() {
            let old_topic = old.and_then(|old| old.topic(&topic.name));
            let old_configs = old.map(|old| old.topic_configs(&topic.name));
            let reconfigured =
                defaults_changed || old_configs != Some(image.topic_configs(&topic.name));
            let same = old_topic.is_some_and(|old| Arc::ptr_eq(old, topic));
            if same && !brokers_changed && !reconfigured {
                continue;
            }
            let mut config = None;
            for (number, state) in &topic.partitions {
                if !state.replicas.contains(&self.node_id) {
                    continue;
                }
                let mut config = || {
                    config
                        .get_or_insert_with(|| {
                            TopicConfig::resolve(image.topic_configs(&topic.name), &broker)
                        })
                        .clone()
                };
                let tp = TopicPartition::new(topic.name.clone(), *number);
                let Some(known) = table.get(&tp) else {
                    to_open.push(self.plan_open(tp, topic, state, config(), &image, &broker));
                    continue;
                };
                if reconfigured {
                    reconfigure(known, config(), &broker).await;
                }
                let old_state = old_topic.and_then(|t| t.partitions.get(number));
                if brokers_changed || old_state.is_none_or(|old| !Arc::ptr_eq(old, state)) {
                    to_assign.push((known.clone(), self.assignment(&image, state)));
                }
            }
        }
        for (partition, state) in self.open_all(to_open, &broker).await {
            to_assign.push((partition.clone(), self.assignment(&image, &state)));
            table.insert(partition.topic_partition.clone(), partition);
        }
        join_all(
            to_assign
                .into_iter()
                .map(|(partition, assignment)| async move {
                    // A partition that is gone needs no role.
                    let _ = partition.run(|owned| owned.assign(assignment)).await;
                }),
        )
        .await;
        self.table.store(Arc::new(table));
        for partition in gone {
            self.remove(&partition).await;
        }
        self.applied.send_replace(image.applied_index);
    }

    /// Partitions that this broker has no replica of any more, because the metadata says so.
    fn gone(&self, table: &Table, image: &ClusterImage) -> Vec<Arc<Partition>> {
        let stays = |p: &&Arc<Partition>| {
            let state = image.partition(p.id());
            state.is_some_and(|s| s.replicas.contains(&self.node_id))
        };
        table.values().filter(|p| !stays(p)).cloned().collect()
    }

    /// What the metadata makes of this broker's replica.
    fn assignment(&self, image: &ClusterImage, state: &PartitionImage) -> Assignment {
        if state.leader != Some(self.node_id) {
            return Assignment::Follow {
                leader: state.leader,
                leader_epoch: state.leader_epoch,
            };
        }
        let replica = |id: &BrokerId| Replica {
            id: *id,
            broker_epoch: image.brokers.get(id).map_or(BrokerEpoch(-1), |b| b.epoch),
            is_eligible: image.is_active(*id) && !state.offline_replicas.contains(id),
        };
        Assignment::Lead(Leadership {
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            isr: state.isr.clone(),
            replicas: state.replicas.iter().map(replica).collect(),
            recovering: state.leader_recovering,
        })
    }

    fn plan_open(
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

    /// Opens logs on `num.recovery.threads.per.data.dir` blocking threads for each directory, flushes once per directory, and
    /// hands them to shards.
    async fn open_all(
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

    /// Takes a partition from its owner and deletes its directory.
    async fn remove(&self, partition: &Arc<Partition>) {
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

    /// Writes the checkpoints of every directory in which they have changed. Blocks.
    pub fn write_checkpoints(&self) {
        let table = self.table.load();
        let mut written = self.written.lock().expect("no holder panics");
        for (index, dir) in self.log_dirs.dirs.iter().enumerate() {
            let (mut points, mut watermarks, mut starts) =
                (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            for partition in table.values().filter(|p| p.log_dir() == index) {
                let (tp, view) = (partition.topic_partition.clone(), partition.view());
                // What lies below a recovery point is not walked again, so its epochs must be on disk first.
                if let Err(error) = store_epochs(dir, partition, &view) {
                    tracing::error!(partition = %tp, %error, "the leader epochs were not written");
                    continue;
                }
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
        self.stop_moves.cancel();
        // Whoever moves now has ended when the only turn is here.
        let _turn = self.moves.acquire().await;
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
                closed.remove(&partition.log_dir());
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
            for dir in &manager.log_dirs.dirs {
                if let Err(error) = dir.release() {
                    tracing::error!(directory = %dir.path.display(), %error, "the directory stays locked");
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
    let _ = partition
        .run(move |owned| {
            owned.log.config = log;
            owned.configuration_changed();
        })
        .await;
}

fn store_epochs(dir: &LogDir, partition: &Partition, view: &LogView) -> std::io::Result<()> {
    let mut stored = partition.stored_epochs.lock().expect("no holder panics");
    if *stored != view.epochs {
        write_leader_epochs(
            &dir.partition_path(&partition.topic_partition),
            &view.epochs,
        )?;
        *stored = view.epochs.clone();
    }
    Ok(())
}
