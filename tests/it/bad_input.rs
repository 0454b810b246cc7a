//! Bytes that no client should send: an answer or a closed connection, at once, and a broker that serves the next one.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use strandline_client::ClientError;
use strandline_tests::TestBroker;
use strandline_wire::ErrorCode;
use strandline_wire::batch::BatchBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// Sends raw bytes; `None` when the broker closes the connection without an answer.
async fn send(address: &str, bytes: &[u8]) -> Option<Bytes> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let length = stream.read_i32().await.ok()?;
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.ok()?;
    Some(body.into())
}

fn frame(api_key: i16, version: i16, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i32(0);
    out.put_i16(api_key);
    out.put_i16(version);
    out.put_i32(7);
    out.put_i16(-1);
    out.put_slice(body);
    let length = out.len() as i32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_cannot_be_served_close_their_connection_within_a_second() {
    let mut broker = TestBroker::start(&[]).await;
    let address = broker.address();
    let before = resident_bytes();
    let counts = [
        &i32::MAX.to_be_bytes()[..],
        &[0, 1, 0, 0],
        &[0x7f, 0xff, 0xff, 0xf0, 1, 2, 3],
    ];
    let mut cases: Vec<Bytes> = vec![
        Bytes::from_static(&[0, 0, 0, 0]),
        Bytes::from_static(&[0xff, 0xff, 0xff, 0xff]),
        Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff]),
        Bytes::copy_from_slice(&(100_i32 * 1024 * 1024 + 1).to_be_bytes()),
        frame(999, 0, &[]),
        frame(3, 99, &[]),
        frame(4, 0, &[]),
        frame(0, 2, &[]),
    ];
    // Metadata 1, ListOffsets 1, CreateTopics 2, DescribeConfigs 1, Fetch 4, Produce 3: counts above the body's size.
    for (api, version) in [(3, 1), (2, 1), (19, 2), (32, 1), (1, 4), (0, 3)] {
        cases.extend(counts.iter().map(|count| frame(api, version, count)));
    }
    for case in &cases {
        let started = Instant::now();
        let answer = tokio::time::timeout(Duration::from_secs(2), send(&address, case)).await;
        assert!(
            matches!(answer, Ok(None)),
            "{:?}: {answer:?}",
            &case[..case.len().min(12)]
        );
        assert!(
            started.elapsed() < Duration::from_secs(1),
            "{:?}",
            &case[..case.len().min(12)]
        );
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "the process grew by {grown} bytes");
    broker
        .client()
        .await
        .create_topic("alive", 1, &[])
        .await
        .unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dribbled_body_holds_no_memory_and_no_other_client_up() {
    let mut broker = TestBroker::start(&[]).await;
    let mut slow = TcpStream::connect(broker.address()).await.unwrap();
    let before = resident_bytes();
    slow.write_all(&(90_i32 << 20).to_be_bytes()).await.unwrap();
    slow.write_all(&[0]).await.unwrap();
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    produce(&mut client, "t", 10, 50).await;
    assert!(
        resident_bytes().saturating_sub(before) < 32 << 20,
        "an announced size allocates nothing"
    );
    broker.stop().await;
}

async fn produce_raw(client: &Client, batch: &[u8]) -> ErrorCode {
    use kafka_protocol::messages as m;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    let data = PartitionProduceData::default().with_records(Some(Bytes::copy_from_slice(batch)));
    let topic = TopicProduceData::default()
        .with_name(m::TopicName("t".to_owned().into()))
        .with_partition_data(vec![data]);
    let request = m::ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(1000)
        .with_topic_data(vec![topic]);
    let mut connection = strandline_client::Connection::open(client.address())
        .await
        .unwrap();
    let response: m::ProduceResponse = connection
        .call(strandline_wire::ApiKey::Produce, 9, &request)
        .await
        .unwrap();
    ErrorCode::from_code(response.responses[0].partition_responses[0].error_code).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn defective_batches_get_kafkas_codes_and_leave_no_trace() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let mut builder = BatchBuilder::new(Compression::None);
    for _ in 0..3 {
        let value = Some(Bytes::from_static(b"value"));
        builder.push(&RecordToWrite {
            timestamp: 1_700_000_000_000,
            value,
            ..RecordToWrite::default()
        });
    }
    let good = builder.build();
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = good.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = strandline_wire::batch::crc32c(&changed[21..]);
        changed[17..21].copy_from_slice(&crc.to_be_bytes());
        changed
    };
    let mut wrong_crc = good.to_vec();
    wrong_crc[70] ^= 1;
    let mut magic_1 = good.to_vec();
    magic_1[16] = 1;
    let cases = [
        (wrong_crc, ErrorCode::CorruptMessage),
        (magic_1, ErrorCode::UnsupportedForMessageFormat),
        (with(57, &i32::MAX.to_be_bytes()), ErrorCode::InvalidRecord),
        (with(23, &9i32.to_be_bytes()), ErrorCode::InvalidRecord),
        (with(0, &5i64.to_be_bytes()), ErrorCode::InvalidRecord),
        (with(21, &0x20i16.to_be_bytes()), ErrorCode::InvalidRecord),
        (with(21, &4i16.to_be_bytes()), ErrorCode::InvalidRecord),
        ([&good[..], &good[..]].concat(), ErrorCode::InvalidRecord),
        (Vec::new(), ErrorCode::CorruptMessage),
    ];
    for (batch, code) in cases {
        assert_eq!(produce_raw(&client, &batch).await, code);
    }
    assert_eq!(client.list_offset("t", 0, LATEST).await.unwrap(), 0);
    assert_eq!(produce_raw(&client, &good).await, ErrorCode::None);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_is_refused_within_a_second_without_the_process_growing() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let before = resident_bytes();
    let record = RecordToWrite {
        timestamp: 1_700_000_000_000,
        value: Some(vec![0; 400 << 20].into()),
        ..RecordToWrite::default()
    };
    let mut builder = BatchBuilder::new(Compression::Zstd);
    builder.push(&record);
    drop(record);
    let bomb = builder.build();
    drop(builder);
    assert!(bomb.len() < 100_000);
    let started = Instant::now();
    assert_eq!(produce_raw(&client, &bomb).await, ErrorCode::InvalidRecord);
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    assert!(resident_bytes().saturating_sub(before) < 128 << 20);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_could_leave_their_directory_are_refused() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    for name in ["..", ".", "a/b", "", &"x".repeat(250)] {
        let refused = client.create_topic(name, 1, &[]).await;
        let invalid = matches!(
            refused,
            Err(ClientError::Broker {
                code: ErrorCode::InvalidTopicException,
                ..
            })
        );
        assert!(invalid, "{name}: {refused:?}");
    }
    broker.stop().await;
}
