//! A stop that clients try to delay: every request that can be answered is answered, the broker ends in time, and the
//! next start has nothing to recover.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages as m;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use strandline_client::{Channel, Connection};
use strandline_tests::{TestBroker, eventually, frame, topic_name};
use strandline_wire::batch::{BatchBuilder, RecordToWrite};
use strandline_wire::compression::Compression;
use strandline_wire::special_timestamp::LATEST;
use strandline_wire::{ApiKey, ErrorCode, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::{produce, read_all};

/// Far below every deadline of the clients here, and above what a busy machine needs.
const STOP: Duration = Duration::from_secs(10);
/// The wait of a long poll, and the times of a group: none may delay the stop.
const LONG_MS: i32 = 1_800_000;

/// Stops the broker; panics if that takes too long or leaves a log directory that has to be checked.
async fn stop(broker: &mut TestBroker) {
    let began = Instant::now();
    let stopped = tokio::time::timeout(STOP, broker.stop()).await;
    assert!(
        stopped.is_ok(),
        "still not stopped after {:?}",
        began.elapsed()
    );
    let marker = broker.path().join("log/.kafka_cleanshutdown");
    assert!(marker.exists(), "the logs are not marked clean");
}

fn fetch(topic: &str, offset: i64, min_bytes: i32) -> m::FetchRequest {
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![partition]);
    m::FetchRequest::default()
        .with_max_wait_ms(i32::MAX)
        .with_min_bytes(min_bytes)
        .with_max_bytes(50 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// A fetch that waits for records which never come, and behind it on the same connection a batch for `probe`. Requests are
/// begun in order, so the fetch waits once that batch is in its log.
async fn long_poll(
    broker: &TestBroker,
    offset: i64,
) -> JoinHandle<(m::FetchResponse, m::ProduceResponse)> {
    let channel = Channel::open(&broker.address(), "poll").await.unwrap();
    let polled = channel.begin(&fetch("t", offset, i32::MAX), 11).await;
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(&RecordToWrite::default());
    let batch = PartitionProduceData::default().with_records(Some(batch.build()));
    let topic = TopicProduceData::default()
        .with_name(topic_name("probe"))
        .with_partition_data(vec![batch]);
    let request = m::ProduceRequest::default()
        .with_acks(1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    let mut client = broker.client().await;
    let before = client.list_offset("probe", 0, LATEST).await.unwrap();
    let produced = channel.begin(&request, 9).await;
    let client = tokio::sync::Mutex::new(client);
    eventually("the batch behind the fetch is in its log", || async {
        let end = client.lock().await.list_offset("probe", 0, LATEST).await;
        (end.ok()? > before).then_some(())
    })
    .await;
    tokio::spawn(async move {
        let answers = (
            polled.unwrap().await.unwrap(),
            produced.unwrap().await.unwrap(),
        );
        drop(channel);
        answers
    })
}

fn join(address: String, group: &'static str) -> JoinHandle<m::JoinGroupResponse> {
    tokio::spawn(async move {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str("range"))
            .with_metadata(Bytes::from_static(b"\0"));
        let request = m::JoinGroupRequest::default()
            .with_group_id(m::GroupId(StrBytes::from_static_str(group)))
            .with_session_timeout_ms(LONG_MS)
            .with_rebalance_timeout_ms(LONG_MS)
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol]);
        let mut connection = Connection::open(&address).await.unwrap();
        connection
            .call(ApiKey::JoinGroup, 3, &request)
            .await
            .unwrap()
    })
}

/// The groups as their coordinators describe them, if all of the coordinators are there.
async fn described(address: &str, groups: [&'static str; 2]) -> Option<m::DescribeGroupsResponse> {
    let mut connection = Connection::open(address).await.ok()?;
    for group in groups {
        // The first request creates the topic of the groups.
        let key = StrBytes::from_static_str(group);
        let request = m::FindCoordinatorRequest::default().with_key(key);
        let found: m::FindCoordinatorResponse = connection
            .call(ApiKey::FindCoordinator, 2, &request)
            .await
            .ok()?;
        (found.error_code == 0).then_some(())?;
    }
    let groups = groups.map(|g| m::GroupId(StrBytes::from_static_str(g)));
    let request = m::DescribeGroupsRequest::default().with_groups(groups.to_vec());
    let described: m::DescribeGroupsResponse = connection
        .call(ApiKey::DescribeGroups, 1, &request)
        .await
        .ok()?;
    let loaded = described.groups.iter().all(|g| g.error_code == 0);
    loaded.then_some(described)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_is_answered_with_what_there_is() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let values = produce(&mut client, "t", 20, 100).await;
    client.create_topic("probe", 1, &[]).await.unwrap();
    let some = long_poll(&broker, 10).await;
    let none = long_poll(&broker, 20).await;
    assert!(!some.is_finished() && !none.is_finished());
    stop(&mut broker).await;
    let (some, none) = (some.await.unwrap(), none.await.unwrap());
    for ((answer, produced), records) in [(some, true), (none, false)] {
        let appended = &produced.responses[0].partition_responses[0];
        assert_eq!(appended.error_code, 0);
        assert_eq!(answer.error_code, 0);
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        let found = partition.records.as_ref().is_some_and(|r| !r.is_empty());
        assert_eq!(found, records);
    }
    broker.resume().await;
    assert_eq!(read_all(&mut broker.client().await, "t", 0).await, values);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_wait_for_each_other_are_sent_to_another_coordinator() {
    let mut broker = TestBroker::start(&[("group.initial.rebalance.delay.ms", "1700000")]).await;
    let address = broker.address();
    let groups = || described(&address, ["g", "h"]);
    eventually("the coordinators are there", groups).await;
    let joining = [
        join(address.clone(), "g"),
        join(address.clone(), "g"),
        join(address.clone(), "h"),
    ];
    eventually("all have begun to join", || async {
        let members = groups().await?.groups.into_iter().map(|g| g.members.len());
        (members.sum::<usize>() == 3).then_some(())
    })
    .await;
    stop(&mut broker).await;
    for joined in joining {
        let answer = joined.await.unwrap();
        assert_eq!(answer.error_code, ErrorCode::NotCoordinator.code());
    }
    broker.resume().await;
    broker.stop().await;
}

/// A frame with its length.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_or_say_nothing_hold_no_stop() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let values = produce(&mut client, "t", 300, 100_000).await;
    // More answers than the sockets' buffers take, and a client that does not read them.
    let mut deaf = TcpStream::connect(broker.address()).await.unwrap();
    for _ in 0..10 {
        let request = frame(ApiKey::Fetch, 11, &fetch("t", 0, 1));
        deaf.write_all(&request).await.unwrap();
    }
    let _idle = TcpStream::connect(broker.address()).await.unwrap();
    let mut half = TcpStream::connect(broker.address()).await.unwrap();
    half.write_all(&[0, 0, 1, 0, 0]).await.unwrap();
    let mut half_http = TcpStream::connect(broker.http_address()).await.unwrap();
    half_http
        .write_all(b"GET /metrics HTTP/1.1\r\n")
        .await
        .unwrap();
    // One whole answer shows that the deaf client's requests are being answered.
    let mut first = [0; 4];
    deaf.read_exact(&mut first).await.unwrap();
    stop(&mut broker).await;
    broker.resume().await;
    assert_eq!(read_all(&mut broker.client().await, "t", 0).await, values);
}
