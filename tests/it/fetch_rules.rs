//! The guarantees of Fetch: sessions, leader epochs, whole batches, reads near the client.

use std::time::Duration;

use kafka_protocol::messages as m;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use strandline_client::Connection;
use strandline_tests::{TestBroker, TestCluster, eventually};
use strandline_wire::special_timestamp::LATEST;
use strandline_wire::{ApiKey, ErrorCode, StrBytes};

use crate::produce;

const VERSION: i16 = 12;

/// A request for partitions of topic `t`: number, offset, leader epoch.
fn request(session: (i32, i32), wanted: &[(i32, i64, i32)]) -> m::FetchRequest {
    let partitions = wanted.iter().map(|(number, offset, epoch)| {
        FetchPartition::default()
            .with_partition(*number)
            .with_fetch_offset(*offset)
            .with_current_leader_epoch(*epoch)
            .with_partition_max_bytes(1 << 20)
    });
    let topic = FetchTopic::default()
        .with_topic(m::TopicName(StrBytes::from_static_str("t")))
        .with_partitions(partitions.collect());
    m::FetchRequest::default()
        .with_replica_id(m::BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_id(session.0)
        .with_session_epoch(session.1)
        .with_topics(if wanted.is_empty() {
            Vec::new()
        } else {
            vec![topic]
        })
}

async fn fetch(connection: &mut Connection, request: &m::FetchRequest) -> m::FetchResponse {
    connection
        .call(ApiKey::Fetch, VERSION, request)
        .await
        .unwrap()
}

/// Partition numbers in an answer.
fn answered(response: &m::FetchResponse) -> Vec<i32> {
    let partitions = response.responses.iter().flat_map(|t| &t.partitions);
    partitions.map(|p| p.partition_index).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_session_answers_what_has_changed_and_refuses_what_it_does_not_know() {
    let broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 3, &[]).await.unwrap();
    produce(&mut client, "t", 10, 50).await;
    let mut connection = Connection::open(&broker.address()).await.unwrap();

    let all = [(0, 0, -1), (1, 0, -1), (2, 0, -1)];
    let first = fetch(&mut connection, &request((0, 0), &all)).await;
    assert_eq!(answered(&first), [0, 1, 2], "all of a new session");
    let id = first.session_id;
    assert!(id > 0);
    // The client has not acknowledged the records of partition 0, so they come again; the empty partitions do not.
    let second = fetch(&mut connection, &request((id, 1), &[])).await;
    assert_eq!((second.session_id, answered(&second)), (id, vec![0]));
    let third = fetch(&mut connection, &request((id, 2), &[(0, 10, -1)])).await;
    assert_eq!(answered(&third), [0; 0], "nothing is new");
    produce(&mut client, "t", 10, 50).await;
    let fourth = fetch(&mut connection, &request((id, 3), &[])).await;
    assert_eq!(answered(&fourth), [0]);
    let forgotten = ForgottenTopic::default()
        .with_topic(m::TopicName(StrBytes::from_static_str("t")))
        .with_partitions(vec![0]);
    let forget = request((id, 4), &[]).with_forgotten_topics_data(vec![forgotten]);
    assert_eq!(answered(&fetch(&mut connection, &forget).await), [0; 0]);

    let wrong_epoch = fetch(&mut connection, &request((id, 9), &[])).await;
    assert_eq!(
        wrong_epoch.error_code,
        ErrorCode::InvalidFetchSessionEpoch.code()
    );
    let unknown = fetch(&mut connection, &request((id ^ 1, 1), &[])).await;
    assert_eq!(unknown.error_code, ErrorCode::FetchSessionIdNotFound.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_of_a_session_wakes_for_the_partition_that_has_news() {
    let broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 50, &[]).await.unwrap();
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    let all: Vec<_> = (0..50).map(|number| (number, 0, -1)).collect();
    let id = fetch(&mut connection, &request((0, 0), &all))
        .await
        .session_id;
    let wait = request((id, 1), &[]).with_max_wait_ms(30_000);
    let began = std::time::Instant::now();
    let (answer, _) = tokio::join!(
        fetch(&mut connection, &wait),
        produce(&mut client, "t", 1, 50)
    );
    assert_eq!(answered(&answer), [0]);
    assert!(began.elapsed() < Duration::from_secs(10), "it was woken");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_batch_comes_whole_whatever_the_limits_say() {
    let broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    produce(&mut client, "t", 10, 5000).await;
    for max_bytes in [0, 1, 100] {
        let wait = Duration::from_millis(100);
        let records = client.fetch("t", 0, 0, max_bytes, wait).await.unwrap();
        assert_eq!(records.len(), 10, "max_bytes {max_bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_leader_epoch_is_fenced_and_a_newer_one_is_unknown() {
    let mut cluster = TestCluster::start(3, &[("min.insync.replicas", "2")]).await;
    cluster
        .client(1)
        .await
        .create_topic("t", 1, &[])
        .await
        .unwrap();
    let before = cluster
        .wait_for("t", "all are in sync", |p| p.isr.len() == 3)
        .await;
    produce(&mut cluster.client(before.leader).await, "t", 10, 50).await;
    cluster.stop(before.leader).await;
    let now = cluster
        .wait_for("t", "another leads", |p| {
            p.leader >= 0 && p.leader != before.leader
        })
        .await;
    // A new leader does not tell the end of its log before the others have confirmed it (KIP-207).
    eventually("the new leader knows the end", || async {
        let mut client = cluster.client(now.leader).await;
        client.list_offset("t", 0, LATEST).await.ok()
    })
    .await;
    let mut connection = cluster.connection(now.leader).await;
    let fenced = ErrorCode::FencedLeaderEpoch.code();
    let unknown = ErrorCode::UnknownLeaderEpoch.code();
    for (epoch, code) in [
        (now.leader_epoch, 0),
        (before.leader_epoch, fenced),
        (now.leader_epoch + 1, unknown),
    ] {
        let fetched = fetch(&mut connection, &request((0, -1), &[(0, 0, epoch)])).await;
        assert_eq!(fetched.responses[0].partitions[0].error_code, code, "Fetch");
        let wanted = ListOffsetsPartition::default()
            .with_current_leader_epoch(epoch)
            .with_timestamp(LATEST);
        let topic = ListOffsetsTopic::default()
            .with_name(m::TopicName(StrBytes::from_static_str("t")))
            .with_partitions(vec![wanted]);
        let list = m::ListOffsetsRequest::default()
            .with_replica_id(m::BrokerId(-1))
            .with_topics(vec![topic]);
        let listed: m::ListOffsetsResponse = connection
            .call(ApiKey::ListOffsets, 8, &list)
            .await
            .unwrap();
        let found = listed.topics[0].partitions[0].error_code;
        assert_eq!(found, code, "ListOffsets");
        let wanted = OffsetForLeaderPartition::default()
            .with_current_leader_epoch(epoch)
            .with_leader_epoch(before.leader_epoch);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(m::TopicName(StrBytes::from_static_str("t")))
            .with_partitions(vec![wanted]);
        let ask = m::OffsetForLeaderEpochRequest::default()
            .with_replica_id(m::BrokerId(-1))
            .with_topics(vec![topic]);
        let told: m::OffsetForLeaderEpochResponse = connection
            .call(ApiKey::OffsetForLeaderEpoch, 4, &ask)
            .await
            .unwrap();
        let told = &told.topics[0].partitions[0];
        assert_eq!(told.error_code, code, "OffsetForLeaderEpoch");
        if code == 0 {
            assert_eq!(told.end_offset, 10, "where the epoch before ended");
        }
    }
    // Offsets that are committed, and the one behind them, are no error; anything else is out of range.
    for (offset, code) in [(10, 0), (11, ErrorCode::OffsetOutOfRange.code())] {
        let fetched = fetch(&mut connection, &request((0, -1), &[(0, offset, -1)])).await;
        assert_eq!(fetched.responses[0].partitions[0].error_code, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_reads_from_the_replica_in_its_rack() {
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let cluster = TestCluster::start_in_racks(3, &[("replica.selector.class", selector)]).await;
    cluster
        .client(1)
        .await
        .create_topic("t", 1, &[])
        .await
        .unwrap();
    let state = cluster
        .wait_for("t", "all are in sync", |p| p.isr.len() == 3)
        .await;
    produce(&mut cluster.client(state.leader).await, "t", 10, 50).await;
    let near = *state.isr.iter().find(|id| **id != state.leader).unwrap();
    let rack = StrBytes::from_string(format!("rack{near}"));
    let wanted = request((0, -1), &[(0, 0, -1)]).with_rack_id(rack.clone());
    let mut leader = cluster.connection(state.leader).await;
    let told = fetch(&mut leader, &wanted).await;
    let told = &told.responses[0].partitions[0];
    assert_eq!(told.preferred_read_replica.0, near);
    assert!(told.records.as_ref().is_none_or(bytes::Bytes::is_empty));
    eventually(
        "the follower serves what it knows to be committed",
        || async {
            let mut follower = cluster.connection(near).await;
            let read = fetch(&mut follower, &wanted).await;
            let read = &read.responses[0].partitions[0];
            assert_eq!(read.error_code, 0);
            (read.high_watermark == 10).then_some(())
        },
    )
    .await;
}
