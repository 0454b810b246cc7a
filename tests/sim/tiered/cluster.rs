//! Brokers, the controller, the bucket, and what happens to them.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use strandline_log::LeaderEpochs;
use strandline_metadata::controller::{
    Command, ControllerContext, ElectionKind, IsrChange, NewTopic, Registration, decide,
};
use strandline_metadata::{ClusterImage, PartitionImage};
use strandline_replication::truncation_offset;
use strandline_types::{
    BrokerEpoch, BrokerId, LeaderEpoch, RemoteLogSegmentId, RemoteLogSegmentMetadata, TopicId,
    TopicIdPartition, TopicPartition,
};
use uuid::Uuid;

use super::disk::Disk;
use super::{Record, Rule};

pub const PARTITION: TopicIdPartition = TopicIdPartition {
    topic_id: TopicId(Uuid::from_u128(7)),
    partition: 0,
};

pub struct Node {
    pub id: BrokerId,
    pub disk: Disk,
    pub up: bool,
    /// The metadata, as far as the node has applied it.
    pub image: ClusterImage,
    /// The epoch in which it leads, once its log and its tier are one log.
    pub leads: Option<LeaderEpoch>,
    /// A copy under way, and whether its objects are uploaded.
    pub copying: Option<(RemoteLogSegmentMetadata, bool)>,
    disks: u128,
    incarnations: u128,
}

/// The objects of a remote segment.
#[derive(Clone, Debug)]
pub struct Object {
    pub base_offset: i64,
    pub records: Vec<Record>,
    pub lineage: LeaderEpochs,
}

pub struct Cluster {
    pub random: StdRng,
    pub rule: Rule,
    /// Every append is flushed before it is acknowledged.
    flushes: bool,
    pub image: ClusterImage,
    pub nodes: Vec<Node>,
    pub bucket: BTreeMap<RemoteLogSegmentId, Object>,
    last_id: u64,
    /// Counts of the repairs, so that a seed shows that it was worth running.
    pub repaired: Repairs,
    /// Offsets that were assigned although a readable segment held them.
    pub given_twice: BTreeSet<i64>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Repairs {
    pub behind_tier: u64,
    pub cut: u64,
    pub gaps: u64,
    pub copies: u64,
    pub retained: u64,
}

impl Cluster {
    pub fn new(seed: u64, rule: Rule) -> Self {
        let mut cluster = Self {
            random: StdRng::seed_from_u64(seed),
            rule,
            flushes: seed.is_multiple_of(2),
            image: ClusterImage::default(),
            nodes: Vec::new(),
            bucket: BTreeMap::new(),
            last_id: 0,
            repaired: Repairs::default(),
            given_twice: BTreeSet::new(),
        };
        for id in 1..=3 {
            cluster.nodes.push(Node {
                id: BrokerId(id),
                disk: Disk::new(),
                up: true,
                image: ClusterImage::default(),
                leads: None,
                copying: None,
                disks: 1,
                incarnations: 0,
            });
            cluster.register(id as usize - 1);
        }
        let flush = if cluster.flushes { "1" } else { "1000000" };
        cluster.submit(Command::CreateTopic(NewTopic {
            name: "t".into(),
            id: PARTITION.topic_id,
            partitions: -1,
            replication_factor: -1,
            assignments: [(0, (1..=3).map(BrokerId).collect())].into(),
            configs: [("flush.messages".to_owned(), flush.to_owned())].into(),
        }));
        cluster
    }

    pub fn submit(&mut self, command: Command) -> bool {
        let context = ControllerContext::default();
        let Ok(decision) = decide(&self.image, &context, command) else {
            return false;
        };
        let records = decision.records.into_iter();
        records.for_each(|record| self.image.apply(record));
        self.image.applied_index += 1;
        true
    }

    pub fn state(&self) -> Option<&PartitionImage> {
        self.image.partition(PARTITION).map(|state| &**state)
    }

    fn epoch_of(&self, id: BrokerId) -> BrokerEpoch {
        let broker = self.image.brokers.get(&id);
        broker.map_or(BrokerEpoch(-1), |broker| broker.epoch)
    }

    /// A process starts: it registers, reads the metadata up to there, and is unfenced.
    fn register(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.incarnations += 1;
        let id = node.id;
        let number = id.0.unsigned_abs();
        let registration = Registration {
            id,
            incarnation: Uuid::from_u128(node.incarnations << 8 | u128::from(number)),
            rack: None,
            listeners: vec![],
            log_dirs: vec![Uuid::from_u128(node.disks << 8 | u128::from(number))],
            cluster_id: "c".into(),
            clean_start: false,
        };
        self.submit(Command::RegisterBroker(registration));
        let epoch = self.epoch_of(id);
        self.submit(Command::UnfenceBroker { id, epoch });
        self.nodes[at].image = self.image.clone();
        self.nodes[at].leads = None;
    }

    pub fn step(&mut self) {
        let at = self.random.random_range(0..self.nodes.len());
        match self.random.random_range(0..100) {
            0..22 => self.produce(),
            22..40 => self.fetch(at),
            40..46 => self.nodes[at].flush(),
            46..56 => self.hear(at),
            56..70 => self.copy(at),
            70..73 => self.clean_up(at),
            73..78 => self.trim(at),
            78..83 => self.rejoin(),
            // Often one broker is up alone, and another one later.
            83..90 => self.stop(at),
            90..95 => self.start(at),
            95..97 => self.elect(),
            97 => self.retain(at),
            98 => self.lose_disk(at),
            _ => {
                self.elect();
                self.hear(at);
            }
        }
        self.take_over(at);
    }

    /// Starts all nodes, replicates and copies again.
    pub fn heal(&mut self) {
        for _ in 0..300 {
            self.elect();
            for at in 0..self.nodes.len() {
                self.start(at);
                self.hear(at);
                self.take_over(at);
                self.fetch(at);
                self.nodes[at].flush();
                self.copy(at);
                self.clean_up(at);
            }
            self.rejoin();
            if self.check_agreement().is_ok() {
                return;
            }
        }
    }

    /// The node that serves clients as the leader.
    pub fn leader(&self) -> Option<usize> {
        let state = self.state()?;
        let at = self.nodes.iter().position(|n| Some(n.id) == state.leader)?;
        let node = &self.nodes[at];
        (node.up && node.leads == Some(state.leader_epoch)).then_some(at)
    }

    fn produce(&mut self) {
        let Some(at) = self.leader() else { return };
        let epoch = self.state().map_or(0, |state| state.leader_epoch.0);
        for _ in 0..self.random.random_range(1..4) {
            self.last_id += 1;
            let offset = self.nodes[at].disk.end();
            let held = self.image.remote_log(PARTITION);
            if held.is_some_and(|log| log.segment_for(offset).is_some()) {
                self.given_twice.insert(offset);
            }
            let previous = self.record_before(at, offset).map_or(0, |record| record.id);
            self.nodes[at].disk.append(Record {
                id: self.last_id,
                epoch,
                previous,
            });
        }
        if self.flushes {
            self.nodes[at].flush();
        }
        if self.random.random_range(0..2) == 0 {
            self.nodes[at].disk.roll();
        }
        self.advance();
    }

    fn record_before(&self, at: usize, offset: i64) -> Option<Record> {
        let local = self.nodes[at].disk.get(offset - 1);
        local.or_else(|| self.read_cold(at, offset - 1))
    }

    /// The high watermark: what every in-sync replica vouches for.
    fn advance(&mut self) {
        let (Some(at), Some(state)) = (self.leader(), self.state()) else {
            return;
        };
        let isr = self.nodes.iter().filter(|n| state.isr.contains(&n.id));
        let vouched = |node: &Node| {
            if self.flushes {
                node.disk.flushed
            } else {
                node.disk.end()
            }
        };
        let smallest = isr.map(vouched).min().unwrap_or(0);
        let disk = &mut self.nodes[at].disk;
        disk.high_watermark = disk.high_watermark.max(smallest.min(disk.end()));
    }

    /// A follower asks its leader once.
    fn fetch(&mut self, at: usize) {
        let Some(leader) = self.leader().filter(|leader| *leader != at) else {
            return;
        };
        let epoch = self.nodes[leader].leads;
        let follower = &self.nodes[at];
        let heard = follower.image.partition(PARTITION);
        if !follower.up || heard.map(|state| state.leader_epoch) != epoch {
            return;
        }
        let (mine, theirs) = (&follower.disk, &self.nodes[leader].disk);
        let end = mine.end();
        let diverging = mine.epochs.epoch_of(end - 1).and_then(|last| {
            let found = theirs.epochs.end_offset_for(last, theirs.end())?;
            (found.0 < last || found.1 < end).then_some(found)
        });
        if let Some(diverging) = diverging {
            let own = |epoch| mine.epochs.end_offset_for(epoch, end);
            let to = truncation_offset(diverging, end, own);
            self.cut(at, leader, to);
        } else if end > theirs.end() {
            // No epoch shows where the two diverge: the leader has fewer records than the others.
            let to = theirs.end();
            self.cut(at, leader, to);
        } else if end < theirs.start {
            self.begin_behind(at, leader);
        } else {
            let count = self.random.random_range(1..6);
            let records: Vec<_> = (end..end + count).map_while(|o| theirs.get(o)).collect();
            let (high_watermark, log_start) = (theirs.high_watermark, theirs.log_start);
            let disk = &mut self.nodes[at].disk;
            records.into_iter().for_each(|record| disk.append(record));
            if self.random.random_range(0..2) == 0 {
                disk.roll();
            }
            disk.high_watermark = disk.high_watermark.max(high_watermark.min(disk.end()));
            disk.log_start = disk.log_start.max(log_start.min(disk.high_watermark));
            disk.delete_below(disk.log_start);
            if self.flushes {
                self.nodes[at].flush();
            }
            self.advance();
        }
    }

    fn cut(&mut self, at: usize, leader: usize, to: i64) {
        let theirs = self.nodes[leader].disk.log_start;
        let disk = &mut self.nodes[at].disk;
        if to < disk.end() && to <= disk.start && disk.log_start.min(to) > theirs {
            // No record would stay, and the leader has records before.
            self.begin_behind(at, leader);
        } else {
            disk.truncate(to);
        }
    }

    fn begin_behind(&mut self, at: usize, leader: usize) {
        let (start, log_start) = {
            let disk = &self.nodes[leader].disk;
            (disk.start, disk.log_start)
        };
        let log = self.nodes[at].image.remote_log(PARTITION).cloned();
        let lineage = if start > log_start {
            log.and_then(|log| self.state_at(&log, start))
        } else {
            Some(LeaderEpochs::default())
        };
        if let Some(lineage) = lineage {
            let disk = &mut self.nodes[at].disk;
            disk.begin_behind_tier(start, log_start, lineage);
        }
    }

    /// A broker applies the metadata, or only a part of them if it is slow.
    fn hear(&mut self, at: usize) {
        if self.nodes[at].up {
            self.nodes[at].image = self.image.clone();
        }
    }

    fn rejoin(&mut self) {
        let (Some(at), Some(state)) = (self.leader(), self.state().cloned()) else {
            return;
        };
        let committed = self.nodes[at].disk.high_watermark;
        let joins = |node: &&Node| {
            let heard = node.image.partition(PARTITION);
            let follows = heard.is_some_and(|s| s.leader_epoch == state.leader_epoch);
            let same = node.disk.end() <= self.nodes[at].disk.end()
                && node.disk.epochs.epoch_of(node.disk.end() - 1)
                    == self.nodes[at].disk.epochs.epoch_of(node.disk.end() - 1);
            let vouched = if self.flushes {
                node.disk.flushed
            } else {
                node.disk.end()
            };
            node.id == self.nodes[at].id || node.up && follows && same && vouched >= committed
        };
        let isr = self.nodes.iter().filter(joins);
        let new_isr = isr.map(|n| (n.id, self.epoch_of(n.id))).collect();
        let broker = self.nodes[at].id;
        self.submit(Command::AlterIsr {
            broker,
            broker_epoch: self.epoch_of(broker),
            changes: vec![IsrChange {
                partition: PARTITION,
                leader_epoch: state.leader_epoch,
                partition_epoch: state.partition_epoch,
                new_isr,
                recovered: state.leader_recovering,
            }],
        });
        self.hear(at);
        self.advance();
    }

    fn stop(&mut self, at: usize) {
        if !self.nodes[at].up {
            return;
        }
        let id = self.nodes[at].id;
        let epoch = self.epoch_of(id);
        let node = &mut self.nodes[at];
        node.up = false;
        node.leads = None;
        node.copying = None;
        if self.random.random_range(0..2) == 0 {
            node.disk.lose_power();
        }
        self.submit(Command::FenceBroker { id, epoch });
    }

    fn start(&mut self, at: usize) {
        if !self.nodes[at].up {
            self.nodes[at].up = true;
            self.register(at);
        }
    }

    fn lose_disk(&mut self, at: usize) {
        if !self.nodes[at].up {
            self.nodes[at].disks += 1;
            self.nodes[at].disk = Disk::new();
        }
    }

    /// An operator stops waiting for the replicas that were in sync, and elects uncleanly.
    fn elect(&mut self) {
        self.submit(Command::ElectLeaders {
            kind: ElectionKind::Unclean,
            partitions: Some(vec![TopicPartition::new("t", 0)]),
        });
    }
}

impl Node {
    fn flush(&mut self) {
        self.disk.flushed = self.disk.end();
    }
}
