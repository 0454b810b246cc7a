//! Processes that are killed right after something was deleted: the earliest offset can be read, and deleted records stay
//! deleted.

use std::time::Duration;

use kafka_protocol::messages as m;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use strandline_client::Connection;
use strandline_tests::{TestBroker, eventually};
use strandline_wire::{ApiKey, StrBytes};

use super::*;

async fn delete_records(broker: &TestBroker, topic: &str, offset: i64) {
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(m::TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partitions(vec![partition]);
    let request = m::DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    let response: m::DeleteRecordsResponse = connection
        .call(ApiKey::DeleteRecords, 2, &request)
        .await
        .unwrap();
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

async fn earliest(broker: &TestBroker) -> i64 {
    let mut client = broker.client().await;
    client.list_offset("t", 0, EARLIEST).await.unwrap()
}

/// Reads the record at the earliest offset, which retention may move meanwhile; returns that offset.
async fn first_readable(broker: &TestBroker) -> i64 {
    eventually("the earliest offset can be read", || async {
        let offset = earliest(broker).await;
        let mut client = broker.client().await;
        let wait = Duration::from_millis(500);
        let records = client.fetch("t", 0, offset, 100_000, wait).await.ok()?;
        (records.first()?.offset == offset).then_some(offset)
    })
    .await
}

const SMALL: (&str, &str) = ("internal.segment.bytes", "20000");

#[tokio::test(flavor = "multi_thread")]
async fn the_earliest_offset_can_be_read_when_retention_has_just_deleted_files() {
    let mut broker = TestBroker::start(&[("log.retention.check.interval.ms", "20")]).await;
    let mut client = broker.client().await;
    let configs = [SMALL, ("retention.bytes", "50000"), ("retention.ms", "-1")];
    client.create_topic("t", 1, &configs).await.unwrap();
    let values = produce(&mut client, "t", 1000, 200).await;
    eventually("the log start moves", || async {
        (earliest(&broker).await > 0).then_some(())
    })
    .await;
    broker.kill().await;
    broker.resume().await;
    let start = first_readable(&broker).await;
    assert!(start > 0);
    let mut client = broker.client().await;
    let read = read_all(&mut client, "t", start).await;
    assert_eq!(read, values[start as usize..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_deleted_stay_deleted() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[SMALL]).await.unwrap();
    let mut values = produce(&mut client, "t", 300, 200).await;
    for offset in [5, 123, 300] {
        delete_records(&broker, "t", offset).await;
        broker.kill().await;
        broker.resume().await;
        assert_eq!(earliest(&broker).await, offset);
    }
    let mut client = broker.client().await;
    values.extend(produce(&mut client, "t", 20, 200).await);
    assert_eq!(read_all(&mut client, "t", 300).await, values[300..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_earliest_offset_of_a_tiered_topic_can_be_read_after_a_kill() {
    let mut broker = TestBroker::start_tiered(&[]).await;
    let mut client = broker.client().await;
    let mut configs = TIERED.to_vec();
    configs.extend([("retention.bytes", "100000"), ("retention.ms", "-1")]);
    client.create_topic("t", 1, &configs).await.unwrap();
    let values = produce(&mut client, "t", 1000, 200).await;
    eventually("remote segments are deleted", || async {
        (earliest(&broker).await > 0).then_some(())
    })
    .await;
    broker.kill().await;
    broker.resume().await;
    let start = first_readable(&broker).await;
    assert!(start > 0);
    let mut client = broker.client().await;
    assert_eq!(read_all(&mut client, "t", 990).await, values[990..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_the_cold_tier_that_were_deleted_stay_deleted() {
    let mut broker = TestBroker::start_tiered(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &TIERED).await.unwrap();
    let values = produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    for offset in [180, 503] {
        delete_records(&broker, "t", offset).await;
        broker.kill().await;
        broker.resume().await;
        assert_eq!(earliest(&broker).await, offset);
    }
    let mut client = broker.client().await;
    assert_eq!(read_all(&mut client, "t", 503).await, values[503..]);
}
