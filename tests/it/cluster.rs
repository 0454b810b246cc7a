//! Three brokers: replication, failover, moves, both tiers.

use std::time::{Duration, Instant};

use kafka_protocol::messages as m;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use rdkafka::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use strandline_client::{ClientError, Connection};
use strandline_tests::{PartitionState, SharedTier, TestCluster, eventually};
use strandline_wire::batch::RecordToWrite;
use strandline_wire::compression::Compression;
use strandline_wire::special_timestamp::{EARLIEST, EARLIEST_LOCAL, LATEST};
use strandline_wire::{ApiKey, ErrorCode, StrBytes};

fn config(cluster: &TestCluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.bootstrap())
        .set("message.timeout.ms", "30000")
        .set("reconnect.backoff.ms", "20")
        .set("retry.backoff.ms", "20");
    config
}

/// Sends records `from..to` to partition 0 and waits for their acknowledgement by every in-sync replica.
pub(super) async fn send(cluster: &TestCluster, topic: &str, range: std::ops::Range<usize>) {
    let mut config = config(cluster);
    config.set("enable.idempotence", "true");
    let producer: FutureProducer = config.create().unwrap();
    let sends = range.map(|i| {
        let producer = producer.clone();
        async move {
            let value = format!("value-{i}");
            let record = FutureRecord::<(), _>::to(topic)
                .partition(0)
                .payload(&value);
            let sent = producer.send(record, Duration::from_secs(30)).await;
            sent.map_err(|(e, _)| e).unwrap();
        }
    });
    futures::future::join_all(sends).await;
}

/// All values of partition 0, in order.
pub(super) async fn read(cluster: &TestCluster, topic: &str) -> Vec<String> {
    let at = cluster.partition(topic, 0).await.unwrap().leader;
    let mut client = cluster.client(at).await;
    let mut offset = client.list_offset(topic, 0, EARLIEST).await.unwrap();
    let end = client.list_offset(topic, 0, LATEST).await.unwrap();
    let mut values = Vec::new();
    while offset < end {
        let records = client
            .fetch(topic, 0, offset, 1 << 20, Duration::from_secs(5))
            .await
            .unwrap();
        let last = records.last().expect("there is more");
        offset = last.offset + 1;
        let texts = records.iter().map(|r| r.value.clone().unwrap_or_default());
        values.extend(texts.map(|v| String::from_utf8(v.to_vec()).unwrap()));
    }
    values
}

pub(super) fn expected(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|i| format!("value-{i}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_survive_the_loss_of_each_leader_in_turn_and_come_once() {
    let mut cluster = TestCluster::start(3, &[("min.insync.replicas", "2")]).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &[]).await.unwrap();
    send(&cluster, "t", 0..100).await;
    for round in 1..=3 {
        let before = cluster
            .wait_for("t", "all replicas are in sync", |p| p.isr.len() == 3)
            .await;
        cluster.stop(before.leader).await;
        let after = cluster
            .wait_for("t", "another leads", |p| {
                p.leader >= 0 && p.leader != before.leader
            })
            .await;
        assert!(after.leader_epoch > before.leader_epoch);
        send(&cluster, "t", round * 100..(round + 1) * 100).await;
        cluster.resume(before.leader).await;
    }
    cluster
        .wait_for("t", "all replicas are in sync again", |p| p.isr.len() == 3)
        .await;
    assert_eq!(read(&cluster, "t").await, expected(0..400));
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_all_needs_min_insync_replicas_and_a_single_replica_acknowledges_nothing() {
    // The quorum is elsewhere: it goes on when two of three brokers are gone.
    let mut cluster = TestCluster::start_apart(3, &[("min.insync.replicas", "2")]).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &[]).await.unwrap();
    send(&cluster, "t", 0..10).await;
    let leader = cluster
        .wait_for("t", "all are in sync", |p| p.isr.len() == 3)
        .await
        .leader;
    let others: Vec<i32> = cluster.ids().into_iter().filter(|i| *i != leader).collect();
    // One may go: two are still in sync.
    cluster.stop(others[0]).await;
    cluster
        .wait_for("t", "the ISR shrinks", |p| p.isr.len() == 2)
        .await;
    send(&cluster, "t", 10..20).await;
    cluster.resume(others[0]).await;
    cluster
        .wait_for("t", "the ISR grows", |p| p.isr.len() == 3)
        .await;
    assert_eq!(read(&cluster, "t").await, expected(0..20));
    let leader = cluster
        .wait_for("t", "all are in sync", |p| p.isr.len() == 3)
        .await
        .leader;
    let others: Vec<i32> = cluster.ids().into_iter().filter(|i| *i != leader).collect();
    for id in &others {
        cluster.stop(*id).await;
    }
    cluster
        .wait_for("t", "a single replica is left", |p| p.isr == [leader])
        .await;
    let mut client = cluster.client(leader).await;
    let record = RecordToWrite {
        value: Some("alone".into()),
        ..RecordToWrite::default()
    };
    let alone = client.produce("t", 0, Compression::None, &[record]).await;
    assert!(
        matches!(
            &alone,
            Err(ClientError::Broker {
                code: ErrorCode::NotEnoughReplicas,
                ..
            })
        ),
        "{alone:?}"
    );
    assert_eq!(client.list_offset("t", 0, LATEST).await.unwrap(), 20);
    for id in &others {
        cluster.resume(*id).await;
    }
    send(&cluster, "t", 20..30).await;
    assert_eq!(read(&cluster, "t").await, expected(0..30));
    // More replicas than a topic can have in sync are never asked for: effective is the replication factor.
    client
        .create_topic("strict", 1, &[("min.insync.replicas", "9")])
        .await
        .unwrap();
    send(&cluster, "strict", 0..10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_a_quorum_does_not_disturb_producers_and_consumers() {
    let mut cluster = TestCluster::start_apart(3, &[("min.insync.replicas", "2")]).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let mut config = config(&cluster);
    config.set("enable.idempotence", "true");
    let producer: FutureProducer = config.create().unwrap();
    config.set("group.id", "g");
    config.set("auto.offset.reset", "earliest");
    let consumer: StreamConsumer = config.create().unwrap();
    consumer.subscribe(&["t"]).unwrap();
    let (mut sent, mut round_trips) = (0, Vec::new());
    // The first record finds the group, the second shows that the group continues.
    let mut down_since = None;
    while down_since.is_none_or(|since: Instant| since.elapsed() < Duration::from_secs(60)) {
        let began = Instant::now();
        let value = sent.to_string();
        let record = FutureRecord::<(), _>::to("t").partition(0).payload(&value);
        let written = producer.send(record, Duration::from_secs(30)).await;
        written.map_err(|(e, _)| e).unwrap();
        let read = tokio::time::timeout(Duration::from_secs(30), consumer.recv());
        let read = read.await.expect("a record comes").unwrap();
        assert_eq!(read.payload(), Some(value.as_bytes()));
        consumer.commit_message(&read, CommitMode::Sync).unwrap();
        sent += 1;
        if down_since.is_some() {
            round_trips.push(began.elapsed());
        } else if sent == 2 {
            for id in cluster.controllers() {
                cluster.stop(id).await;
            }
            down_since = Some(Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    round_trips.sort();
    let p99 = round_trips[round_trips.len() * 99 / 100];
    assert!(p99 < Duration::from_secs(3), "p99 {p99:?}");
    let longest = round_trips[round_trips.len() - 1];
    // Shorter than a session: no broker was fenced and no member expired.
    assert!(longest < Duration::from_secs(9), "waited for {longest:?}");
    // When the controllers are back, they decide again.
    let coming_back = cluster.controllers();
    cluster.resume_together(&coming_back).await;
    eventually("a topic is created", || async {
        let mut client = cluster.client(1).await;
        client.create_topic("later", 1, &[]).await.ok()
    })
    .await;
    assert_eq!(read(&cluster, "t").await.len(), sent);
}

/// The node that coordinates a group, as soon as there is one.
async fn coordinator(cluster: &TestCluster, group: &str) -> i32 {
    eventually("the group has a coordinator", || async {
        let mut connection = cluster.connection(cluster.any()).await;
        let key = StrBytes::from_string(group.to_owned());
        let request = m::FindCoordinatorRequest::default().with_key(key);
        let found: m::FindCoordinatorResponse = connection
            .call(ApiKey::FindCoordinator, 2, &request)
            .await
            .ok()?;
        (found.error_code == 0).then_some(found.node_id.0)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_go_on_under_another_coordinator() {
    let mut cluster = TestCluster::start(3, &[]).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &[]).await.unwrap();
    send(&cluster, "t", 0..50).await;
    let consume = |cluster: &TestCluster| -> StreamConsumer {
        let mut config = config(cluster);
        config
            .set("group.id", "g")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "6000");
        let consumer: StreamConsumer = config.create().unwrap();
        consumer.subscribe(&["t"]).unwrap();
        consumer
    };
    let mut values = Vec::new();
    let mut before = coordinator(&cluster, "g").await;
    for round in 0..3 {
        {
            let consumer = consume(&cluster);
            while values.len() < (round + 1) * 50 {
                let message = tokio::time::timeout(Duration::from_secs(40), consumer.recv()).await;
                let message = message.expect("a message comes").unwrap();
                values.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
            }
            eventually("the positions are committed", || async {
                consumer.commit_consumer_state(CommitMode::Sync).ok()
            })
            .await;
        }
        cluster.stop(before).await;
        let after = eventually("the group has another coordinator", || async {
            let after = coordinator(&cluster, "g").await;
            (after != before).then_some(after)
        })
        .await;
        send(&cluster, "t", (round + 1) * 50..(round + 2) * 50).await;
        cluster.resume(before).await;
        before = after;
    }
    assert_eq!(values, expected(0..150));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_and_its_preferred_leader_is_elected() {
    let cluster = TestCluster::start(4, &[("default.replication.factor", "2")]).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &[]).await.unwrap();
    send(&cluster, "t", 0..200).await;
    let before = cluster.partition("t", 0).await.unwrap();
    let target: Vec<i32> = cluster
        .ids()
        .into_iter()
        .filter(|id| !before.replicas.contains(id))
        .collect();
    let mut connection = cluster.connection(2).await;
    assert_eq!(reassign(&mut connection, Some(&target)).await, 0);
    let after = cluster
        .wait_for("t", "the move ends", |p| {
            p.replicas == target && p.isr.len() == 2 && target.contains(&p.leader)
        })
        .await;
    assert_eq!(read(&cluster, "t").await, expected(0..200));
    for old in before.replicas {
        let directory = cluster.path(old).join("log").join("t-0");
        eventually("the old replica's directory goes", || async {
            (!directory.exists()).then_some(())
        })
        .await;
    }
    let election = m::ElectLeadersRequest::default()
        .with_topic_partitions(Some(vec![
            TopicPartitions::default()
                .with_topic(m::TopicName(StrBytes::from_static_str("t")))
                .with_partitions(vec![0]),
        ]))
        .with_timeout_ms(10_000);
    let response: m::ElectLeadersResponse = connection
        .call(ApiKey::ElectLeaders, 2, &election)
        .await
        .unwrap();
    let code = response.replica_election_results[0].partition_result[0].error_code;
    let wanted = if after.leader == target[0] {
        ErrorCode::ElectionNotNeeded
    } else {
        ErrorCode::None
    };
    assert_eq!(code, wanted.code());
    let led = cluster
        .wait_for("t", "the preferred replica leads", |p| {
            p.leader == target[0]
        })
        .await;
    assert_eq!(led.replicas, target);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_are_created_while_their_leaders_come_up_are_followed_by_everybody() {
    let cluster = TestCluster::start(3, &[]).await;
    let mut client = cluster.client(1).await;
    for number in 0..60 {
        let name = format!("t{number}");
        client.create_topic(&name, 2, &[]).await.unwrap();
    }
    for number in 0..60 {
        let name = format!("t{number}");
        cluster
            .wait_for(&name, "all replicas are in sync", |p| p.isr.len() == 3)
            .await;
    }
}

/// Asks for other replicas of partition 0 of `t`, or calls a move off.
pub async fn reassign(connection: &mut Connection, target: Option<&[i32]>) -> i16 {
    let replicas = target.map(|ids| ids.iter().map(|id| m::BrokerId(*id)).collect());
    let partition = ReassignablePartition::default()
        .with_partition_index(0)
        .with_replicas(replicas);
    let topic = ReassignableTopic::default()
        .with_name(m::TopicName(StrBytes::from_static_str("t")))
        .with_partitions(vec![partition]);
    let request = m::AlterPartitionReassignmentsRequest::default()
        .with_timeout_ms(10_000)
        .with_topics(vec![topic]);
    let response: m::AlterPartitionReassignmentsResponse = connection
        .call(ApiKey::AlterPartitionReassignments, 0, &request)
        .await
        .unwrap();
    response.responses[0].partitions[0].error_code
}

/// Sets keys of a topic (2) or of brokers (4); an empty name is every broker.
pub(super) async fn set_configs(
    connection: &mut Connection,
    kind: i8,
    name: &str,
    keys: &[(&str, &str)],
) {
    let text = |value: &str| StrBytes::from_string(value.to_owned());
    let configs = keys.iter().map(|(key, value)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_value(Some(text(value)))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    let request = m::IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response: m::IncrementalAlterConfigsResponse = connection
        .call(ApiKey::IncrementalAlterConfigs, 1, &request)
        .await
        .unwrap();
    assert_eq!(response.responses[0].error_code, 0, "{response:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttled_move_is_slow_can_be_called_off_and_does_not_slow_replicas_in_sync() {
    const RATE: usize = 400_000;
    let cluster = TestCluster::start(4, &[("default.replication.factor", "2")]).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let leader = cluster.partition("t", 0).await.unwrap().leader;
    let values = crate::produce(&mut cluster.client(leader).await, "t", 600, 2000).await;
    let bytes: usize = values.iter().map(bytes::Bytes::len).sum();
    let before = cluster
        .wait_for("t", "both are in sync", |p| p.isr.len() == 2)
        .await;
    let others = cluster.ids().into_iter();
    let others: Vec<i32> = others.filter(|id| !before.replicas.contains(id)).collect();
    let mut connection = cluster.connection(2).await;
    let throttled = [
        ("leader.replication.throttled.replicas", "*"),
        ("follower.replication.throttled.replicas", "*"),
    ];
    let rate = RATE.to_string();
    let rates = [
        ("leader.replication.throttled.rate", rate.as_str()),
        ("follower.replication.throttled.rate", rate.as_str()),
    ];
    set_configs(&mut connection, 2, "t", &throttled).await;
    set_configs(&mut connection, 4, "", &rates).await;
    let began = Instant::now();
    assert_eq!(reassign(&mut connection, Some(&others)).await, 0);
    let under_way = |p: &PartitionState| p.replicas.len() == 4;
    cluster.wait_for("t", "the move begins", under_way).await;
    // Replicas that are in sync are as fast as ever.
    crate::produce(&mut cluster.client(leader).await, "t", 100, 2000).await;
    assert_eq!(reassign(&mut connection, None).await, 0);
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "nothing was held up"
    );
    let back = |p: &PartitionState| p.replicas == before.replicas;
    cluster.wait_for("t", "the move is called off", back).await;
    let nothing = ErrorCode::NoReassignmentInProgress.code();
    assert_eq!(reassign(&mut connection, None).await, nothing);
    for id in &others {
        let directory = cluster.path(*id).join("log").join("t-0");
        eventually("what had come goes", || async {
            (!directory.exists()).then_some(())
        })
        .await;
    }
    let began = Instant::now();
    assert_eq!(reassign(&mut connection, Some(&others)).await, 0);
    let done = |p: &PartitionState| p.replicas == others && p.isr.len() == 2;
    cluster.wait_for("t", "the move ends", done).await;
    // Two replicas came, each at no more than its own rate, the leader at no more than its: a burst of one second is free.
    let least = (2 * bytes) as f64 / RATE as f64 - 2.0;
    let took = began.elapsed().as_secs_f64();
    assert!(
        took > least,
        "{bytes} bytes twice within {took} s, at least {least}"
    );
    assert_eq!(
        crate::read_all(&mut cluster.client(others[0]).await, "t", 0)
            .await
            .len(),
        700
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_replica_takes_the_past_from_the_cold_tier_and_only_the_tail_from_its_leader() {
    let remote = SharedTier::default();
    let tiered = remote.properties(&[]);
    let mut cluster = TestCluster::start(3, &tiered).await;
    let mut client = cluster.client(1).await;
    let configs = [
        ("remote.storage.enable", "true"),
        ("internal.segment.bytes", "1000"),
        ("local.retention.bytes", "1"),
    ];
    client.create_topic("t", 1, &configs).await.unwrap();
    for i in 0..20 {
        send(&cluster, "t", i * 20..(i + 1) * 20).await;
    }
    let leader = cluster.partition("t", 0).await.unwrap().leader;
    let mut at = cluster.client(leader).await;
    eventually("the past is only in the cold tier", || async {
        let mut client = cluster.client(leader).await;
        let local = client.list_offset("t", 0, EARLIEST_LOCAL).await.ok()?;
        (local > 200).then_some(())
    })
    .await;
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    cluster.stop(follower).await;
    cluster.replace_disk(follower);
    cluster.resume(follower).await;
    cluster
        .wait_for("t", "the new disk is in sync", |p| {
            p.isr.contains(&follower)
        })
        .await;
    let local = at.list_offset("t", 0, EARLIEST_LOCAL).await.unwrap();
    let directory = cluster.path(follower).join("log").join("t-0");
    let oldest = std::fs::read_dir(directory)
        .unwrap()
        .filter_map(|e| e.unwrap().path().file_stem()?.to_str()?.parse::<i64>().ok())
        .min()
        .unwrap();
    assert!(oldest > 200 && oldest <= local, "{oldest} of {local}");
    // The new replica can lead: a client can read the whole log from it, and it knows a producer's last batches.
    for other in cluster.ids() {
        if other != follower && cluster.partition("t", 0).await.unwrap().leader != follower {
            let now = cluster.partition("t", 0).await.unwrap().leader;
            cluster.stop(now).await;
            cluster
                .wait_for("t", "another leads", |p| p.leader >= 0 && p.leader != now)
                .await;
            cluster.resume(now).await;
            cluster
                .wait_for("t", "all are in sync", |p| p.isr.len() == 3)
                .await;
        }
    }
    assert_eq!(read(&cluster, "t").await, expected(0..400));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_broker_answers_for_the_cluster_and_the_quorum_is_described_truly() {
    let mut cluster = TestCluster::start(3, &[]).await;
    for id in cluster.ids() {
        shows_brokers(&cluster, id, 3).await;
        let mut connection = cluster.connection(id).await;
        let partition = m::describe_quorum_request::PartitionData::default();
        let topic = m::describe_quorum_request::TopicData::default()
            .with_topic_name(m::TopicName(StrBytes::from_static_str(
                "__cluster_metadata",
            )))
            .with_partitions(vec![partition]);
        let request = m::DescribeQuorumRequest::default().with_topics(vec![topic]);
        let quorum: m::DescribeQuorumResponse = connection
            .call(ApiKey::DescribeQuorum, 1, &request)
            .await
            .unwrap();
        let described = &quorum.topics[0].partitions[0];
        assert_eq!(described.error_code, 0);
        assert_eq!(described.current_voters.len(), 3);
        assert!((1..=3).contains(&described.leader_id.0));
    }
    cluster.stop(3).await;
    shows_brokers(&cluster, 1, 2).await;
    cluster.resume(3).await;
    cluster.stop_all().await;
}

/// Waits until a broker's metadata have so many brokers.
async fn shows_brokers(cluster: &TestCluster, id: i32, count: usize) {
    eventually(&format!("broker {id} shows {count}"), || async {
        let mut connection = cluster.connection(id).await;
        let request = m::MetadataRequest::default().with_topics(None);
        let metadata: m::MetadataResponse =
            connection.call(ApiKey::Metadata, 12, &request).await.ok()?;
        (metadata.brokers.len() == count).then_some(())
    })
    .await;
}
