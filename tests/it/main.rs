//! Brokers in process, real sockets and files, scenarios from a user's view.

mod bad_input;
mod beside_kafka;
mod beside_kafka_groups;
mod bytes_after_the_last_field;
mod changed_directories;
mod clients;
mod cluster;
mod cold_lineage;
mod cold_owner;
mod cold_side_objects;
mod containers;
mod coordinators;
mod derived_headers;
mod directories;
mod disconnects;
mod dying_directories;
mod fetch_rules;
mod hot;
mod internal_topics;
mod kills;
mod listens_everywhere;
mod log_dirs;
mod log_starts;
mod memory_limits;
mod mirrored;
mod monitoring;
mod object_store_faults;
mod own_client;
mod positions_by_topic_id;
mod producers;
mod quotas;
mod readiness;
mod region;
mod second_process;
mod stops;
mod store_fault_table;
mod store_proofs;
mod tier_by_default;
mod tiers;
mod time_look_ups;
mod tools;
mod without_transactions;

use std::path::Path;

use bytes::Bytes;
use kafka_protocol::messages as m;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use strandline_client::{Client, Connection};
use strandline_tests::{S3Server, TestBroker, eventually};
use strandline_wire::batch::RecordToWrite;
use strandline_wire::compression::Compression;
use strandline_wire::special_timestamp::*;
use strandline_wire::{ApiKey, StrBytes};

/// Produces `count` records of `size` bytes to partition 0, ten a batch; returns their values.
async fn produce(client: &mut Client, topic: &str, count: usize, size: usize) -> Vec<Bytes> {
    let mut values = Vec::with_capacity(count);
    for batch in 0..count.div_ceil(10) {
        let records: Vec<RecordToWrite> = (0..10)
            .map(|i| {
                let number = batch * 10 + i;
                let mut value = format!("{number:08} ").into_bytes();
                value.resize(size, b'a' + (number % 26) as u8);
                RecordToWrite {
                    timestamp: timestamp(number),
                    value: Some(value.into()),
                    ..RecordToWrite::default()
                }
            })
            .collect();
        client
            .produce(topic, 0, Compression::None, &records)
            .await
            .unwrap();
        values.extend(records.into_iter().filter_map(|r| r.value));
    }
    values
}

async fn delete_topic(address: &str, topic: &str) {
    let name = Some(m::TopicName(StrBytes::from_string(topic.to_owned())));
    let topic = DeleteTopicState::default().with_name(name);
    let request = m::DeleteTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let mut connection = Connection::open(address).await.unwrap();
    let response: m::DeleteTopicsResponse = connection
        .call(ApiKey::DeleteTopics, 6, &request)
        .await
        .unwrap();
    assert_eq!(response.responses[0].error_code, 0);
}

/// All log directories of a broker, as `DescribeLogDirs` shows them.
async fn describe_log_dirs(connection: &mut Connection) -> Vec<DescribeLogDirsResult> {
    let request = m::DescribeLogDirsRequest::default().with_topics(None);
    let response: m::DescribeLogDirsResponse = connection
        .call(ApiKey::DescribeLogDirs, 4, &request)
        .await
        .unwrap();
    response.results
}

/// The error that `DescribeLogDirs` has for a directory.
async fn log_dir_error(connection: &mut Connection, dir: &Path) -> Option<i16> {
    let all = describe_log_dirs(connection).await;
    let found = all.iter().find(|d| Path::new(&*d.log_dir) == dir);
    found.map(|d| d.error_code)
}

/// Timestamps a second apart, from an hour before the tests began.
fn timestamp(number: usize) -> i64 {
    static BASE: std::sync::LazyLock<i64> = std::sync::LazyLock::new(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |d| d.as_millis() as i64) - 3_600_000
    });
    *BASE + number as i64 * 1000
}

/// The id of a topic.
async fn topic_id(connection: &mut strandline_client::Connection, topic: &str) -> uuid::Uuid {
    let request = kafka_protocol::messages::MetadataRequest::default().with_topics(None);
    let answer: kafka_protocol::messages::MetadataResponse = connection
        .call(strandline_wire::ApiKey::Metadata, 12, &request)
        .await
        .unwrap();
    let found = answer.topics.iter();
    let mut found = found.filter(|t| t.name.as_ref().is_some_and(|n| n.as_str() == topic));
    found.next().unwrap().topic_id
}

/// Reads partition 0 from `offset` to its end and checks that offsets have no gap.
async fn read_all(client: &mut Client, topic: &str, mut offset: i64) -> Vec<Bytes> {
    let end = client.list_offset(topic, 0, LATEST).await.unwrap();
    let mut values = Vec::new();
    while offset < end {
        let wait = std::time::Duration::from_millis(500);
        for record in client.fetch(topic, 0, offset, 100_000, wait).await.unwrap() {
            assert_eq!(record.offset, offset, "no gap");
            offset += 1;
            values.push(record.value.unwrap());
        }
    }
    values
}

/// A topic of small segments of which nothing stays local but the active one. A thousand records of 200 bytes, ten a
/// batch, fill eleven segments of 90 records; ten stay in the active one.
const TIERED: [(&str, &str); 3] = [
    ("remote.storage.enable", "true"),
    ("internal.segment.bytes", "20000"),
    ("local.retention.bytes", "1"),
];

/// The same with segments that are uploaded in parts.
const LARGE_SEGMENTS: [(&str, &str); 3] =
    [TIERED[0], ("internal.segment.bytes", "28000000"), TIERED[2]];

/// A broker whose cold tier is an S3 server, and a client of it; the topic `t` has these settings.
async fn tiered_on(s3: &S3Server, configs: &[(&str, &str)]) -> (TestBroker, Client) {
    let broker = TestBroker::start_on_s3(&s3.endpoint(), &[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, configs).await.unwrap();
    (broker, client)
}

/// Waits until everything that is sealed is in the cold tier only; returns the first local offset.
async fn offloaded(client: &mut Client, topic: &str) -> i64 {
    let client = tokio::sync::Mutex::new(client);
    eventually("segments leave the local disk", || async {
        let mut client = client.lock().await;
        let local = client.list_offset(topic, 0, EARLIEST_LOCAL).await.unwrap();
        let tiered = client.list_offset(topic, 0, LATEST_TIERED).await.unwrap();
        (local == 990 && tiered == 989).then_some(local)
    })
    .await
}
