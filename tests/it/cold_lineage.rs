//! Logs and cold tiers that have parted: after lost files, lost disks and unclean elections, each offset has one record,
//! on every disk, in the bucket and for every reader.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use kafka_protocol::messages as m;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use strandline_client::{Client, Connection};
use strandline_tests::{SharedTier, TestBroker, TestCluster, eventually};
use strandline_wire::batch::{RecordToWrite, Records, split_batches};
use strandline_wire::compression::Compression;
use strandline_wire::special_timestamp::{EARLIEST_LOCAL, LATEST, LATEST_TIERED};
use strandline_wire::{ApiKey, StrBytes};

use super::cluster::set_configs;
use super::{read_all, timestamp};

/// Small segments, copied at once; everything stays local until a test says otherwise.
const TIERED: [(&str, &str); 2] = [
    ("remote.storage.enable", "true"),
    ("internal.segment.bytes", "5000"),
];

/// Kafka's default: a topic whose replicas do not flush before they acknowledge.
const UNFLUSHED: (&str, &str) = ("flush.messages", "9223372036854775807");

/// Writes `count` records, five a batch, whose values begin with `label`.
async fn write(client: &mut Client, label: &str, count: usize) -> Vec<Bytes> {
    let mut values = Vec::new();
    for batch in 0..count.div_ceil(5) {
        let records: Vec<_> = (0..5)
            .map(|i| RecordToWrite {
                timestamp: timestamp(0),
                value: Some(format!("{label}-{:05} {:>180}", batch * 5 + i, ".").into()),
                ..RecordToWrite::default()
            })
            .collect();
        let sent = client.produce("t", 0, Compression::None, &records);
        sent.await.unwrap();
        values.extend(records.into_iter().filter_map(|r| r.value));
    }
    values
}

/// Waits until every sealed segment is in the cold tier; returns where the tier ends (exclusive).
async fn copied(client: &mut Client) -> i64 {
    let client = tokio::sync::Mutex::new(client);
    eventually("sealed segments are copied", || async {
        let mut client = client.lock().await;
        let end = client.list_offset("t", 0, LATEST).await.unwrap();
        let tiered = client.list_offset("t", 0, LATEST_TIERED).await.unwrap();
        // A segment of 5 000 bytes holds four batches of five records.
        (end - tiered <= 21 && tiered >= 0).then_some(tiered + 1)
    })
    .await
}

/// Records by offset, as they stand in the segment files of a replica.
fn on_disk(log_dir: &Path) -> BTreeMap<i64, Bytes> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(log_dir.join("t-0")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "log") {
            continue;
        }
        let bytes = Bytes::from(std::fs::read(&path).unwrap());
        for batch in split_batches(&bytes) {
            let (at, header) = batch.unwrap();
            let batch = &bytes[at..at + header.size()];
            let mut records = Records::new(header, batch).unwrap();
            while let Some(record) = records.next_record().unwrap() {
                let before = found.insert(record.offset, record.value.unwrap());
                assert_eq!(before, None, "two records at {}", record.offset);
            }
        }
    }
    found
}

/// A power loss that took the segments from `from` on: they were never flushed, so no checkpoint speaks of them.
fn lose_segments(log_dir: &Path, from: i64) {
    for entry in std::fs::read_dir(log_dir.join("t-0")).unwrap() {
        let path = entry.unwrap().path();
        let base = path
            .file_stem()
            .and_then(|s| s.to_str()?.parse::<i64>().ok());
        if base.is_some_and(|base| base >= from) {
            std::fs::remove_file(path).unwrap();
        }
    }
    for file in ["recovery-point-offset-checkpoint", ".kafka_cleanshutdown"] {
        std::fs::remove_file(log_dir.join(file)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_newest_segments_goes_on_behind_its_cold_tier() {
    let mut broker = TestBroker::start_tiered(&[]).await;
    let mut client = broker.client().await;
    let configs = [TIERED[0], TIERED[1], UNFLUSHED];
    client.create_topic("t", 1, &configs).await.unwrap();
    let old = write(&mut client, "old", 300).await;
    let tier_end = copied(&mut client).await;
    let local = client.list_offset("t", 0, EARLIEST_LOCAL).await.unwrap();
    assert_eq!(local, 0, "nothing has left the disk");
    broker.stop().await;
    lose_segments(&broker.path().join("log"), 200);
    broker.resume().await;
    let client = tokio::sync::Mutex::new(broker.client().await);
    let end = eventually("the broker leads", || async {
        client.lock().await.list_offset("t", 0, LATEST).await.ok()
    })
    .await;
    let mut client = client.into_inner();
    assert_eq!(
        end, tier_end,
        "no offset that the tier has given out is free"
    );
    let mut expected = old[..tier_end as usize].to_vec();
    assert_eq!(read_all(&mut client, "t", 0).await, expected);
    expected.extend(write(&mut client, "new", 200).await);
    assert_eq!(read_all(&mut client, "t", 0).await, expected);
    // After local trimming, records that were written after the loss are read from the tier.
    copied(&mut client).await;
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    set_configs(&mut connection, 2, "t", &[("local.retention.bytes", "1")]).await;
    let client = tokio::sync::Mutex::new(client);
    eventually("the new records are in the tier only", || async {
        let mut client = client.lock().await;
        let local = client.list_offset("t", 0, EARLIEST_LOCAL).await.unwrap();
        (local >= tier_end + 180).then_some(())
    })
    .await;
    let mut client = client.into_inner();
    assert_eq!(read_all(&mut client, "t", 0).await, expected);
    broker.stop().await;
    broker.resume().await;
    let mut client = broker.client().await;
    assert_eq!(read_all(&mut client, "t", 0).await, expected);
    broker.stop().await;
}

/// Three brokers and their controllers apart, so that any broker can be down.
async fn cluster(remote: &SharedTier) -> TestCluster {
    let tiered = remote.properties(&[("replica.lag.time.max.ms", "1000")]);
    TestCluster::start_apart(3, &tiered).await
}

/// Elects a replica that is not in sync.
pub async fn elect_uncleanly(cluster: &TestCluster) -> i32 {
    let election = m::ElectLeadersRequest::default()
        .with_election_type(1)
        .with_topic_partitions(Some(vec![
            TopicPartitions::default()
                .with_topic(m::TopicName(StrBytes::from_static_str("t")))
                .with_partitions(vec![0]),
        ]))
        .with_timeout_ms(10_000);
    let mut connection = cluster.connection(cluster.any()).await;
    let asked: m::ElectLeadersResponse = connection
        .call(ApiKey::ElectLeaders, 2, &election)
        .await
        .unwrap();
    let result = &asked.replica_election_results[0].partition_result[0];
    assert_eq!(result.error_code, 0, "{result:?}");
    leads(cluster).await
}

/// Waits until a broker serves the partition as its leader.
async fn leads(cluster: &TestCluster) -> i32 {
    eventually("somebody leads", || async {
        let leader = cluster.partition("t", 0).await?.leader;
        let mut client = cluster.client((leader > 0).then_some(leader)?).await;
        client.list_offset("t", 0, LATEST).await.ok()?;
        Some(leader)
    })
    .await
}

/// Every replica holds the leader's records, byte for byte, as far as it holds any.
async fn agrees_everywhere(cluster: &TestCluster, expected: &[Bytes]) {
    let all_in_sync = |p: &strandline_tests::PartitionState| p.isr.len() == 3;
    let state = cluster.wait_for("t", "all are in sync", all_in_sync).await;
    let mut client = cluster.client(state.leader).await;
    let read = read_all(&mut client, "t", 0).await;
    let label = |value: &Bytes| String::from_utf8_lossy(&value[..value.len().min(12)]).into_owned();
    let (read_labels, wanted): (Vec<_>, Vec<_>) = (
        read.iter().map(label).collect(),
        expected.iter().map(label).collect(),
    );
    assert_eq!(read_labels, wanted);
    assert_eq!(read, expected);
    for id in cluster.ids() {
        let disk = on_disk(&cluster.path(id).join("log"));
        for (offset, value) in &disk {
            assert_eq!(
                Some(value),
                expected.get(*offset as usize),
                "{id} at {offset}"
            );
        }
        let end = disk.keys().next_back().map_or(0, |last| last + 1);
        assert_eq!(end, expected.len() as i64, "broker {id} has the end");
    }
}

async fn alone(cluster: &TestCluster, id: i32) -> Client {
    cluster
        .wait_for("t", "one is in sync", |p| p.isr == [id] && p.leader == id)
        .await;
    leads(cluster).await;
    cluster.client(id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unclean_leader_goes_on_behind_what_another_one_copied() {
    let remote = SharedTier::default();
    let mut cluster = cluster(&remote).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &TIERED).await.unwrap();
    let all = |p: &strandline_tests::PartitionState| p.isr.len() == 3;
    let first = cluster.wait_for("t", "all are in sync", all).await.leader;
    let others: Vec<i32> = cluster.ids().into_iter().filter(|i| *i != first).collect();
    let mut client = cluster.client(first).await;
    let mut expected = write(&mut client, "a", 100).await;
    cluster.wait_for("t", "all are in sync", all).await;
    for id in &others {
        cluster.stop(*id).await;
    }
    let mut client = alone(&cluster, first).await;
    expected.extend(write(&mut client, "b", 200).await);
    let tier_end = copied(&mut client).await;
    assert!(tier_end > 200);
    cluster.stop(first).await;
    cluster.resume_together(&others).await;
    let second = elect_uncleanly(&cluster).await;
    // Records that the first leader copied are not lost, and their offsets are not assigned again.
    expected.truncate(tier_end as usize);
    let mut client = cluster.client(second).await;
    assert_eq!(read_all(&mut client, "t", 0).await, expected);
    expected.extend(write(&mut client, "d", 100).await);
    cluster.resume(first).await;
    let leader = cluster.wait_for("t", "all are in sync", all).await.leader;
    let mut client = cluster.client(leader).await;
    expected.extend(write(&mut client, "e", 100).await);
    agrees_everywhere(&cluster, &expected).await;
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_history_copied_becomes_unreadable_before_the_leader_serves() {
    let remote = SharedTier::default();
    let mut cluster = cluster(&remote).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &TIERED).await.unwrap();
    let all = |p: &strandline_tests::PartitionState| p.isr.len() == 3;
    let first = cluster.wait_for("t", "all are in sync", all).await.leader;
    let others: Vec<i32> = cluster.ids().into_iter().filter(|i| *i != first).collect();
    let mut client = cluster.client(first).await;
    let mut expected = write(&mut client, "a", 105).await;
    copied(&mut client).await;
    cluster.wait_for("t", "all are in sync", all).await;
    for id in &others {
        cluster.stop(*id).await;
    }
    // A few records, so that their segment is not sealed and not copied.
    let mut client = alone(&cluster, first).await;
    expected.extend(write(&mut client, "x", 10).await);
    cluster.stop(first).await;
    cluster.resume_together(&others).await;
    let second = elect_uncleanly(&cluster).await;
    let mut client = cluster.client(second).await;
    write(&mut client, "b", 200).await;
    assert!(copied(&mut client).await > 200);
    for id in &others {
        cluster.stop(*id).await;
    }
    cluster.resume(first).await;
    assert_eq!(elect_uncleanly(&cluster).await, first);
    let mut client = cluster.client(first).await;
    assert_eq!(read_all(&mut client, "t", 0).await, expected);
    expected.extend(write(&mut client, "d", 100).await);
    cluster.resume_together(&others).await;
    cluster.wait_for("t", "all are in sync", all).await;
    let leader = leads(&cluster).await;
    let mut client = cluster.client(leader).await;
    expected.extend(write(&mut client, "e", 100).await);
    agrees_everywhere(&cluster, &expected).await;
    // The tier takes the leader's records, and nothing of the other history is left in it.
    let end = copied(&mut client).await;
    assert!(end > 200, "{end}");
    cluster.stop_all().await;
}
