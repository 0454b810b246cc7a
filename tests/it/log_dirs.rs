//! Several log directories: replicas move between them while they are written to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kafka_protocol::messages as m;
use kafka_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use strandline_client::{Client, Connection};
use strandline_tests::{TestBroker, eventually};
use strandline_wire::{ApiKey, ErrorCode, StrBytes};

use crate::{describe_log_dirs, produce, read_all};

struct Dirs {
    parent: tempfile::TempDir,
}

impl Dirs {
    fn new() -> Self {
        Self {
            parent: tempfile::TempDir::new().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.parent.path().join(name)
    }

    fn list(&self) -> String {
        format!("{},{}", self.path("a").display(), self.path("b").display())
    }

    /// The directory that has the partition, if exactly one has.
    fn home(&self, partition: &str) -> Option<PathBuf> {
        let all = [self.path("a"), self.path("b")];
        let homes: Vec<_> = all
            .into_iter()
            .filter(|d| d.join(partition).exists())
            .collect();
        (homes.len() == 1).then(|| homes[0].clone())
    }

    fn other(&self, than: &Path) -> PathBuf {
        if than == self.path("a") {
            self.path("b")
        } else {
            self.path("a")
        }
    }
}

async fn alter(broker: &TestBroker, topic: &str, path: &Path) -> i16 {
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    let topic = AlterReplicaLogDirTopic::default()
        .with_name(m::TopicName(StrBytes::from_string(topic.to_owned())))
        .with_partitions(vec![0]);
    let dir = AlterReplicaLogDir::default()
        .with_path(StrBytes::from_string(path.display().to_string()))
        .with_topics(vec![topic]);
    let request = m::AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]);
    let response: m::AlterReplicaLogDirsResponse = connection
        .call(ApiKey::AlterReplicaLogDirs, 2, &request)
        .await
        .unwrap();
    response.results[0].partitions[0].error_code
}

/// Path, and whether it is on its way there, of partition 0 in each directory that `DescribeLogDirs` shows it in.
async fn described(broker: &TestBroker, topic: &str) -> Vec<(String, bool)> {
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    let mut found = Vec::new();
    for dir in describe_log_dirs(&mut connection).await {
        let path = dir.log_dir.to_string();
        for listed in dir.topics.into_iter().filter(|t| *t.name.0 == *topic) {
            let partitions = listed.partitions.into_iter();
            found.extend(partitions.map(|p| (path.clone(), p.is_future_key)));
        }
    }
    found
}

async fn small_segments(client: &mut Client) {
    let configs = [("internal.segment.bytes", "20000")];
    client.create_topic("t", 1, &configs).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_moves_to_another_directory_while_it_is_written_to() {
    let dirs = Dirs::new();
    let mut broker = TestBroker::start(&[("log.dirs", &dirs.list())]).await;
    let mut client = broker.client().await;
    small_segments(&mut client).await;
    let mut wanted = produce(&mut client, "t", 500, 200).await;
    let from = dirs.home("t-0").unwrap();
    let to = dirs.other(&from);
    assert_eq!(alter(&broker, "t", &to).await, ErrorCode::None.code());
    // Appends continue until the move has ended, and after it.
    while dirs.home("t-0").as_deref() != Some(&to) {
        wanted.extend(produce(&mut client, "t", 50, 200).await);
    }
    wanted.extend(produce(&mut client, "t", 200, 200).await);
    assert_eq!(read_all(&mut client, "t", 0).await, wanted);
    eventually("one directory is described", || async {
        let now = described(&broker, "t").await;
        (now == [(to.display().to_string(), false)]).then_some(())
    })
    .await;
    broker.stop().await;
    broker.resume().await;
    let mut client = broker.client().await;
    assert_eq!(read_all(&mut client, "t", 0).await, wanted);
    assert_eq!(dirs.home("t-0"), Some(to));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_move_goes_on_after_a_restart_and_can_be_called_off() {
    let dirs = Dirs::new();
    let list = dirs.list();
    let slow = ("replica.alter.log.dirs.io.max.bytes.per.second", "0");
    let mut broker = TestBroker::start(&[("log.dirs", &list), slow]).await;
    let mut client = broker.client().await;
    small_segments(&mut client).await;
    let wanted = produce(&mut client, "t", 300, 200).await;
    let from = dirs.home("t-0").unwrap();
    let to = dirs.other(&from);
    let (here, there) = (from.display().to_string(), to.display().to_string());
    assert_eq!(alter(&broker, "t", &to).await, ErrorCode::None.code());
    let mut both = vec![(here.clone(), false), (there, true)];
    both.sort();
    for _ in 0..2 {
        eventually("the move is under way", || async {
            let mut now = described(&broker, "t").await;
            now.sort();
            (now == both).then_some(())
        })
        .await;
        broker.stop().await;
        broker.resume().await;
    }
    // The target is the present directory: the move is cancelled, and the copied files are deleted.
    assert_eq!(alter(&broker, "t", &from).await, ErrorCode::None.code());
    let is_future =
        |entry: &std::fs::DirEntry| entry.path().display().to_string().ends_with("-future");
    eventually("the copy goes", || async {
        let entries = std::fs::read_dir(&to).ok()?.filter_map(Result::ok);
        (!entries.into_iter().any(|e| is_future(&e))).then_some(())
    })
    .await;
    assert_eq!(described(&broker, "t").await, [(here, false)]);
    let mut client = broker.client().await;
    assert_eq!(read_all(&mut client, "t", 0).await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_that_do_not_exist_and_replicas_that_are_not_here_are_refused() {
    let dirs = Dirs::new();
    let broker = TestBroker::start(&[("log.dirs", &dirs.list())]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let refused = alter(&broker, "t", &dirs.path("c")).await;
    assert_eq!(refused, ErrorCode::LogDirNotFound.code());
    let refused = alter(&broker, "unknown", &dirs.path("a")).await;
    assert_eq!(refused, ErrorCode::UnknownTopicOrPartition.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_a_topic_is_set_aside_and_removed_when_it_is_old() {
    let dirs = Dirs::new();
    let list = dirs.list();
    let mut broker = TestBroker::start(&[
        ("log.dirs", list.as_str()),
        ("log.retention.check.interval.ms", "50"),
        ("strandline.stray.retention.ms", "3000"),
    ])
    .await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    produce(&mut client, "t", 10, 100).await;
    broker.stop().await;
    let home = dirs.home("t-0").unwrap();
    let stray = dirs.path("a").join("unknown-0");
    std::fs::create_dir(&stray).unwrap();
    for file in std::fs::read_dir(home.join("t-0")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), stray.join(file.file_name())).unwrap();
    }
    std::fs::write(
        stray.join("partition.metadata"),
        "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAg\n",
    )
    .unwrap();
    broker.resume().await;
    let aside = || {
        let entries = std::fs::read_dir(dirs.path("a")).unwrap();
        entries
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .any(|name| name.starts_with("unknown-0.") && name.ends_with("-stray"))
    };
    assert!(aside(), "it is set aside, not deleted");
    assert!(!stray.exists());
    let began = std::time::Instant::now();
    eventually("it is removed", || async { (!aside()).then_some(()) }).await;
    assert!(
        began.elapsed() > Duration::from_secs(1),
        "not before its time"
    );
    let mut client = broker.client().await;
    assert_eq!(read_all(&mut client, "t", 0).await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_directories_of_a_partition_the_one_that_replaces_the_other_stays() {
    let dirs = Dirs::new();
    let list = dirs.list();
    let mut broker = TestBroker::start(&[("log.dirs", list.as_str())]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    produce(&mut client, "t", 20, 100).await;
    broker.stop().await;
    let old = dirs.home("t-0").unwrap();
    let (old, new) = (old.join("t-0"), dirs.other(&old).join("t-0"));
    let copy = |from: &Path, to: &Path| {
        std::fs::create_dir(to).unwrap();
        for file in std::fs::read_dir(from).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    };
    // The move has ended, and the process died before the old directory was deleted.
    copy(&old, &new);
    let marker = new.join("replaces-another-directory");
    std::fs::write(&marker, "").unwrap();
    broker.resume().await;
    assert!(new.exists() && !old.exists() && !marker.exists());
    let mut client = broker.client().await;
    let mut wanted = read_all(&mut client, "t", 0).await;
    assert_eq!(wanted.len(), 20);
    wanted.extend(produce(&mut client, "t", 20, 100).await);
    broker.stop().await;
    broker.resume().await;
    assert_eq!(read_all(&mut broker.client().await, "t", 0).await, wanted);
}
