//! Partition directories and the topics that they belong to: topics made again while a replica is away, logs that do not
//! open.

use std::path::Path;
use std::time::Duration;

use kafka_protocol::messages as m;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use strandline_client::Client;
use strandline_tests::{TestBroker, TestCluster, eventually};
use strandline_wire::{ApiKey, ErrorCode, StrBytes};

use super::*;

async fn delete_topic(cluster: &TestCluster, topic: &str) {
    crate::delete_topic(&cluster.address(cluster.any()), topic).await;
}

/// Names and bytes of the log files of a partition on one broker.
fn log_files(cluster: &TestCluster, id: i32, partition: &str) -> Vec<(String, Vec<u8>)> {
    let directory = cluster.path(id).join("log").join(partition);
    let files = std::fs::read_dir(&directory).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    logs.sort();
    logs
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

async fn leader(cluster: &TestCluster, topic: &str, in_sync: usize) -> Client {
    let state = cluster
        .wait_for(topic, "replicas are in sync", |p| p.isr.len() == in_sync)
        .await;
    cluster.client(state.leader).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_while_a_replica_is_away_has_nothing_of_the_old_one() {
    let mut cluster = TestCluster::start(3, &[]).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let mut client = leader(&cluster, "t", 3).await;
    produce(&mut client, "t", 300, 200).await;
    let old = eventually("broker 3 has the old records", || async {
        let logs = log_files(&cluster, 3, "t-0");
        (logs == log_files(&cluster, 1, "t-0")).then_some(logs)
    })
    .await;
    cluster.stop(3).await;
    delete_topic(&cluster, "t").await;
    let configs = [("min.insync.replicas", "1")];
    eventually("the topic is made again", || async {
        let mut client = cluster.client(1).await;
        client.create_topic("t", 1, &configs).await.ok()
    })
    .await;
    let mut client = leader(&cluster, "t", 2).await;
    let mut wanted = produce(&mut client, "t", 50, 300).await;
    cluster.resume(3).await;
    let mut client = leader(&cluster, "t", 3).await;
    wanted.extend(produce(&mut client, "t", 20, 100).await);
    assert_eq!(read_all(&mut client, "t", 0).await, wanted);
    eventually("all replicas have the same bytes", || async {
        let [first, second, third] = [1, 2, 3].map(|id| log_files(&cluster, id, "t-0"));
        (first == second && second == third).then_some(())
    })
    .await;
    let logs = cluster.path(3).join("log");
    let aside: Vec<_> = names(&logs)
        .into_iter()
        .filter(|name| name.starts_with("t-0.") && name.ends_with("-stray"))
        .collect();
    assert_eq!(aside.len(), 1, "the old directory is set aside");
    let kept = std::fs::read(logs.join(&aside[0]).join(&old[0].0)).unwrap();
    assert_eq!(kept, old[0].1);
    cluster.stop_all().await;
    let [first, second, third] = [1, 2, 3].map(|id| log_files(&cluster, id, "t-0"));
    assert!(first == second && second == third);
}

/// Damages the length of a batch that lies `batches` batches behind the first.
fn damage(path: &Path, batches: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let mut at = 0;
    for _ in 0..batches {
        let length: [u8; 4] = bytes[at + 8..at + 12].try_into().unwrap();
        at += 12 + u32::from_be_bytes(length) as usize;
    }
    bytes[at + 8] = 0x7f;
    std::fs::write(path, bytes).unwrap();
}

/// The error of partition 0 in the metadata.
async fn metadata_error(broker: &TestBroker, topic: &str) -> i16 {
    let mut connection = strandline_client::Connection::open(&broker.address())
        .await
        .unwrap();
    let name = m::TopicName(StrBytes::from_string(topic.to_owned()));
    let asked = MetadataRequestTopic::default().with_name(Some(name));
    let request = m::MetadataRequest::default().with_topics(Some(vec![asked]));
    let response: m::MetadataResponse = connection
        .call(ApiKey::Metadata, 9, &request)
        .await
        .unwrap();
    response.topics[0].partitions[0].error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_damaged_below_its_recovery_point_stays_offline_and_others_are_served() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("damaged", 1, &[]).await.unwrap();
    client.create_topic("whole", 1, &[]).await.unwrap();
    produce(&mut client, "damaged", 500, 200).await;
    let mut wanted = produce(&mut client, "whole", 100, 200).await;
    let logs = broker.path().join("log");
    eventually("the recovery point is on disk", || async {
        let points = std::fs::read_to_string(logs.join("recovery-point-offset-checkpoint"));
        points.ok()?.contains("damaged 0 500\n").then_some(())
    })
    .await;
    broker.kill().await;
    let log = logs.join("damaged-0").join(format!("{:020}.log", 0));
    damage(&log, 30);
    let before = std::fs::read(&log).unwrap();
    for stop in 0..3 {
        broker.resume().await;
        eventually("the partition has no leader", || async {
            let error = metadata_error(&broker, "damaged").await;
            let expected = [
                ErrorCode::LeaderNotAvailable.code(),
                ErrorCode::KafkaStorageError.code(),
            ];
            expected.contains(&error).then_some(())
        })
        .await;
        let mut client = broker.client().await;
        let record = RecordToWrite {
            value: Some("x".into()),
            ..RecordToWrite::default()
        };
        let refused = client
            .produce("damaged", 0, Compression::None, &[record])
            .await;
        assert!(refused.is_err(), "no offset is given out again");
        let wait = Duration::from_millis(10);
        assert!(client.fetch("damaged", 0, 0, 1000, wait).await.is_err());
        wanted.extend(produce(&mut client, "whole", 10, 200).await);
        assert_eq!(read_all(&mut client, "whole", 0).await, wanted);
        if stop == 1 {
            broker.stop().await;
        } else {
            broker.kill().await;
        }
        assert!(std::fs::read(&log).unwrap() == before, "no byte is changed");
    }
}
