//! Topics and their settings.

use super::*;

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
