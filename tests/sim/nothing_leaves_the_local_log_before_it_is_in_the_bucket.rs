//! Invariants 4, 5 and 6: records that are gone from a replica's disk are readable in the bucket; every object that the
//! image names exists; a leader that was replaced can neither commit a copy nor damage one. The planners and the
//! controller are the real ones; leaders are replaced in the middle of every step, and each broker's segments end at
//! other offsets.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use strandline_metadata::ClusterImage;
use strandline_metadata::controller::{Command, ControllerContext, NewTopic, Registration, decide};
use strandline_tiering::planner::{
    LocalSegment, TierRules, abandoned_copies, plan_copy, plan_local_retention,
};
use strandline_types::{
    BrokerEpoch, BrokerId, LeaderEpoch, RemoteLogSegmentId, RemoteLogSegmentMetadata,
    RemoteLogSegmentState, TopicId, TopicIdPartition,
};
use uuid::Uuid;

use crate::seeds;

const PARTITION: TopicIdPartition = TopicIdPartition {
    topic_id: TopicId(Uuid::from_u128(7)),
    partition: 0,
};
const RULES: TierRules = TierRules {
    retention_ms: -1,
    retention_bytes: -1,
    local_retention_ms: -1,
    local_retention_bytes: 1,
    copy_disabled: false,
    copy_lag_ms: 0,
    copy_lag_bytes: 0,
};

struct Node {
    id: BrokerId,
    /// Where its segments begin; the last one is active.
    bases: Vec<i64>,
    /// The metadata, as far as the broker has applied it.
    image: ClusterImage,
    /// Copies under way: the segment, and whether its objects are uploaded.
    running: Vec<(RemoteLogSegmentMetadata, bool)>,
}

pub struct World {
    random: StdRng,
    image: ClusterImage,
    pub end: i64,
    nodes: Vec<Node>,
    bucket: BTreeSet<RemoteLogSegmentId>,
    pub store_is_down: bool,
    pub copied: usize,
    refused: usize,
}

impl Node {
    fn leader_epoch(&self) -> Option<LeaderEpoch> {
        let state = self.image.partition(PARTITION)?;
        (state.leader == Some(self.id)).then_some(state.leader_epoch)
    }

    fn highest_remote(&self) -> i64 {
        let log = self.image.remote_log(PARTITION);
        log.map_or(-1, |log| log.highest_remote_offset())
    }

    fn sealed(&self) -> Vec<LocalSegment> {
        let pairs = self.bases.windows(2);
        pairs
            .map(|pair| LocalSegment {
                base_offset: pair[0],
                end_offset: pair[1],
                bytes: 100,
                newest_record_ms: 0,
            })
            .collect()
    }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut world = Self {
            random: StdRng::seed_from_u64(seed),
            image: ClusterImage::default(),
            end: 0,
            nodes: Vec::new(),
            bucket: BTreeSet::new(),
            store_is_down: false,
            copied: 0,
            refused: 0,
        };
        for id in 1..=3 {
            let registration = Registration {
                id: BrokerId(id),
                incarnation: Uuid::from_u128(id.unsigned_abs().into()),
                rack: None,
                listeners: vec![],
                log_dirs: vec![],
                cluster_id: "c".into(),
                clean_start: true,
            };
            world.submit(Command::RegisterBroker(registration));
            world.stand(id, false);
            world.nodes.push(Node {
                id: BrokerId(id),
                bases: vec![0],
                image: ClusterImage::default(),
                running: Vec::new(),
            });
        }
        world.submit(Command::CreateTopic(NewTopic {
            name: "t".into(),
            id: PARTITION.topic_id,
            partitions: -1,
            replication_factor: -1,
            assignments: [(0, (1..=3).map(BrokerId).collect())].into(),
            configs: BTreeMap::new(),
        }));
        world
    }

    fn submit(&mut self, command: Command) -> bool {
        let context = ControllerContext::default();
        let Ok(decision) = decide(&self.image, &context, command) else {
            return false;
        };
        decision
            .records
            .into_iter()
            .for_each(|r| self.image.apply(r));
        self.image.applied_index += 1;
        true
    }

    fn stand(&mut self, id: i32, fenced: bool) {
        let id = BrokerId(id);
        let epoch = self
            .image
            .brokers
            .get(&id)
            .map_or(BrokerEpoch(-1), |b| b.epoch);
        self.submit(if fenced {
            Command::FenceBroker { id, epoch }
        } else {
            Command::UnfenceBroker { id, epoch }
        });
    }

    pub fn step(&mut self) {
        let at = self.random.random_range(0..self.nodes.len());
        match self.random.random_range(0..20) {
            0..4 => {
                // All replicas replicate at once here; each seals its active segment at random.
                self.end += self.random.random_range(1..5);
                for node in &mut self.nodes {
                    let active = *node.bases.last().expect("an active segment");
                    if self.random.random_range(0..3) == 0 && active < self.end {
                        node.bases.push(self.end);
                    }
                }
            }
            4..8 => self.nodes[at].image = self.image.clone(),
            8..10 => self.start_copy(at),
            10..13 => self.go_on(at),
            13..15 => self.clean_up(at),
            15..17 => self.trim(at),
            17 => self.nodes[at].running.clear(),
            18 => self.stand(at as i32 + 1, true),
            _ => {
                self.stand(at as i32 + 1, false);
                self.rejoin();
            }
        }
    }

    /// The leader adds every running replica to its ISR.
    fn rejoin(&mut self) {
        let Some(state) = self.image.partition(PARTITION).cloned() else {
            return;
        };
        let Some(leader) = state.leader else { return };
        let up = self.image.brokers.values().filter(|b| b.is_active());
        let new_isr = up.map(|b| (b.id, b.epoch)).collect();
        let change = strandline_metadata::controller::IsrChange {
            partition: PARTITION,
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            new_isr,
            recovered: false,
        };
        let broker_epoch = self.image.brokers[&leader].epoch;
        self.submit(Command::AlterIsr {
            broker: leader,
            broker_epoch,
            changes: vec![change],
        });
    }

    fn start_copy(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Some(leader_epoch) = node.leader_epoch() else {
            return;
        };
        if !node.running.is_empty() {
            return;
        }
        let plans = plan_copy(
            &node.sealed(),
            1,
            node.highest_remote(),
            self.end,
            &RULES,
            0,
        );
        let Some(plan) = plans.first() else { return };
        let segment = RemoteLogSegmentMetadata {
            id: RemoteLogSegmentId(Uuid::from_u128(self.random.random())),
            partition: PARTITION,
            base_offset: plan.base_offset,
            end_offset: plan.end_offset,
            max_timestamp_ms: 0,
            broker_id: node.id,
            leader_epoch,
            event_timestamp_ms: 0,
            segment_leader_epochs: vec![],
            log_bytes: 100,
            log_crc32c: 0,
            side_bytes: 0,
            side_crc32c: 0,
            state: RemoteLogSegmentState::CopySegmentStarted,
        };
        if self.submit(Command::UpdateRemoteSegment(segment.clone())) {
            self.nodes[at].running.push((segment, false));
        } else {
            self.refused += 1;
        }
    }

    fn go_on(&mut self, at: usize) {
        let Some((segment, uploaded)) = self.nodes[at].running.pop() else {
            return;
        };
        if self.store_is_down {
            // The broker tries again until the store is back.
            self.nodes[at].running.push((segment, uploaded));
            return;
        }
        if !uploaded {
            self.bucket.insert(segment.id);
            self.nodes[at].running.push((segment, true));
            return;
        }
        let finished = RemoteLogSegmentMetadata {
            state: RemoteLogSegmentState::CopySegmentFinished,
            ..segment
        };
        if self.submit(Command::UpdateRemoteSegment(finished)) {
            self.copied += 1;
        } else {
            self.refused += 1;
        }
    }

    /// Abandons unfinished copies that no process continues, as far as this leader knows.
    fn clean_up(&mut self, at: usize) {
        let node = &self.nodes[at];
        if node.leader_epoch().is_none() {
            return;
        }
        let Some(log) = node.image.remote_log(PARTITION) else {
            return;
        };
        let running = node.running.iter().map(|(s, _)| (s.id, s.base_offset));
        let abandoned = abandoned_copies(log.segments(), &running.collect());
        let segments: Vec<_> = log.segments().cloned().collect();
        for segment in segments.into_iter().filter(|s| abandoned.contains(&s.id)) {
            let id = segment.id;
            let abandon = Command::AbandonCopy {
                partition: PARTITION,
                id,
            };
            if self.submit(abandon) {
                self.bucket.remove(&id);
                self.submit(Command::UpdateRemoteSegment(RemoteLogSegmentMetadata {
                    state: RemoteLogSegmentState::DeleteSegmentFinished,
                    ..segment
                }));
            }
        }
    }

    fn trim(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let highest = Some(node.highest_remote());
        if let Some(start) = plan_local_retention(&node.sealed(), 1, highest, &RULES, 0) {
            node.bases.retain(|base| *base >= start);
        }
    }

    pub fn check(&self, seed: u64) {
        let log = self.image.remote_log(PARTITION);
        for segment in log.iter().flat_map(|log| log.readable()) {
            assert!(
                self.bucket.contains(&segment.id),
                "seed {seed}: no object for {segment:?}"
            );
        }
        for node in &self.nodes {
            for offset in 0..node.bases[0] {
                let found = log.and_then(|log| log.segment_for(offset));
                assert!(
                    found.is_some(),
                    "seed {seed}: {offset} is nowhere; {:?}",
                    node.bases
                );
            }
        }
    }
}

#[test]
fn nothing_leaves_the_local_log_before_it_is_in_the_bucket() {
    let (mut copied, mut refused, mut trimmed) = (0, 0, 0);
    for seed in 0..seeds() {
        let mut world = World::new(seed);
        for _ in 0..300 {
            world.step();
            world.check(seed);
        }
        copied += world.copied;
        refused += world.refused;
        trimmed += world.nodes.iter().filter(|n| n.bases[0] > 0).count();
    }
    println!(
        "{} seeds: {copied} copies, {refused} refused, {trimmed} logs trimmed",
        seeds()
    );
    for count in [copied, refused, trimmed] {
        assert!(count as u64 > seeds() / 10);
    }
}
