//! Leaders, the ISR, and brokers that come and go.

use super::*;

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
