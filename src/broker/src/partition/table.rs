//! Which partitions live here: follows the cluster image, opens and removes logs, gives each replica its role.
//!
//! An image is applied in this order: partitions that are gone are closed and their names become free, the directories that
//! were found at start are claimed, logs are opened or created, roles are given, and the new table is published.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use futures::future::join_all;
use strandline_log::{LogError, flush_segments};
use strandline_metadata::config::{BrokerConfig, TopicConfig};
use strandline_metadata::{ClusterImage, PartitionImage};
use strandline_replication::{Leadership, Replica};
use strandline_types::{BrokerEpoch, BrokerId, TopicIdPartition, TopicPartition};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::throttle::Throttle;

use super::by_name::ByName;
use super::checkpoints::DirectoryCheckpoints;
use super::directories::{Claimed, Located, Unclaimed};
use super::failed::FailedReplica;
use super::flusher::Flusher;
use super::handle::Partition;
use super::leadership::{Assignment, IsrRequest};
use super::log_dirs::LogDirs;
use super::opening::log_config;
use super::removal::Removals;
use super::shard::ShardPool;

/// The partitions that live here.
pub type Table = ByName<Arc<Partition>>;

pub struct PartitionManager {
    pub(super) node_id: BrokerId,
    pub log_dirs: LogDirs,
    pub(super) shards: ShardPool,
    pub(super) isr_requests: mpsc::UnboundedSender<IsrRequest>,
    pub(super) table: ArcSwap<Table>,
    /// The directories that were found on disk at start, until the first image comes.
    pub(super) unclaimed: Mutex<Unclaimed>,
    pub(super) claimed: Mutex<Claimed>,
    /// Replicas that failed to open.
    pub(super) failed: Mutex<HashMap<TopicIdPartition, FailedReplica>>,
    pub(super) removals: Removals,
    /// Where replicas that are not here yet were asked to be.
    pub(super) preferred: Mutex<HashMap<TopicPartition, usize>>,
    /// Replicas move between directories one at a time.
    pub(super) moves: Semaphore,
    pub(super) stop_moves: CancellationToken,
    /// `replica.alter.log.dirs.io.max.bytes.per.second`.
    pub(super) move_throttle: Throttle,
    pub(super) next_key: AtomicU64,
    pub(super) next_directory: AtomicUsize,
    /// Index of the image that the table reflects.
    pub(super) applied: watch::Sender<u64>,
    pub(super) last: Mutex<Option<(Arc<ClusterImage>, BrokerConfig)>>,
    /// The checkpoints of each directory as they were at start.
    pub(super) checkpoints: Vec<DirectoryCheckpoints>,
    /// The checkpoints of each directory as they were written last.
    pub(super) written: Mutex<Vec<DirectoryCheckpoints>>,
}

impl PartitionManager {
    /// `isr_requests` takes the leaders' wishes for the controller.
    pub fn new(
        node_id: BrokerId,
        mut log_dirs: LogDirs,
        shards: usize,
        isr_requests: mpsc::UnboundedSender<IsrRequest>,
    ) -> std::io::Result<Self> {
        let removals = Removals::start()?;
        let mut unclaimed = Unclaimed::new();
        let mut checkpoints = Vec::new();
        let found = std::mem::take(&mut log_dirs.found);
        for (log_dir, (dir, found)) in log_dirs.dirs.iter().zip(found).enumerate() {
            for directory in found.partitions {
                let name = directory.topic_partition.clone();
                let located = Located { log_dir, directory };
                unclaimed.entry(name).or_default().push(located);
            }
            found
                .deleted
                .into_iter()
                .for_each(|path| removals.push(path));
            checkpoints.push(DirectoryCheckpoints::read(dir));
        }
        Ok(Self {
            node_id,
            log_dirs,
            shards: ShardPool::start(shards)?,
            isr_requests,
            table: ArcSwap::default(),
            unclaimed: Mutex::new(unclaimed),
            claimed: Mutex::default(),
            failed: Mutex::default(),
            removals,
            preferred: Mutex::default(),
            moves: Semaphore::new(1),
            stop_moves: CancellationToken::new(),
            move_throttle: Throttle::default(),
            next_key: AtomicU64::new(0),
            next_directory: AtomicUsize::new(0),
            applied: watch::Sender::new(0),
            last: Mutex::new(None),
            written: Mutex::new(checkpoints.clone()),
            checkpoints,
        })
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        self.table.load().get(topic, partition).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.table.load().values().cloned().collect()
    }

    pub fn table(&self) -> Arc<Table> {
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
        if !gone.is_empty() {
            for partition in &gone {
                table.remove(&partition.topic_partition);
            }
            self.table.store(Arc::new(table.clone()));
            // A topic of the same name may be opened below: nothing of the old one may have its name by then.
            self.close_all(gone).await;
        }
        self.free_names(&image).await;
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
                let Some(known) = table.get(&topic.name, *number) else {
                    let tp = TopicPartition::new(topic.name.clone(), *number);
                    to_open.extend(self.plan_open(tp, topic, state, config(), &image, &broker));
                    continue;
                };
                if reconfigured {
                    reconfigure(known, config(), &broker).await;
                }
                let old_state = old_topic.and_then(|t| t.partitions.get(number));
                if brokers_changed || old_state.is_none_or(|old| !Arc::ptr_eq(old, state)) {
                    to_assign.push((known.clone(), self.assignment(&image, known.id(), state)));
                }
            }
        }
        let opened = self.open_all(to_open, &broker).await;
        let new: Vec<_> = opened.iter().map(|(p, _)| p.clone()).collect();
        for (partition, state) in opened {
            to_assign.push((
                partition.clone(),
                self.assignment(&image, partition.id(), &state),
            ));
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
        self.resume_moves(&new);
        self.applied.send_replace(image.applied_index);
    }

    /// Renames directories that the image does not want: those found at start, and those of failed replicas.
    async fn free_names(self: &Arc<Self>, image: &Arc<ClusterImage>) {
        let (manager, image) = (self.clone(), image.clone());
        let renaming = tokio::task::spawn_blocking(move || {
            manager.claim_found(&image);
            manager.release_failed(&image);
        });
        if let Err(error) = renaming.await {
            tracing::error!(%error, "directories of other topics could not be renamed");
        }
    }

    /// Partitions that this broker has no replica of any more, because the metadata says so.
    fn gone(&self, table: &Table, image: &ClusterImage) -> Vec<Arc<Partition>> {
        let stays = |p: &&Arc<Partition>| {
            let state = image.partition(p.id());
            state.is_some_and(|s| s.replicas.contains(&self.node_id))
        };
        table.values().filter(|p| !stays(p)).cloned().collect()
    }

    /// The role that the metadata assigns to this broker's replica.
    fn assignment(
        &self,
        image: &ClusterImage,
        id: TopicIdPartition,
        state: &PartitionImage,
    ) -> Assignment {
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
        let leadership = Leadership {
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            isr: state.isr.clone(),
            replicas: state.replicas.iter().map(replica).collect(),
            recovering: state.leader_recovering,
        };
        Assignment::Lead(leadership, image.remote_log(id).cloned())
    }

    /// Takes the replicas of directories that have failed offline; returns whether there were any. Does not wait for the owner
    /// of a log that hangs on its disk.
    pub async fn take_failed_offline(&self) -> bool {
        let mut any = false;
        for partition in self.all() {
            if partition.is_on_failed_directory() && !partition.is_offline() {
                partition.set_offline();
                partition.tell_offline().await;
                any = true;
            }
        }
        any
    }

    /// Makes renames of partition directories durable, in the log directories that have not failed. Blocks.
    pub(super) fn sync_names(&self) -> std::io::Result<()> {
        for (_, dir) in self.log_dirs.usable() {
            dir.sync_names().inspect_err(|error| {
                self.log_dirs.health.report_io(&dir.path, error);
            })?;
        }
        Ok(())
    }

    /// Closes every log, flushes, writes checkpoints and the clean-shutdown markers. Nothing may append any more.
    pub async fn shutdown(self: &Arc<Self>) {
        self.stop_moves.cancel();
        // There is one permit for moves: a running move has ended as soon as this call has the permit.
        let _turn = self.moves.acquire().await;
        let mut closed: HashSet<usize> = (0..self.log_dirs.dirs.len()).collect();
        // A replica that failed to open has not been closed: its log is checked again at the next start.
        for (index, _) in self.failed_directories() {
            closed.remove(&index);
        }
        for partition in self.all() {
            if partition.is_offline() {
                continue;
            }
            let result = partition
                .run(|owned| {
                    owned.change_log(|log| {
                        log.prepare_to_close()?;
                        let (segments, end) = log.to_flush();
                        flush_segments(log.directory(), &segments)?;
                        log.mark_flushed(end);
                        Ok::<(), LogError>(())
                    })
                })
                .await;
            if !matches!(result, Ok(Ok(()))) {
                tracing::error!(%partition.topic_partition, "the log was not closed cleanly");
                closed.remove(&partition.log_dir());
            }
        }
        let manager = self.clone();
        let finish = tokio::task::spawn_blocking(move || {
            manager.removals.stop();
            manager.write_checkpoints();
            manager.shards.stop();
            manager.log_dirs.flushers.iter().for_each(Flusher::stop);
            for (index, dir) in manager.log_dirs.usable() {
                if closed.contains(&index)
                    && let Err(error) = dir.mark_clean()
                {
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
