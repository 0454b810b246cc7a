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

#[test]
fn a_topic_lives_from_creation_over_growth_to_deletion() {
    let mut cluster = Cluster::new(1);
    cluster.run(Command::CreateTopic(topic("t", 3))).unwrap();
    let image = &cluster.image;
    assert_eq!(
        image.topic("t").unwrap().partitions[&2].leader,
        Some(BrokerId(1))
    );
    assert_eq!(image.topic_configs("t")["retention.ms"], "5");
    assert_eq!(
        cluster.run(Command::CreateTopic(topic("t", 3))),
        Err(Refusal::TopicExists("t".into()))
    );
    let grow = Command::CreatePartitions {
        topic: "t".into(),
        count: 5,
        assignments: None,
    };
    cluster.run(grow.clone()).unwrap();
    assert_eq!(cluster.image.topic("t").unwrap().partitions.len(), 5);
    assert!(cluster.run(grow).is_err());
    let id = cluster.image.topic("t").unwrap().id;
    cluster.run(Command::DeleteTopic(id)).unwrap();
    assert!(cluster.image.topic("t").is_none() && cluster.image.topic_configs("t").is_empty());
}

#[test]
fn impossible_topics_are_refused() {
    let mut cluster = Cluster::new(1);
    let mut create = |new: NewTopic| cluster.run(Command::CreateTopic(new));
    assert!(matches!(
        create(topic("a/b", 1)),
        Err(Refusal::InvalidTopic(_))
    ));
    assert!(matches!(
        create(topic("t", 0)),
        Err(Refusal::InvalidPartitions(_))
    ));
    let replicated = NewTopic {
        replication_factor: 3,
        ..topic("t", 1)
    };
    assert!(matches!(
        create(replicated),
        Err(Refusal::InvalidReplicationFactor(_))
    ));
    create(topic("a.b", 1)).unwrap();
    assert!(matches!(
        create(topic("a_b", 1)),
        Err(Refusal::InvalidTopic(_))
    ));
    let strange = NewTopic {
        partitions: -1,
        replication_factor: -1,
        assignments: [(0, ids(&[9]))].into(),
        ..topic("m", 1)
    };
    assert!(matches!(
        create(strange),
        Err(Refusal::InvalidReplicaAssignment(_))
    ));
}

#[test]
fn lists_grow_and_shrink_and_read_only_keys_do_not_change() {
    let mut cluster = Cluster::new(1);
    cluster.run(Command::CreateTopic(topic("t", 1))).unwrap();
    let change = |operation, value: &str| ConfigChange {
        key: "cleanup.policy".into(),
        operation,
        value: Some(value.into()),
    };
    for (operation, value, wanted) in [
        (ConfigOperation::Append, "compact", "delete,compact"),
        (ConfigOperation::Subtract, "delete", "compact"),
    ] {
        let command = Command::AlterConfigs {
            resource: ConfigResource::Topic("t".into()),
            changes: vec![change(operation, value)],
        };
        cluster.run(command).unwrap();
        assert_eq!(cluster.image.topic_configs("t")["cleanup.policy"], wanted);
    }
    let read_only = Command::AlterConfigs {
        resource: ConfigResource::Broker(Some(BrokerId(1))),
        changes: vec![ConfigChange {
            key: "log.dirs".into(),
            operation: ConfigOperation::Set,
            value: Some("/x".into()),
        }],
    };
    assert!(matches!(
        cluster.run(read_only),
        Err(Refusal::InvalidRequest(_))
    ));
}

#[test]
fn a_tier_whose_key_is_deleted_is_the_default_again() {
    const KEY: &str = "remote.storage.enable";
    let delete = |of: &str| Command::AlterConfigs {
        resource: ConfigResource::Topic(of.into()),
        changes: vec![ConfigChange {
            key: KEY.into(),
            operation: ConfigOperation::Delete,
            value: None,
        }],
    };
    let mut cluster = Cluster::new(1);
    cluster.run(Command::CreateTopic(topic("t", 1))).unwrap();
    let default = ("log.remote.storage.enable".to_owned(), "true".to_owned());
    cluster.context.broker.file.extend([default]);
    cluster.run(Command::CreateTopic(topic("u", 1))).unwrap();
    cluster.run(delete("u")).unwrap();
    assert_eq!(cluster.image.topic_configs("u")[KEY], "true");
    // Where there was none, none was deleted.
    cluster.run(delete("t")).unwrap();
    assert!(!cluster.image.topic_configs("t").contains_key(KEY));
}

#[test]
fn only_the_current_leader_may_copy_and_nothing_twice() {
    let mut cluster = Cluster::new(1);
    cluster.run(Command::CreateTopic(topic("t", 1))).unwrap();
    let partition = cluster.tp("t");
    let segment = |attempt: u128, base: i64, state| RemoteLogSegmentMetadata {
        id: RemoteLogSegmentId(Uuid::from_u128(attempt)),
        partition,
        base_offset: base,
        end_offset: base + 10,
        max_timestamp_ms: 0,
        broker_id: BrokerId(1),
        leader_epoch: LeaderEpoch(0),
        event_timestamp_ms: 0,
        segment_leader_epochs: vec![],
        log_bytes: 100,
        log_crc32c: 0,
        side_bytes: 0,
        side_crc32c: 0,
        state,
    };
    let mut step = |s: RemoteLogSegmentMetadata| {
        cluster.run(Command::UpdateRemoteSegment(s))?;
        Ok::<_, Refusal>(cluster.image.clone())
    };
    assert!(
        step(segment(1, 0, CopySegmentFinished)).is_err(),
        "never started"
    );
    step(segment(1, 0, CopySegmentStarted)).unwrap();
    let stale = RemoteLogSegmentMetadata {
        leader_epoch: LeaderEpoch(7),
        ..segment(1, 0, CopySegmentFinished)
    };
    assert!(step(stale).is_err());
    let after = step(segment(1, 0, CopySegmentFinished)).unwrap();
    let log = after.remote_log(partition).unwrap();
    assert_eq!(log.highest_remote_offset(), 9);
    assert_eq!(log.segment_for(9).unwrap().base_offset, 0);
    assert!(log.segment_for(10).is_none());
    assert!(
        step(segment(2, 0, CopySegmentStarted)).is_err(),
        "copied already"
    );
    step(segment(2, 20, CopySegmentStarted)).unwrap();
    let with_gap = step(segment(2, 20, CopySegmentFinished));
    assert!(with_gap.is_err(), "offsets 10 to 19 would be missing");
    let overlapping = RemoteLogSegmentMetadata {
        end_offset: 15,
        ..segment(4, 5, CopySegmentStarted)
    };
    step(overlapping).unwrap();
    step(segment(3, 10, CopySegmentStarted)).unwrap();
    step(segment(1, 0, DeleteSegmentStarted)).unwrap();
    assert!(
        step(segment(1, 0, CopySegmentFinished)).is_err(),
        "no way back"
    );
    let after = step(segment(1, 0, DeleteSegmentFinished)).unwrap();
    assert_eq!(after.remote_log(partition).unwrap().segments().count(), 3);
    step(segment(3, 10, CopySegmentFinished)).unwrap();
    let mut abandon = |attempt| {
        let id = RemoteLogSegmentId(Uuid::from_u128(attempt));
        cluster.run(Command::AbandonCopy { partition, id })
    };
    abandon(4).unwrap();
    abandon(99).unwrap();
    assert!(
        abandon(3).is_err(),
        "it has finished, and others may rely on it"
    );
}

#[test]
fn replicas_are_spread_over_brokers_and_racks() {
    let mut cluster = Cluster::new(6);
    let new = NewTopic {
        replication_factor: 2,
        ..topic("t", 12)
    };
    cluster.run(Command::CreateTopic(new)).unwrap();
    let mut leaders: BTreeMap<BrokerId, usize> = BTreeMap::new();
    let mut replicas: BTreeMap<BrokerId, usize> = BTreeMap::new();
    for p in cluster.image.topic("t").unwrap().partitions.values() {
        *leaders.entry(p.leader.unwrap()).or_default() += 1;
        p.replicas
            .iter()
            .for_each(|r| *replicas.entry(*r).or_default() += 1);
        let rack = |r: BrokerId| cluster.image.brokers[&r].rack.clone();
        assert_ne!(rack(p.replicas[0]), rack(p.replicas[1]), "{p:?}");
    }
    assert_eq!(leaders.values().copied().collect::<Vec<_>>(), [2; 6]);
    assert_eq!(replicas.values().copied().collect::<Vec<_>>(), [4; 6]);
}

#[test]
fn a_fenced_leader_is_followed_by_the_next_in_sync_replica_and_comes_back_as_a_follower() {
    let mut cluster = Cluster::new(3);
    cluster.create("t", &[1, 2, 3], &[]);
    cluster.fence(1);
    let p = cluster.partition("t").clone();
    assert_eq!(
        (p.leader, p.leader_epoch, p.isr.clone()),
        (Some(BrokerId(2)), LeaderEpoch(1), ids(&[2, 3]))
    );
    cluster.start(1, &[1], false);
    assert_eq!(cluster.partition("t").isr, ids(&[2, 3]));
    cluster.set_isr(2, "t", &[2, 3, 1]);
    assert_eq!(cluster.partition("t").leader, Some(BrokerId(2)));
    cluster.elect(ElectionKind::Preferred, "t").unwrap();
    assert_eq!(cluster.partition("t").leader, Some(BrokerId(1)));
    assert_eq!(
        cluster.elect(ElectionKind::Preferred, "t"),
        Err(Refusal::ElectionNotNeeded)
    );
}

#[test]
fn the_isr_may_become_empty_and_only_an_eligible_replica_leads_again() {
    let mut cluster = Cluster::new(3);
    cluster.create("t", &[1, 2, 3], &[("min.insync.replicas", "2")]);
    cluster.fence(3);
    assert!(cluster.partition("t").eligible_leader_replicas.is_empty());
    cluster.fence(2);
    assert_eq!(cluster.partition("t").eligible_leader_replicas, ids(&[2]));
    cluster.fence(1);
    let p = cluster.partition("t").clone();
    assert_eq!((p.leader, p.isr.len()), (None, 0));
    assert_eq!(p.eligible_leader_replicas, ids(&[2, 1]));
    cluster.start(3, &[3], true);
    assert_eq!(
        cluster.partition("t").leader,
        None,
        "it left while others went on"
    );
    cluster.start(2, &[2], false);
    let p = cluster.partition("t").clone();
    assert_eq!((p.leader, p.isr), (Some(BrokerId(2)), ids(&[2])));
    assert_eq!(p.eligible_leader_replicas, ids(&[1]));
    cluster.set_isr(2, "t", &[2, 3]);
    assert!(cluster.partition("t").eligible_leader_replicas.is_empty());
}

#[test]
fn alter_partition_checks_epochs_and_replicas_in_kafkas_order() {
    let mut cluster = Cluster::new(3);
    cluster.create("t", &[1, 2, 3], &[]);
    cluster.fence(3);
    let good = cluster.isr_change("t", &[1, 2]);
    let newer = IsrChange {
        leader_epoch: LeaderEpoch(9),
        ..good.clone()
    };
    assert_eq!(cluster.alter(1, newer), Err(Refusal::NotController));
    assert!(matches!(
        cluster.alter(2, good.clone()),
        Err(Refusal::InvalidRequest(_))
    ));
    let older = IsrChange {
        partition_epoch: good.partition_epoch - 1,
        ..good.clone()
    };
    assert_eq!(cluster.alter(1, older), Err(Refusal::InvalidUpdateVersion));
    let without_leader = cluster.isr_change("t", &[2]);
    assert!(matches!(
        cluster.alter(1, without_leader),
        Err(Refusal::InvalidRequest(_))
    ));
    let fenced = cluster.isr_change("t", &[1, 2, 3]);
    assert_eq!(
        cluster.alter(1, fenced),
        Err(Refusal::IneligibleReplica(BrokerId(3)))
    );
    let stale = IsrChange {
        new_isr: vec![
            (BrokerId(1), cluster.epoch(1)),
            (BrokerId(2), BrokerEpoch(0)),
        ],
        ..good
    };
    assert_eq!(
        cluster.alter(1, stale),
        Err(Refusal::IneligibleReplica(BrokerId(2)))
    );
    let command = Command::AlterIsr {
        broker: BrokerId(1),
        broker_epoch: BrokerEpoch(999),
        changes: vec![],
    };
    assert_eq!(
        cluster.run(command),
        Err(Refusal::StaleBrokerEpoch(BrokerId(1)))
    );
}

#[test]
fn unclean_election_happens_only_where_it_is_allowed() {
    let mut cluster = Cluster::new(2);
    cluster.create("no", &[1, 2], &[]);
    cluster.create(
        "yes",
        &[1, 2],
        &[("unclean.leader.election.enable", "true")],
    );
    for name in ["no", "yes"] {
        cluster.set_isr(1, name, &[1]);
    }
    cluster.fence(1);
    assert_eq!(cluster.partition("no").leader, None);
    let p = cluster.partition("yes");
    assert_eq!((p.leader, p.leader_recovering), (Some(BrokerId(2)), true));
    assert!(matches!(
        cluster.elect(ElectionKind::Preferred, "no"),
        Err(Refusal::PreferredLeaderNotAvailable)
    ));
    cluster.elect(ElectionKind::Unclean, "no").unwrap();
    assert_eq!(cluster.partition("no").leader, Some(BrokerId(2)));
}

#[test]
fn a_shutdown_hands_over_what_others_can_lead() {
    let mut cluster = Cluster::new(2);
    cluster.create("shared", &[1, 2], &[]);
    cluster.create("alone", &[1], &[]);
    let epoch = cluster.epoch(1);
    let id = BrokerId(1);
    cluster.run(Command::ShutDownBroker { id, epoch }).unwrap();
    assert_eq!(cluster.partition("shared").leader, Some(BrokerId(2)));
    assert_eq!(cluster.partition("alone").leader, Some(BrokerId(1)));
    let back = cluster.isr_change("shared", &[2, 1]);
    assert_eq!(
        cluster.alter(2, back),
        Err(Refusal::IneligibleReplica(BrokerId(1)))
    );
}

#[test]
fn a_reassignment_ends_when_its_targets_are_in_sync_and_can_be_cancelled() {
    let mut cluster = Cluster::new(4);
    cluster.create("t", &[1, 2], &[]);
    assert_eq!(
        cluster.reassign("t", None),
        Err(Refusal::NoReassignmentInProgress)
    );
    cluster.reassign("t", Some(&[3, 4])).unwrap();
    let p = cluster.partition("t").clone();
    assert_eq!(p.replicas, ids(&[3, 4, 1, 2]));
    assert_eq!(
        (p.adding_replicas, p.removing_replicas),
        (ids(&[3, 4]), ids(&[1, 2]))
    );
    cluster.set_isr(1, "t", &[1, 2, 3]);
    cluster.reassign("t", None).unwrap();
    let p = cluster.partition("t").clone();
    assert_eq!((p.replicas, p.isr), (ids(&[1, 2]), ids(&[1, 2])));

    cluster.reassign("t", Some(&[3, 4])).unwrap();
    cluster.set_isr(1, "t", &[1, 2, 3, 4]);
    let p = cluster.partition("t").clone();
    assert_eq!((p.replicas, p.isr), (ids(&[3, 4]), ids(&[3, 4])));
    assert_eq!(p.leader, Some(BrokerId(3)));
    assert!(
        !p.adding_replicas
            .iter()
            .chain(&p.removing_replicas)
            .any(|_| true)
    );
}

#[test]
fn another_cluster_is_refused_and_a_known_incarnation_changes_nothing() {
    let mut cluster = Cluster::new(1);
    let mut registration = Registration {
        id: BrokerId(1),
        incarnation: cluster.image.brokers[&BrokerId(1)].incarnation,
        rack: None,
        listeners: vec![],
        log_dirs: vec![],
        cluster_id: "c".into(),
        clean_start: true,
    };
    let before = cluster.epoch(1);
    cluster
        .run(Command::RegisterBroker(registration.clone()))
        .unwrap();
    assert_eq!(cluster.epoch(1), before);
    registration.cluster_id = "d".into();
    assert_eq!(
        cluster.run(Command::RegisterBroker(registration)),
        Err(Refusal::InconsistentClusterId("c".into()))
    );
}

#[test]
fn leaders_are_balanced_only_above_the_allowed_share() {
    let mut cluster = Cluster::new(2);
    cluster.create("a", &[1, 2], &[]);
    cluster.create("b", &[2, 1], &[]);
    cluster.fence(1);
    cluster.start(1, &[1], true);
    assert!(
        imbalanced_partitions(&cluster.image, 10).is_empty(),
        "not in sync yet"
    );
    cluster.set_isr(2, "a", &[1, 2]);
    let wanted = [TopicPartition {
        topic: Arc::from("a"),
        partition: 0,
    }];
    assert_eq!(imbalanced_partitions(&cluster.image, 10), wanted);
    assert!(imbalanced_partitions(&cluster.image, 100).is_empty());
}
