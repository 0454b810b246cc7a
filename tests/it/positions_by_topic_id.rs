//! `OffsetCommit` 10 and `OffsetFetch` 10 name topics by id, byte for byte as Kafka 4.3 writes and reads them.

use std::time::Duration;

use bytes::Buf;
use kafka_protocol::messages as m;
use strandline_wire::ErrorCode;
use strandline_wire::primitive::{Reader, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::*;

/// Sends a flexible request of version 10; returns the answer behind its header.
async fn exchange(stream: &mut TcpStream, key: ApiKey, body: &Writer) -> Reader {
    let mut frame = Writer::default();
    frame.i16(key as i16);
    frame.i16(10);
    frame.i32(7);
    frame.nullable_string(None, false);
    frame.empty_tagged_fields(true);
    frame.buffer.extend_from_slice(&body.buffer);
    stream.write_i32(frame.buffer.len() as i32).await.unwrap();
    stream.write_all(&frame.buffer).await.unwrap();
    let length = stream.read_i32().await.unwrap();
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await.unwrap();
    let mut answer = Bytes::from(answer);
    assert_eq!((answer.get_i32(), answer.get_u8()), (7, 0));
    Reader::new(answer)
}

/// Commits position 42 with the metadata `here`; returns the id that the answer has, and its code.
async fn commit(stream: &mut TcpStream, topic: Uuid, partition: i32) -> (Uuid, i16) {
    let mut body = Writer::default();
    body.string(b"g", true);
    body.i32(-1);
    body.string(b"", true);
    body.nullable_string(None, true);
    body.array_length(1, true);
    body.uuid(topic);
    body.array_length(1, true);
    body.i32(partition);
    body.i64(42);
    body.i32(0);
    body.nullable_string(Some(b"here"), true);
    for _ in 0..3 {
        body.empty_tagged_fields(true);
    }
    let mut answer = exchange(stream, ApiKey::OffsetCommit, &body).await;
    answer.i32().unwrap();
    assert_eq!(answer.array_length(true).unwrap(), 1);
    let id = answer.uuid().unwrap();
    assert_eq!(answer.array_length(true).unwrap(), 1);
    assert_eq!(answer.i32().unwrap(), partition);
    (id, answer.i16().unwrap())
}

/// Position, metadata and code of partition 0.
async fn fetch(stream: &mut TcpStream, topic: Uuid) -> (Uuid, i64, Bytes, i16) {
    let mut body = Writer::default();
    body.array_length(1, true);
    body.string(b"g", true);
    body.nullable_string(None, true);
    body.i32(-1);
    body.array_length(1, true);
    body.uuid(topic);
    body.array_length(1, true);
    body.i32(0);
    body.empty_tagged_fields(true);
    body.empty_tagged_fields(true);
    body.i8(0);
    body.empty_tagged_fields(true);
    let mut answer = exchange(stream, ApiKey::OffsetFetch, &body).await;
    answer.i32().unwrap();
    assert_eq!(answer.array_length(true).unwrap(), 1);
    assert_eq!(&answer.string(true).unwrap()[..], b"g");
    assert_eq!(answer.array_length(true).unwrap(), 1);
    let id = answer.uuid().unwrap();
    assert_eq!(answer.array_length(true).unwrap(), 1);
    assert_eq!(answer.i32().unwrap(), 0);
    let offset = answer.i64().unwrap();
    answer.i32().unwrap();
    let metadata = answer.nullable_string(true).unwrap().unwrap();
    (id, offset, metadata, answer.i16().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_committed_and_fetched_by_the_id_of_the_topic() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    let request = m::FindCoordinatorRequest::default().with_key(StrBytes::from_static_str("g"));
    let found: m::FindCoordinatorResponse = connection
        .call(ApiKey::FindCoordinator, 3, &request)
        .await
        .unwrap();
    assert_eq!(found.error_code, 0);
    let request = m::MetadataRequest::default().with_topics(None);
    let all: m::MetadataResponse = connection
        .call(ApiKey::Metadata, 12, &request)
        .await
        .unwrap();
    let named = |name: &str| {
        all.topics
            .iter()
            .find(|t| t.name.as_ref().unwrap().as_str() == name)
    };
    let id = named("t").unwrap().topic_id;
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    let committed = loop {
        let (answered, code) = commit(&mut stream, id, 0).await;
        if code != ErrorCode::NotCoordinator.code() {
            break (answered, code);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(committed, (id, 0));
    let known = (id, 42, Bytes::from_static(b"here"), 0);
    assert_eq!(fetch(&mut stream, id).await, known);
    let nobody = Uuid::from_u128(5);
    let unknown = ErrorCode::UnknownTopicId.code();
    assert_eq!(commit(&mut stream, nobody, 0).await, (nobody, unknown));
    let absent = (nobody, -1, Bytes::new(), unknown);
    assert_eq!(fetch(&mut stream, nobody).await, absent);
    let code = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(commit(&mut stream, id, 9).await, (id, code));
    broker.stop().await;
}
