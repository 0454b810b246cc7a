//! `DeleteRecords` moves the log start into a batch: replicas that begin there have the same records as the others.

use kafka_protocol::messages as m;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use strandline_client::Connection;
use strandline_tests::{SharedTier, TestCluster, eventually};
use strandline_wire::batch::{Records, split_batches};
use strandline_wire::special_timestamp::EARLIEST;
use strandline_wire::{ApiKey, StrBytes};

use crate::cluster::reassign;
use crate::cold_lineage::elect_uncleanly;
use crate::{TIERED, offloaded, produce};

/// Deletes the records of a partition below `offset`.
pub async fn delete_records(connection: &mut Connection, topic: &str, number: i32, offset: i64) {
    let partition = DeleteRecordsPartition::default()
        .with_partition_index(number)
        .with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(m::TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partitions(vec![partition]);
    let request = m::DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000);
    let answer: m::DeleteRecordsResponse = connection
        .call(ApiKey::DeleteRecords, 2, &request)
        .await
        .unwrap();
    let answer = &answer.topics[0].partitions[0];
    assert_eq!((answer.error_code, answer.low_watermark), (0, offset));
}

/// Offsets and values of partition 0 of `t` on a broker's disk, from `start` on.
fn on_disk(cluster: &TestCluster, id: i32, start: i64) -> Vec<(i64, Vec<u8>)> {
    let directory = cluster.path(id).join("log").join("t-0");
    let files = std::fs::read_dir(directory).unwrap();
    let mut logs: Vec<_> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    logs.sort();
    let mut found = Vec::new();
    for log in logs {
        let bytes = std::fs::read(log).unwrap();
        for batch in split_batches(&bytes) {
            let (at, header) = batch.unwrap();
            let mut records = Records::new(header, &bytes[at..at + header.size()]).unwrap();
            while let Some(record) = records.next_record().unwrap() {
                if record.offset >= start {
                    found.push((record.offset, record.value.unwrap().to_vec()));
                }
            }
        }
    }
    found
}

/// Waits until all three replicas are in sync, and compares the records on their disks with those that were produced.
async fn all_hold(cluster: &TestCluster, start: i64, values: &[bytes::Bytes]) {
    let state = cluster
        .wait_for("t", "all three replicas are in sync", |p| {
            p.replicas.len() == 3 && p.isr.len() == 3
        })
        .await;
    let expected: Vec<_> = (0..values.len())
        .filter(|number| *number as i64 >= start)
        .map(|number| (number as i64, values[number].to_vec()))
        .collect();
    for id in cluster.ids() {
        assert_eq!(on_disk(cluster, id, start), expected, "broker {id}");
    }
    let mut client = cluster.client(state.leader).await;
    assert_eq!(client.list_offset("t", 0, EARLIEST).await.unwrap(), start);
}

const SMALL_SEGMENTS: [(&str, &str); 1] = [("internal.segment.bytes", "20000")];

/// An offset in the middle of a batch, in the middle of a segment.
const START: i64 = 254;

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_added_begins_with_the_batch_that_holds_the_log_start() {
    let cluster = TestCluster::start(3, &[("default.replication.factor", "2")]).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &SMALL_SEGMENTS).await.unwrap();
    let led = cluster
        .wait_for("t", "both are in sync", |p| p.isr.len() == 2)
        .await;
    let values = produce(&mut cluster.client(led.leader).await, "t", 500, 200).await;
    let mut connection = cluster.connection(led.leader).await;
    delete_records(&mut connection, "t", 0, START).await;
    let mut target = led.replicas.clone();
    target.extend(cluster.ids().iter().filter(|id| !led.replicas.contains(id)));
    assert_eq!(reassign(&mut connection, Some(&target)).await, 0);
    all_hold(&cluster, START, &values).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_away_begins_with_the_batch_that_holds_the_log_start() {
    follower_returns(|_, _| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_with_a_new_disk_begins_with_the_batch_that_holds_the_log_start() {
    follower_returns(TestCluster::replace_disk).await;
}

async fn follower_returns(meanwhile: impl FnOnce(&mut TestCluster, i32)) {
    let mut cluster = TestCluster::start(3, &[("min.insync.replicas", "1")]).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &SMALL_SEGMENTS).await.unwrap();
    let led = cluster
        .wait_for("t", "all are in sync", |p| p.isr.len() == 3)
        .await;
    let mut values = produce(&mut cluster.client(led.leader).await, "t", 100, 200).await;
    let follower = *led.isr.iter().find(|id| **id != led.leader).unwrap();
    cluster.stop(follower).await;
    let led = cluster
        .wait_for("t", "the follower has left the ISR", |p| {
            p.isr.len() == 2 && !p.isr.contains(&follower)
        })
        .await;
    values.extend(produce(&mut cluster.client(led.leader).await, "t", 400, 200).await);
    let mut connection = cluster.connection(led.leader).await;
    delete_records(&mut connection, "t", 0, START).await;
    meanwhile(&mut cluster, follower);
    cluster.resume(follower).await;
    all_hold(&cluster, START, &values).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_disk_of_a_tiered_topic_begins_behind_a_log_start_inside_a_cold_batch() {
    let remote = SharedTier::default();
    let tiered = remote.properties(&[("min.insync.replicas", "1")]);
    let mut cluster = TestCluster::start(3, &tiered).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &TIERED).await.unwrap();
    let led = cluster
        .wait_for("t", "all are in sync", |p| p.isr.len() == 3)
        .await;
    let mut at = cluster.client(led.leader).await;
    let values = produce(&mut at, "t", 1000, 200).await;
    offloaded(&mut at, "t").await;
    let mut connection = cluster.connection(led.leader).await;
    delete_records(&mut connection, "t", 0, START).await;
    let follower = *led.isr.iter().find(|id| **id != led.leader).unwrap();
    cluster.stop(follower).await;
    cluster.replace_disk(follower);
    cluster.resume(follower).await;
    let led = cluster
        .wait_for("t", "the new disk is in sync", |p| p.isr.len() == 3)
        .await;
    // Only the tail is local; the rest is read through the leader, from the middle of a batch on.
    let tail: Vec<_> = (990..1000)
        .map(|number| (number as i64, values[number].to_vec()))
        .collect();
    for id in cluster.ids() {
        assert_eq!(on_disk(&cluster, id, 990), tail, "broker {id}");
    }
    let mut at = cluster.client(led.leader).await;
    assert_eq!(at.list_offset("t", 0, EARLIEST).await.unwrap(), START);
    let read = crate::read_all(&mut at, "t", START).await;
    assert_eq!(read, values[START as usize..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_without_records_is_cut_to_a_leader_that_lost_its_disk() {
    let mut cluster = TestCluster::start_apart(3, &[("min.insync.replicas", "1")]).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &SMALL_SEGMENTS).await.unwrap();
    let led = cluster
        .wait_for("t", "all are in sync", |p| p.isr.len() == 3)
        .await;
    produce(&mut cluster.client(led.leader).await, "t", 100, 200).await;
    // No record is left, so no epoch tells where the logs part.
    let mut connection = cluster.connection(led.leader).await;
    delete_records(&mut connection, "t", 0, 100).await;
    for id in cluster.ids() {
        eventually("the records have gone", || async {
            on_disk(&cluster, id, 0).is_empty().then_some(())
        })
        .await;
    }
    let ids = cluster.ids();
    for id in &ids {
        cluster.stop(*id).await;
    }
    cluster.replace_disk(ids[0]);
    cluster.resume(ids[0]).await;
    assert_eq!(elect_uncleanly(&cluster).await, ids[0]);
    let values = produce(&mut cluster.client(ids[0]).await, "t", 50, 200).await;
    cluster.resume_together(&ids[1..]).await;
    all_hold(&cluster, 0, &values).await;
    cluster.stop_all().await;
}
