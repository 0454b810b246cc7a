//! Memory follows the configuration, not what clients ask for (`docs/LIMITS.md`); everybody is served.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages as m;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::protocol::Decodable;
use strandline_client::Connection;
use strandline_tests::{TestBroker, eventually, frame, produce_of, topic_name, unlimited_fetch};
use strandline_wire::batch::RecordToWrite;
use strandline_wire::compression::Compression;
use strandline_wire::special_timestamp::LATEST;
use strandline_wire::{ApiKey, ErrorCode, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{produce, read_all};

const MIB: usize = 1 << 20;

/// A gauge of the broker's memory, in bytes.
async fn memory(broker: &TestBroker, metric: &str, kind: &str) -> usize {
    let page = broker.http_get("/metrics").await;
    let prefix = format!("{metric}{{kind=\"{kind}\"}} ");
    let value = page.lines().find_map(|line| line.strip_prefix(&prefix));
    let value = value.unwrap_or_else(|| panic!("no {prefix} in {page}"));
    value.parse().unwrap()
}

async fn used(broker: &TestBroker, kind: &str) -> usize {
    memory(broker, "strandline_memory_bytes", kind).await
}

fn records(answer: &m::FetchResponse) -> usize {
    let partitions = answer.responses.iter().flat_map(|t| &t.partitions);
    partitions
        .map(|p| {
            assert_eq!(p.error_code, 0);
            p.records.as_ref().map_or(0, Bytes::len)
        })
        .sum()
}

/// Reads one answer and drops its size and its correlation id.
async fn read_answer(stream: &mut TcpStream) -> Bytes {
    let length = stream.read_u32().await.unwrap() as usize;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await.unwrap();
    Bytes::from(answer).slice(4..)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_stays_within_fetch_max_bytes() {
    let mut broker = TestBroker::start(&[("fetch.max.bytes", "1048576")]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let values = produce(&mut client, "t", 300, 20_000).await;
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    let answer: m::FetchResponse = connection
        .call(ApiKey::Fetch, 11, &unlimited_fetch("t", 0))
        .await
        .unwrap();
    let bytes = records(&answer);
    assert!((MIB / 2..=MIB).contains(&bytes), "{bytes} bytes of records");
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_leave_memory_for_those_that_do() {
    let limit = ("strandline.queued.max.response.bytes", "4194304");
    let mut broker = TestBroker::start(&[limit]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let values = produce(&mut client, "t", 1500, 20_000).await;
    let mut deaf = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(broker.address()).await.unwrap();
        let request = frame(ApiKey::Fetch, 11, &unlimited_fetch("t", 0));
        // The answers behind the first ones find the socket full.
        for _ in 0..16 {
            stream.write_all(&request).await.unwrap();
        }
        deaf.push(stream);
    }
    eventually("answers hold memory", || async {
        (used(&broker, "answers").await > 0).then_some(())
    })
    .await;
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    assert!(used(&broker, "answers").await <= 4 * MIB);
    drop(deaf);
    eventually("the memory is free again", || async {
        (used(&broker, "answers").await == 0).then_some(())
    })
    .await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_requests_wait_for_memory_and_small_ones_do_not() {
    const PRODUCERS: usize = 10;
    // Three quarters are for requests above a mebibyte: one of those here at a time.
    let mut broker = TestBroker::start(&[("queued.max.request.bytes", "4194304")]).await;
    let mut client = broker.client().await;
    let configs = [("max.message.bytes", "4000000")];
    client.create_topic("t", 1, &configs).await.unwrap();
    let request = frame(ApiKey::Produce, 8, &produce_of("t", 2 * MIB));
    let (first, rest) = request.split_at(MIB);
    let mut streams = Vec::new();
    for _ in 0..PRODUCERS {
        let mut stream = TcpStream::connect(broker.address()).await.unwrap();
        stream.write_all(&first[..4]).await.unwrap();
        streams.push(stream);
    }
    // The first one has its memory; the others wait, with all their bytes in their sockets.
    let held = eventually("a request has its memory", || async {
        let held = used(&broker, "requests").await;
        (held > 2 * MIB).then_some(held)
    })
    .await;
    assert!(held <= 3 * MIB, "{held} bytes");
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    let _: m::ApiVersionsResponse = connection
        .call(ApiKey::ApiVersions, 2, &m::ApiVersionsRequest::default())
        .await
        .unwrap();
    client
        .produce("t", 0, Compression::None, &[RecordToWrite::default()])
        .await
        .unwrap();
    let sending = streams.into_iter().map(|mut stream| {
        let (first, rest) = (first.to_vec(), rest.to_vec());
        tokio::spawn(async move {
            stream.write_all(&first[4..]).await.unwrap();
            stream.write_all(&rest).await.unwrap();
            let mut answer = read_answer(&mut stream).await;
            let answer = m::ProduceResponse::decode(&mut answer, 8).unwrap();
            let partition = &answer.responses[0].partition_responses[0];
            assert_eq!(partition.error_code, 0);
            partition.base_offset
        })
    });
    let mut offsets = Vec::new();
    for sent in sending.collect::<Vec<_>>() {
        offsets.push(sent.await.unwrap());
        assert!(used(&broker, "requests").await <= 4 * MIB);
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (1..=PRODUCERS as i64).collect::<Vec<_>>());
    let end = client.list_offset("t", 0, LATEST).await.unwrap();
    assert_eq!(end, 1 + PRODUCERS as i64);
    // Connections that wait for their next request hold nothing.
    eventually("the memory is free again", || async {
        (used(&broker, "requests").await == 0).then_some(())
    })
    .await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_a_request_does_not_keep_the_request() {
    let mut broker = TestBroker::start(&[]).await;
    let address = broker.address();
    broker
        .client()
        .await
        .create_topic("t", 1, &[])
        .await
        .unwrap();
    let mut connection = Connection::open(&address).await.unwrap();
    let key = StrBytes::from_static_str("g");
    eventually("the coordinator is there", || async {
        let request = m::FindCoordinatorRequest::default().with_key(key.clone());
        let mut connection = Connection::open(&address).await.unwrap();
        let found: m::FindCoordinatorResponse = connection
            .call(ApiKey::FindCoordinator, 2, &request)
            .await
            .unwrap();
        (found.error_code == 0).then_some(())
    })
    .await;
    // A member of a group, and a session that names its topic, from requests of hundreds of kilobytes.
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(StrBytes::from_static_str("range"))
        .with_metadata(vec![0; 300_000].into());
    let join = m::JoinGroupRequest::default()
        .with_group_id(m::GroupId(key))
        .with_session_timeout_ms(300_000)
        .with_rebalance_timeout_ms(300_000)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol]);
    let joined = eventually("the member has joined", || async {
        let mut connection = Connection::open(&address).await.unwrap();
        let joined: m::JoinGroupResponse =
            connection.call(ApiKey::JoinGroup, 3, &join).await.unwrap();
        (joined.error_code == 0).then_some(joined)
    })
    .await;
    assert_eq!(joined.members[0].metadata.len(), 300_000);
    // A second member waits for the first one, which does not come back.
    let mut waiting = TcpStream::connect(&address).await.unwrap();
    waiting
        .write_all(&frame(ApiKey::JoinGroup, 3, &join))
        .await
        .unwrap();
    // So does a fetch that names thousands of partitions.
    let mut polling = TcpStream::connect(&address).await.unwrap();
    let mut poll = unlimited_fetch("t", 0).with_max_wait_ms(1_800_000);
    let first = poll.topics[0].partitions[0].clone();
    poll.topics[0].partitions = vec![first; 20_000];
    polling
        .write_all(&frame(ApiKey::Fetch, 11, &poll))
        .await
        .unwrap();
    let mut session = unlimited_fetch("t", 0)
        .with_session_epoch(0)
        .with_max_wait_ms(0)
        .with_min_bytes(0);
    let first = session.topics[0].partitions[0].clone();
    session.topics[0].partitions = (0..5_000)
        .map(|p| first.clone().with_partition(p))
        .collect();
    let begun: m::FetchResponse = connection.call(ApiKey::Fetch, 11, &session).await.unwrap();
    assert!(begun.session_id > 0);
    eventually("all of these requests are gone", || async {
        (used(&broker, "requests").await == 0).then_some(())
    })
    .await;
    assert!(used(&broker, "fetch-sessions").await > 1_000_000);
    for stream in [&mut waiting, &mut polling] {
        let early = tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await;
        assert!(early.is_err(), "the request does not wait");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_waits_for_more_bytes_holds_no_records() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let mut values = produce(&mut client, "t", 10, 100_000).await;
    let waiting = unlimited_fetch("t", 0)
        .with_min_bytes(1_500_000)
        .with_max_wait_ms(1_800_000);
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    let request = frame(ApiKey::Fetch, 11, &waiting);
    stream.write_all(&request).await.unwrap();
    // A megabyte is there, too little: the fetch waits without it.
    let early = tokio::time::timeout(Duration::from_millis(300), stream.read_u8()).await;
    assert!(early.is_err(), "the answer came too early");
    assert_eq!(used(&broker, "answers").await, 0);
    values.extend(produce(&mut client, "t", 10, 100_000).await);
    let mut answer = read_answer(&mut stream).await;
    let answer = m::FetchResponse::decode(&mut answer, 11).unwrap();
    assert!(records(&answer) >= 1_500_000);
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_would_take_the_descriptors_of_connections_is_refused() {
    const PARTITIONS: i32 = 10_000;
    let mut broker = TestBroker::start(&[]).await;
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    let page = broker.http_get("/metrics").await;
    let value = |name: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}"))
            .trim()
            .parse()
            .unwrap()
    };
    let (open, most) = (value("process_open_fds "), value("process_max_fds "));
    let fits = f64::from(PARTITIONS) * 3.0 <= most * 0.75 - open - 100.0;
    let topic = m::create_topics_request::CreatableTopic::default()
        .with_name(topic_name("many"))
        .with_num_partitions(PARTITIONS)
        .with_replication_factor(1);
    let request = m::CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_validate_only(true)
        .with_timeout_ms(30_000);
    let answer: m::CreateTopicsResponse = connection
        .call(ApiKey::CreateTopics, 3, &request)
        .await
        .unwrap();
    let topic = &answer.topics[0];
    if fits {
        assert_eq!(topic.error_code, 0);
    } else {
        assert_eq!(topic.error_code, ErrorCode::InvalidPartitions.code());
        let reason = topic.error_message.clone().unwrap_or_default().to_string();
        assert!(reason.contains("RLIMIT_NOFILE"), "{reason}");
    }
    broker.stop().await;
}
