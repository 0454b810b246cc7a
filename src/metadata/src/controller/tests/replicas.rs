//! Changes of the ISR by leaders, and reassignments.

use super::*;

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
