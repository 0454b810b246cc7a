//! Decisions against an image that checks itself after each.

mod elections;
mod remote_segments;
mod replicas;
mod topics;

use std::sync::Arc;

use strandline_types::LeaderEpoch;
use strandline_types::RemoteLogSegmentState::*;
use uuid::Uuid;

use super::*;
use crate::image::PartitionImage;

/// An image with the index that the quorum would give it.
pub(super) struct Cluster {
    pub image: ClusterImage,
    context: ControllerContext,
}

impl Cluster {
    pub fn new(brokers: i32) -> Self {
        let mut cluster = Self {
            image: ClusterImage::default(),
            context: ControllerContext {
                remote_enabled: true,
                ..ControllerContext::default()
            },
        };
        for id in 1..=brokers {
            cluster.start(id, &[u128::from(id.unsigned_abs())], true);
        }
        cluster
    }

    pub fn run(&mut self, command: Command) -> Result<Answer, Refusal> {
        let decision = decide(&self.image, &self.context, command)?;
        let bytes = crate::encode_records(&decision.records);
        for record in crate::decode_records(&bytes).unwrap() {
            self.image.apply(record);
        }
        self.image.applied_index += 1;
        self.check();
        Ok(decision.answer)
    }

    /// Checks the properties that hold in every image.
    fn check(&self) {
        for p in self.image.topics().flat_map(|t| t.partitions.values()) {
            if let Some(leader) = p.leader {
                assert!(p.isr.contains(&leader), "{p:?}");
            }
            assert!(p.isr.iter().all(|r| p.replicas.contains(r)), "{p:?}");
            let both = |r: &BrokerId| p.isr.contains(r);
            assert!(!p.eligible_leader_replicas.iter().any(both), "{p:?}");
        }
    }

    pub fn epoch(&self, id: i32) -> BrokerEpoch {
        self.image.brokers[&BrokerId(id)].epoch
    }

    /// A new process of a broker that has found these replicas, all with records, up to where it may lead.
    pub fn start_with(&mut self, id: i32, log_dirs: &[u128], found: Option<&[&str]>) {
        let registration = self.registration(id, log_dirs, true);
        let found = found.unwrap_or_default().iter().map(|name| FoundReplica {
            partition: self.tp(name),
            has_records: true,
        });
        let found = found.collect();
        self.run(Command::RegisterWithReplicas(registration, found))
            .unwrap();
        self.unfence(id);
    }

    /// A leader that was elected uncleanly says that it has recovered.
    pub fn recover(&mut self, leader: i32, name: &str) {
        let change = IsrChange {
            recovered: true,
            ..self.isr_change(name, &[leader])
        };
        self.alter(leader, change).unwrap();
    }

    /// A new process of a broker, up to where it may lead.
    pub fn start(&mut self, id: i32, log_dirs: &[u128], clean_start: bool) {
        self.register(id, log_dirs, clean_start);
        self.unfence(id);
    }

    pub fn register(&mut self, id: i32, log_dirs: &[u128], clean_start: bool) {
        let registration = self.registration(id, log_dirs, clean_start);
        self.run(Command::RegisterBroker(registration)).unwrap();
    }

    fn registration(&self, id: i32, log_dirs: &[u128], clean_start: bool) -> Registration {
        Registration {
            id: BrokerId(id),
            incarnation: Uuid::from_u128(u128::from(self.image.applied_index) + 1000),
            rack: (id < 100).then(|| format!("rack{}", id % 2)),
            listeners: vec![],
            log_dirs: log_dirs.iter().map(|d| Uuid::from_u128(*d)).collect(),
            cluster_id: "c".into(),
            clean_start,
        }
    }

    pub fn unfence(&mut self, id: i32) {
        let epoch = self.epoch(id);
        let id = BrokerId(id);
        self.run(Command::UnfenceBroker { id, epoch }).unwrap();
    }

    pub fn fence(&mut self, id: i32) {
        let epoch = self.epoch(id);
        let id = BrokerId(id);
        self.run(Command::FenceBroker { id, epoch }).unwrap();
    }

    pub fn create(&mut self, name: &str, replicas: &[i32], configs: &[(&str, &str)]) {
        let new = NewTopic {
            partitions: -1,
            replication_factor: -1,
            assignments: [(0, ids(replicas))].into(),
            configs: owned(configs),
            ..topic(name, 1)
        };
        self.run(Command::CreateTopic(new)).unwrap();
    }

    pub fn partition(&self, name: &str) -> &PartitionImage {
        &self.image.topic(name).unwrap().partitions[&0]
    }

    pub fn tp(&self, name: &str) -> TopicIdPartition {
        TopicIdPartition {
            topic_id: self.image.topic(name).unwrap().id,
            partition: 0,
        }
    }

    /// The leader's wish as it would send it now.
    pub fn isr_change(&self, name: &str, isr: &[i32]) -> IsrChange {
        let p = self.partition(name);
        IsrChange {
            partition: self.tp(name),
            leader_epoch: p.leader_epoch,
            partition_epoch: p.partition_epoch,
            new_isr: isr.iter().map(|i| (BrokerId(*i), self.epoch(*i))).collect(),
            recovered: false,
        }
    }

    pub fn alter(&mut self, leader: i32, change: IsrChange) -> Result<(), Refusal> {
        let command = Command::AlterIsr {
            broker: BrokerId(leader),
            broker_epoch: self.epoch(leader),
            changes: vec![change],
        };
        match self.run(command)? {
            Answer::Results(results) => results.into_iter().next().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub fn set_isr(&mut self, leader: i32, name: &str, isr: &[i32]) {
        let change = self.isr_change(name, isr);
        self.alter(leader, change).unwrap();
    }

    fn reassign(&mut self, name: &str, replicas: Option<&[i32]>) -> Result<(), Refusal> {
        let wish = Reassignment {
            partition: TopicPartition::new(name, 0),
            replicas: replicas.map(ids),
        };
        match self.run(Command::AlterReassignments(vec![wish]))? {
            Answer::Results(results) => results.into_iter().next().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub fn elect(&mut self, kind: ElectionKind, name: &str) -> Result<(), Refusal> {
        let partitions = Some(vec![TopicPartition::new(name, 0)]);
        match self.run(Command::ElectLeaders { kind, partitions })? {
            Answer::Elections(results) => results.into_iter().next().unwrap().1,
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

pub(super) fn topic(name: &str, partitions: i32) -> NewTopic {
    NewTopic {
        name: name.into(),
        id: TopicId(Uuid::from_u128(u128::from(name.as_bytes()[0]))),
        partitions,
        replication_factor: 1,
        assignments: BTreeMap::new(),
        configs: owned(&[("retention.ms", "5")]),
    }
}
