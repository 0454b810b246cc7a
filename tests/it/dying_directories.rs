//! Log directories that fail, disappear, fill up and come back, under three brokers with two each.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use strandline_tests::{PartitionState, TestCluster, eventually, logged};
use strandline_wire::ErrorCode;

use crate::cluster::{expected, read, send, set_configs};
use crate::log_dir_error;

const TOPIC: &str = "t";
const SMALL: [(&str, &str); 2] = [("min.insync.replicas", "2"), ("log.segment.bytes", "2000")];

/// The log directory of a node that holds partition 0.
fn home(cluster: &TestCluster, id: i32) -> PathBuf {
    let dirs = ["a", "b"].map(|name| cluster.path(id).join(name));
    let home = dirs.into_iter().find(|d| d.join("t-0").exists());
    home.expect("the replica is here")
}

async fn all_in_sync(cluster: &TestCluster) -> PartitionState {
    let what = "all replicas are in sync";
    cluster.wait_for(TOPIC, what, |p| p.isr.len() == 3).await
}

/// The bytes of partition 0's log on a node.
fn log_bytes(home: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(home.join("t-0")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let mut logs: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(&path).unwrap())
        })
        .collect();
    logs.sort();
    logs
}

/// A fault of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Another place than the one that was opened: its file system was unmounted.
    Gone,
    /// No segment can be begun.
    Roll,
    /// No checkpoint can be written.
    Checkpoint,
}

impl Fault {
    fn strike(self, home: &Path) {
        match self {
            Self::Gone => std::fs::rename(home, aside(home)).unwrap(),
            Self::Roll => std::fs::rename(home.join("t-0"), home.join("aside")).unwrap(),
            Self::Checkpoint => std::fs::create_dir(in_the_way(home)).unwrap(),
        }
    }

    fn undo(self, home: &Path) {
        match self {
            Self::Gone => std::fs::rename(aside(home), home).unwrap(),
            Self::Roll => std::fs::rename(home.join("aside"), home.join("t-0")).unwrap(),
            Self::Checkpoint => std::fs::remove_dir(in_the_way(home)).unwrap(),
        }
    }
}

fn aside(home: &Path) -> PathBuf {
    home.with_extension("aside")
}

fn in_the_way(home: &Path) -> PathBuf {
    home.join("recovery-point-offset-checkpoint.tmp")
}

/// The directory of the leader fails: others lead at once, the operator is told once, and the directory is taken again at
/// the next start.
async fn a_leader_loses_its_directory(fault: Fault) {
    let mut cluster = TestCluster::start_with_disks(3, &SMALL).await;
    let mut client = cluster.client(1).await;
    client.create_topic(TOPIC, 1, &[]).await.unwrap();
    client.create_topic("other", 2, &[]).await.unwrap();
    send(&cluster, TOPIC, 0..100).await;
    let before = all_in_sync(&cluster).await;
    let home = home(&cluster, before.leader);
    let began = Instant::now();
    fault.strike(&home);
    // The records themselves meet the fault, where nothing else does.
    send(&cluster, TOPIC, 100..200).await;
    let after = cluster
        .wait_for(TOPIC, "another leads", |p| {
            p.leader != before.leader && !p.isr.contains(&before.leader)
        })
        .await;
    assert!(after.leader_epoch > before.leader_epoch);
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    send(&cluster, TOPIC, 200..300).await;
    let storage_error = ErrorCode::KafkaStorageError.code();
    let error = log_dir_error(&mut cluster.connection(before.leader).await, &home).await;
    assert_eq!(error, Some(storage_error));
    let name = home.display().to_string();
    let told = logged(&["ERROR", "the log directory has failed", &name]);
    assert_eq!(told.len(), 1, "{told:?}");
    let metrics = cluster.http_get(before.leader, "/metrics").await;
    let gauge = format!("strandline_log_dir_offline{{dir=\"{name}\"}} 1");
    assert!(metrics.contains(&gauge), "{metrics}");
    cluster.stop(before.leader).await;
    fault.undo(&home);
    cluster.resume(before.leader).await;
    all_in_sync(&cluster).await;
    assert_eq!(read(&cluster, TOPIC).await, expected(0..300));
    eventually("all replicas have the same bytes", || async {
        let [first, second, third] = [1, 2, 3].map(|id| log_bytes(&self::home(&cluster, id)));
        (first == second && second == third).then_some(())
    })
    .await;
    assert_eq!(
        log_dir_error(&mut cluster.connection(before.leader).await, &home).await,
        Some(0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_not_there_any_more_is_offline() {
    a_leader_loses_its_directory(Fault::Gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_which_no_segment_can_be_begun_is_offline() {
    a_leader_loses_its_directory(Fault::Roll).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_which_no_checkpoint_can_be_written_is_offline() {
    a_leader_loses_its_directory(Fault::Checkpoint).await;
}

const RESERVE: &str = "strandline.log.dir.reserved.bytes";
/// More than any disk has.
const EVERYTHING: &str = "9000000000000000";
const NOTHING: &str = "0";

/// Fills a node's disks, or gives it room again.
async fn set_reserve(cluster: &TestCluster, id: i32, bytes: &str) {
    let mut connection = cluster.connection(id).await;
    set_configs(&mut connection, 4, &id.to_string(), &[(RESERVE, bytes)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_leader_and_a_full_follower_step_aside_and_come_back_when_there_is_room() {
    let cluster = TestCluster::start_with_disks(3, &SMALL).await;
    let mut client = cluster.client(1).await;
    client.create_topic(TOPIC, 1, &[]).await.unwrap();
    send(&cluster, TOPIC, 0..50).await;
    let mut sent = 50;
    for leads in [true, false] {
        let before = all_in_sync(&cluster).await;
        let mut others = before.isr.iter().copied().filter(|id| *id != before.leader);
        let full = if leads {
            before.leader
        } else {
            others.next().unwrap()
        };
        set_reserve(&cluster, full, EVERYTHING).await;
        let began = Instant::now();
        send(&cluster, TOPIC, sent..sent + 50).await;
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
        sent += 50;
        cluster
            .wait_for(TOPIC, "the full replica is out of the way", |p| {
                p.leader != full && p.isr.len() == 2 && !p.isr.contains(&full)
            })
            .await;
        set_reserve(&cluster, full, NOTHING).await;
        all_in_sync(&cluster).await;
    }
    assert_eq!(read(&cluster, TOPIC).await, expected(0..sent));
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disks_everywhere_leave_a_leader_that_serves_reads() {
    let cluster = TestCluster::start_with_disks(3, &SMALL).await;
    let mut client = cluster.client(1).await;
    let alone = [("min.insync.replicas", "1")];
    client.create_topic(TOPIC, 1, &alone).await.unwrap();
    send(&cluster, TOPIC, 0..50).await;
    all_in_sync(&cluster).await;
    for id in cluster.ids() {
        set_reserve(&cluster, id, EVERYTHING).await;
    }
    cluster
        .wait_for(TOPIC, "one replica stays", |p| p.isr.len() == 1)
        .await;
    assert_eq!(read(&cluster, TOPIC).await, expected(0..50));
    for id in cluster.ids() {
        set_reserve(&cluster, id, NOTHING).await;
    }
    all_in_sync(&cluster).await;
    send(&cluster, TOPIC, 50..100).await;
    assert_eq!(read(&cluster, TOPIC).await, expected(0..100));
}
