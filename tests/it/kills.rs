//! Processes that are killed right after something was deleted: the earliest offset can be read, and deleted records stay
//! deleted.

use std::time::Duration;

use kafka_protocol::messages as m;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use strandline_client::{ClientError, Connection};
use strandline_tests::{TestBroker, TestCluster, eventually};
use strandline_wire::{ApiKey, ErrorCode, StrBytes};

use super::*;

async fn delete_records(mut connection: Connection, topic: &str, offset: i64) {
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(m::TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partitions(vec![partition]);
    let request = m::DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
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

/// The record at the earliest offset can be read, at the first look; returns that offset.
async fn first_readable(broker: &TestBroker) -> i64 {
    let offset = earliest(broker).await;
    let mut client = broker.client().await;
    let wait = Duration::from_millis(500);
    let read = client.fetch("t", 0, offset, 100_000, wait).await;
    let first = read.as_ref().ok().and_then(|records| records.first());
    assert_eq!(first.map(|record| record.offset), Some(offset), "{read:?}");
    offset
}

/// Retention is never applied again, so nothing repairs the state that a start has found.
const NEVER_AGAIN: (&str, &str) = ("log.retention.check.interval.ms", "3600000");
const NO_MORE_PASSES: (&str, &str) = ("remote.log.manager.task.interval.ms", "3600000");

/// Stops cleanly, so that checkpoints name the log start, and starts with retention by bytes; kills the broker as soon as
/// records are deleted, and starts it again without retention.
async fn kill_when_retention_has_deleted(broker: &mut TestBroker, retention_bytes: &str) {
    broker.stop().await;
    broker.set_property("log.retention.bytes", retention_bytes);
    broker.resume().await;
    eventually("the log start moves", || async {
        (earliest(broker).await > 0).then_some(())
    })
    .await;
    broker.kill().await;
    for (key, value) in [NEVER_AGAIN, NO_MORE_PASSES] {
        broker.set_property(key, value);
    }
    broker.resume().await;
}

const SMALL: (&str, &str) = ("internal.segment.bytes", "20000");

#[tokio::test(flavor = "multi_thread")]
async fn the_earliest_offset_can_be_read_when_retention_has_just_deleted_files() {
    let mut broker = TestBroker::start(&[("log.retention.check.interval.ms", "20")]).await;
    let mut client = broker.client().await;
    let configs = [SMALL, ("retention.ms", "-1")];
    client.create_topic("t", 1, &configs).await.unwrap();
    let values = produce(&mut client, "t", 1000, 200).await;
    kill_when_retention_has_deleted(&mut broker, "50000").await;
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
        let connection = Connection::open(&broker.address()).await.unwrap();
        delete_records(connection, "t", offset).await;
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
    configs.push(("retention.ms", "-1"));
    client.create_topic("t", 1, &configs).await.unwrap();
    let values = produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    kill_when_retention_has_deleted(&mut broker, "100000").await;
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
        let connection = Connection::open(&broker.address()).await.unwrap();
        delete_records(connection, "t", offset).await;
        broker.kill().await;
        broker.resume().await;
        assert_eq!(earliest(&broker).await, offset);
    }
    let mut client = broker.client().await;
    assert_eq!(read_all(&mut client, "t", 503).await, values[503..]);
}

/// Every process of a cluster dies seconds after records were acknowledged, read and deleted, before any broker has
/// written the high watermark to disk. No later answer about offsets may be lower than the answers before the kill.
#[tokio::test(flavor = "multi_thread")]
async fn no_offset_goes_back_when_all_replicas_are_killed() {
    const DELETED: i64 = 250;
    let mut cluster = TestCluster::start(3, &[("min.insync.replicas", "2")]).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &[SMALL]).await.unwrap();
    let state = cluster.wait_for("t", "in sync", |p| p.isr.len() == 3).await;
    let mut leader = cluster.client(state.leader).await;
    let values = produce(&mut leader, "t", 600, 200).await;
    let end = values.len() as i64;
    delete_records(cluster.connection(state.leader).await, "t", DELETED).await;
    for round in 0..3 {
        cluster.kill_all().await;
        cluster.resume_together(&cluster.ids()).await;
        eventually("the partition is read again", || async {
            let state = cluster.partition("t", 0).await.filter(|p| p.leader >= 0)?;
            let mut leader = cluster.client(state.leader).await;
            let latest = leader.list_offset("t", 0, LATEST).await;
            let earliest = leader.list_offset("t", 0, EARLIEST).await;
            let wait = Duration::from_millis(50);
            let at_end = leader.fetch("t", 0, end, 100_000, wait).await;
            let out_of_range = ErrorCode::OffsetOutOfRange;
            let lost =
                matches!(&at_end, Err(ClientError::Broker { code, .. }) if *code == out_of_range);
            assert!(!lost, "round {round}: the reader's position");
            // A refusal is no answer: look again.
            assert!(
                latest.as_ref().is_ok_and(|o| *o == end) || latest.is_err(),
                "{latest:?}"
            );
            assert!(
                earliest.as_ref().is_ok_and(|o| *o == DELETED) || earliest.is_err(),
                "{earliest:?}"
            );
            (latest.is_ok() && earliest.is_ok() && at_end.is_ok()).then_some(())
        })
        .await;
        let state = cluster.wait_for("t", "in sync", |p| p.isr.len() == 3).await;
        let mut leader = cluster.client(state.leader).await;
        let read = read_all(&mut leader, "t", DELETED).await;
        assert_eq!(read, values[DELETED as usize..], "round {round}");
    }
    cluster.stop_all().await;
}
