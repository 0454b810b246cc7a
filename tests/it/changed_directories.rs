//! `log.dirs` and `metadata.log.dir` that are changed between two starts, and disks that are missing at one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use strandline_broker::Server;
use strandline_client::Connection;
use strandline_tests::{TestBroker, TestCluster, eventually, logged};
use strandline_wire::ErrorCode;

use super::*;
use crate::cluster::{expected, read, send};

const TOPICS: [&str; 6] = ["t0", "t1", "t2", "t3", "t4", "t5"];

/// `log.dirs` of these directories of a broker.
fn list(broker: &TestBroker, names: &[&str]) -> String {
    let paths = names.iter().map(|name| broker.path().join(name));
    let paths: Vec<String> = paths.map(|p| p.display().to_string()).collect();
    paths.join(",")
}

/// A broker with these log directories and a topic of one partition for each name.
async fn filled(names: &[&str], topics: &[&str]) -> (TestBroker, BTreeMap<String, Vec<Bytes>>) {
    let mut broker = TestBroker::prepare(&[]);
    broker.set_property("log.dirs", &list(&broker, names));
    broker.resume().await;
    let mut client = broker.client().await;
    let mut wanted = BTreeMap::new();
    for topic in topics {
        client.create_topic(topic, 1, &[]).await.unwrap();
        let values = produce(&mut client, topic, 50, 100).await;
        wanted.insert((*topic).to_owned(), values);
    }
    broker.stop().await;
    (broker, wanted)
}

/// Every file below a directory with its bytes, but for locks.
fn tree(directory: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tree(&path, files);
        } else {
            files.insert(path.display().to_string(), std::fs::read(&path).unwrap());
        }
    }
}

async fn served(broker: &TestBroker, wanted: &BTreeMap<String, Vec<Bytes>>) {
    for (topic, values) in wanted {
        let mut client = eventually("the partition is led", || async {
            let mut client = broker.client().await;
            client
                .list_offset(topic, 0, LATEST)
                .await
                .ok()
                .map(|_| client)
        })
        .await;
        assert_eq!(&read_all(&mut client, topic, 0).await, values, "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_would_found_another_cluster_is_refused_and_changes_nothing() {
    let (mut broker, wanted) = filled(&["a", "b"], &["t0", "t1"]).await;
    let before = {
        let mut files = BTreeMap::new();
        tree(&broker.path().join("a"), &mut files);
        tree(&broker.path().join("b"), &mut files);
        files
    };
    let metadata = list(&broker, &["metadata"]);
    for (key, value) in [
        ("log.dirs", list(&broker, &["new", "a", "b"])),
        ("log.dirs", list(&broker, &["b", "a"])),
        ("metadata.log.dir", metadata.clone()),
    ] {
        broker.set_property(key, &value);
        let refused = Server::start(broker.settings()).await.err();
        let refused = refused.expect("the start is refused").to_string();
        assert!(refused.contains("metadata.log.dir"), "{refused}");
        let home = broker.path().join("a").display().to_string();
        assert!(
            refused.contains(&home),
            "it names where the metadata is: {refused}"
        );
        let mut files = BTreeMap::new();
        tree(&broker.path().join("a"), &mut files);
        tree(&broker.path().join("b"), &mut files);
        assert_eq!(files, before, "{key}={value}");
        broker.set_property("log.dirs", &list(&broker, &["a", "b"]));
        broker.set_property("metadata.log.dir", "");
    }
    broker.resume().await;
    served(&broker, &wanted).await;
    broker.stop().await;

    // And the other way round.
    let mut broker = TestBroker::prepare(&[]);
    broker.set_property("metadata.log.dir", &list(&broker, &["metadata"]));
    broker.resume().await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let values = produce(&mut client, "t", 20, 100).await;
    broker.stop().await;
    let metadata = list(&broker, &["metadata"]);
    broker.set_property("metadata.log.dir", "");
    assert!(Server::start(broker.settings()).await.is_err());
    broker.set_property("metadata.log.dir", &metadata);
    broker.resume().await;
    served(&broker, &[("t".to_owned(), values)].into()).await;
}

/// A start without one directory: only the replicas of that directory are missing.
async fn only_its_own_replicas_are_missing(
    broker: &mut TestBroker,
    wanted: &BTreeMap<String, Vec<Bytes>>,
    gone: &Path,
) {
    let lies_there = |topic: &str| {
        let name = format!("{topic}-0");
        gone.join(&name).exists() || gone.with_extension("aside").join(&name).exists()
    };
    let (missing, here): (BTreeMap<_, _>, BTreeMap<_, _>) =
        wanted.clone().into_iter().partition(|(t, _)| lies_there(t));
    assert!(!missing.is_empty() && !here.is_empty(), "{missing:?}");
    for stop in [true, false] {
        broker.resume().await;
        served(broker, &here).await;
        for topic in missing.keys() {
            let mut client = broker.client().await;
            let refused = client.list_offset(topic, 0, LATEST).await;
            assert!(refused.is_err(), "{topic} is not made anew");
            let told = logged(&["ERROR", &format!("{topic}-0"), "is not here"]);
            assert!(!told.is_empty());
        }
        if stop {
            broker.stop().await;
        } else {
            broker.kill().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lay_in_a_directory_that_was_removed_returns_with_it() {
    let (mut broker, wanted) = filled(&["a", "b", "c"], &TOPICS).await;
    broker.set_property("log.dirs", &list(&broker, &["a", "b"]));
    let gone = broker.path().join("c");
    only_its_own_replicas_are_missing(&mut broker, &wanted, &gone).await;
    broker.set_property("log.dirs", &list(&broker, &["a", "b", "c"]));
    broker.resume().await;
    served(&broker, &wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_replicas_can_be_removed() {
    let (mut broker, wanted) = filled(&["a", "b", "c"], &["t0", "t1"]).await;
    for without in [["a", "b"], ["a", "b"]] {
        broker.set_property("log.dirs", &list(&broker, &without));
        broker.resume().await;
        served(&broker, &wanted).await;
        broker.stop().await;
    }
}

/// The error of a directory in `DescribeLogDirs`.
async fn described(broker: &TestBroker, dir: &Path) -> Option<i16> {
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    log_dir_error(&mut connection, dir).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_starts_without_a_directory_that_cannot_be_opened() {
    let (mut broker, wanted) = filled(&["a", "b", "c"], &TOPICS).await;
    let dir = broker.path().join("c");
    let aside = dir.with_extension("aside");
    std::fs::rename(&dir, &aside).unwrap();
    std::fs::write(&dir, "no directory").unwrap();
    broker.resume().await;
    let error = described(&broker, &dir).await;
    assert_eq!(error, Some(ErrorCode::KafkaStorageError.code()));
    broker.stop().await;
    only_its_own_replicas_are_missing(&mut broker, &wanted, &dir).await;
    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&aside, &dir).unwrap();
    broker.resume().await;
    served(&broker, &wanted).await;
    assert_eq!(described(&broker, &dir).await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_that_lost_their_metadata_join_the_others_and_found_nothing() {
    let mut cluster = TestCluster::start_with_disks(3, &[]).await;
    let mut client = cluster.client(1).await;
    client.create_topic("t", 1, &[]).await.unwrap();
    send(&cluster, "t", 0..20).await;
    // One of three.
    cluster.stop(2).await;
    let aside = |cluster: &TestCluster, id: i32| {
        let metadata = cluster.path(id).join("metadata");
        std::fs::rename(&metadata, metadata.with_extension("aside")).unwrap();
    };
    aside(&cluster, 2);
    cluster.resume(2).await;
    cluster
        .wait_for("t", "it joins", |p| p.isr.len() == 3)
        .await;
    send(&cluster, "t", 20..40).await;
    assert_eq!(read(&cluster, "t").await, expected(0..40));
    // All of them.
    cluster.stop_all().await;
    std::fs::remove_dir_all(cluster.path(2).join("metadata.aside")).unwrap();
    for id in cluster.ids() {
        aside(&cluster, id);
    }
    let ids = cluster.ids();
    let starting = cluster.resume_together(&ids);
    let waited = tokio::time::timeout(Duration::from_secs(4), starting).await;
    assert!(waited.is_err(), "nobody founds another quorum");
}
