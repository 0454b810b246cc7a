//! Replicas whose log directories fail, fill up, are taken away, come back or are replaced.

use super::tests::{Cluster, ids, topic};
use super::*;

fn offline(cluster: &Cluster, name: &str) -> Vec<BrokerId> {
    cluster.partition(name).offline_replicas.clone()
}

#[test]
fn who_lost_unflushed_records_or_the_disk_is_not_eligible() {
    let unflushed = [("flush.messages", "9223372036854775807")];
    let mut cluster = Cluster::new(2);
    cluster.create("u", &[1, 2], &unflushed);
    cluster.create("f", &[1, 2], &[]);
    // Both die at once; the registrations find them in the ISR still.
    cluster.register(1, &[1], false);
    cluster.register(2, &[2], false);
    assert_eq!(cluster.partition("f").eligible_leader_replicas, ids(&[2]));
    let u = cluster.partition("u");
    assert!(u.eligible_leader_replicas.is_empty() && u.isr.is_empty());
    assert_eq!(u.last_known_leader, Some(BrokerId(2)));
    cluster.unfence(1);
    assert_eq!(cluster.partition("u").leader, None);
    cluster.unfence(2);
    assert_eq!(cluster.partition("u").leader, Some(BrokerId(2)));
    assert!(cluster.partition("u").leader_recovering);
    assert_eq!(cluster.partition("f").leader, Some(BrokerId(2)));

    // Both die one after the other, and are missed before they come back.
    let mut cluster = Cluster::new(2);
    cluster.create("u", &[1, 2], &unflushed);
    cluster.fence(2);
    cluster.fence(1);
    let u = cluster.partition("u");
    assert_eq!((u.leader, u.last_known_leader), (None, Some(BrokerId(1))));
    cluster.start(2, &[2], false);
    assert_eq!(cluster.partition("u").leader, None, "it may miss records");
    cluster.start(1, &[1], false);
    let u = cluster.partition("u");
    assert_eq!((u.leader, u.last_known_leader), (Some(BrokerId(1)), None));

    let mut cluster = Cluster::new(2);
    cluster.create("f", &[1], &[]);
    cluster.start(1, &[77], true);
    let f = cluster.partition("f");
    assert_eq!(
        (f.leader, f.last_known_leader),
        (None, None),
        "another disk is empty"
    );
    assert!(cluster.elect(ElectionKind::Unclean, "f").is_ok());
}

#[test]
fn a_failed_directory_takes_only_its_own_replicas_offline() {
    let mut cluster = Cluster::new(2);
    cluster.create("bad", &[1, 2], &[]);
    cluster.create("good", &[1, 2], &[]);
    let failed = Command::ReplicasFailed {
        id: BrokerId(1),
        epoch: cluster.epoch(1),
        partitions: vec![cluster.tp("bad")],
    };
    cluster.run(failed).unwrap();
    assert_eq!(cluster.partition("bad").leader, Some(BrokerId(2)));
    assert_eq!(cluster.partition("good").leader, Some(BrokerId(1)));
    let back = cluster.isr_change("bad", &[2, 1]);
    assert!(cluster.alter(2, back).is_err());
    cluster.start(1, &[1], false);
    cluster.set_isr(2, "bad", &[2, 1]);
}

#[test]
fn a_full_replica_steps_aside_for_one_in_sync_and_comes_back() {
    let mut cluster = Cluster::new(3);
    cluster.create("t", &[1, 2, 3], &[("min.insync.replicas", "2")]);
    let full = |cluster: &mut Cluster, id: i32| {
        let (epoch, partitions) = (cluster.epoch(id), vec![cluster.tp("t")]);
        let id = BrokerId(id);
        cluster
            .run(Command::ReplicasFull {
                id,
                epoch,
                partitions,
            })
            .unwrap();
    };
    let usable = |cluster: &mut Cluster, id: i32| {
        let (epoch, partitions) = (cluster.epoch(id), vec![cluster.tp("t")]);
        let id = BrokerId(id);
        cluster
            .run(Command::ReplicasUsable {
                id,
                epoch,
                partitions,
            })
            .unwrap();
    };
    // A follower, then the leader.
    full(&mut cluster, 3);
    let p = cluster.partition("t");
    assert_eq!((p.leader, &p.isr), (Some(BrokerId(1)), &ids(&[1, 2])));
    full(&mut cluster, 1);
    let p = cluster.partition("t");
    assert_eq!((p.leader, &p.isr), (Some(BrokerId(2)), &ids(&[2])));
    assert_eq!(
        p.eligible_leader_replicas,
        ids(&[1]),
        "it has every committed record"
    );
    // The last one stays, and a full one joins nothing.
    full(&mut cluster, 2);
    assert_eq!(cluster.partition("t").leader, Some(BrokerId(2)));
    assert_eq!(offline(&cluster, "t"), ids(&[3, 1]));
    let back = cluster.isr_change("t", &[2, 1]);
    assert_eq!(
        cluster.alter(2, back),
        Err(Refusal::IneligibleReplica(BrokerId(1)))
    );
    usable(&mut cluster, 1);
    cluster.set_isr(2, "t", &[2, 1]);
    // Where nobody else leads, a full replica may.
    cluster.set_isr(2, "t", &[2]);
    cluster.fence(2);
    assert_eq!(cluster.partition("t").leader, Some(BrokerId(1)));
    cluster.fence(1);
    assert_eq!(cluster.partition("t").leader, None);
    usable(&mut cluster, 3);
    assert_eq!(
        cluster.partition("t").leader,
        None,
        "it left the ISR before the last records"
    );
}

#[test]
fn a_directory_that_is_taken_away_takes_what_lay_in_it_and_brings_it_back() {
    for (name, without) in [("one replica", &[10][..]), ("an empty one", &[10, 11][..])] {
        let mut cluster = Cluster::new(2);
        cluster.start_with(1, &[10, 11, 12], None);
        for partition in ["a", "b", "c"] {
            cluster.create(partition, &[1], &[]);
        }
        cluster.create("shared", &[1, 2], &[]);
        let found: &[&str] = if without.len() == 1 {
            &["a", "shared"]
        } else {
            &["a", "b", "c", "shared"]
        };
        // Also when the broker starts twice without it.
        for _ in 0..2 {
            cluster.start_with(1, without, Some(found));
            for partition in ["a", "b", "c"] {
                let here = found.contains(&partition);
                let leader = cluster.partition(partition).leader;
                assert_eq!(leader, here.then_some(BrokerId(1)), "{name}: {partition}");
                assert_eq!(
                    offline(&cluster, partition),
                    if here { ids(&[]) } else { ids(&[1]) }
                );
            }
            assert!(offline(&cluster, "shared").is_empty());
        }
        cluster.start_with(1, &[10, 11, 12], Some(&["a", "b", "c", "shared"]));
        for partition in ["a", "b", "c"] {
            assert_eq!(
                cluster.partition(partition).leader,
                Some(BrokerId(1)),
                "{name}"
            );
            assert!(offline(&cluster, partition).is_empty());
        }
    }
}

#[test]
fn a_replica_that_nobody_relies_on_is_made_anew_without_its_directory() {
    let mut cluster = Cluster::new(2);
    cluster.start_with(1, &[10, 11], None);
    cluster.create("t", &[2, 1], &[]);
    cluster.set_isr(2, "t", &[2]);
    cluster.start_with(1, &[10], Some(&[]));
    assert!(offline(&cluster, "t").is_empty());
}

#[test]
fn a_replaced_directory_loses_what_lay_in_it_and_nothing_else() {
    let mut cluster = Cluster::new(3);
    cluster.start_with(1, &[10, 11], None);
    for name in ["kept", "lost"] {
        cluster.create(name, &[1], &[]);
    }
    cluster.start_with(1, &[10, 99], Some(&["kept"]));
    assert_eq!(cluster.partition("kept").leader, Some(BrokerId(1)));
    assert_eq!(cluster.partition("lost").leader, None);
    // The old directory, in its place again: the records are all there is.
    cluster.start_with(1, &[10, 11], Some(&["kept", "lost"]));
    assert_eq!(cluster.partition("lost").leader, Some(BrokerId(1)));
}

#[test]
fn an_unclean_election_takes_those_that_lost_everything_last() {
    for unclean in ["true", "false"] {
        let mut cluster = Cluster::new(3);
        cluster.create(
            "t",
            &[1, 2, 3],
            &[("unclean.leader.election.enable", unclean)],
        );
        // 2 and 3 fall behind, the disk of 1 is replaced, and all were down.
        cluster.set_isr(1, "t", &[1]);
        for id in [1, 2, 3] {
            cluster.fence(id);
        }
        cluster.start_with(1, &[99], Some(&[]));
        if unclean == "false" {
            assert_eq!(cluster.partition("t").leader, None);
            cluster.start_with(2, &[2], Some(&["t"]));
            cluster.elect(ElectionKind::Unclean, "t").unwrap();
        } else {
            // Alone, the empty one leads where the topic allows it.
            assert_eq!(cluster.partition("t").leader, Some(BrokerId(1)));
            continue;
        }
        assert_eq!(cluster.partition("t").leader, Some(BrokerId(2)));
        assert_eq!(cluster.image.lost_replicas(cluster.tp("t")), ids(&[1]));
        // In sync again, it has everything.
        cluster.recover(2, "t");
        cluster.set_isr(2, "t", &[2, 1]);
        assert!(cluster.image.lost_replicas(cluster.tp("t")).is_empty());
    }
}

#[test]
fn each_topic_is_striped_over_all_brokers_whatever_they_have_already() {
    let mut cluster = Cluster::new(6);
    // Two brokers have much more than the others.
    for (at, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        cluster.create(name, if at % 2 == 0 { &[1, 2] } else { &[2, 1] }, &[]);
    }
    let new = NewTopic {
        replication_factor: 2,
        ..topic("striped", 24)
    };
    cluster.run(Command::CreateTopic(new)).unwrap();
    let count = |cluster: &Cluster, first_only: bool| {
        let mut counts: BTreeMap<BrokerId, usize> = BTreeMap::new();
        let topic = cluster.image.topic("striped").unwrap();
        for p in topic.partitions.values() {
            let take = if first_only { 1 } else { p.replicas.len() };
            for replica in p.replicas.iter().take(take) {
                *counts.entry(*replica).or_default() += 1;
            }
        }
        counts.into_values().collect::<Vec<_>>()
    };
    assert_eq!(count(&cluster, true), [4; 6]);
    let grow = Command::CreatePartitions {
        topic: "striped".into(),
        count: 30,
        assignments: None,
    };
    cluster.run(grow).unwrap();
    assert_eq!(count(&cluster, true), [5; 6]);
    assert_eq!(count(&cluster, false), [10; 6]);
}
