//! Images applied to real directories: topics deleted and made again, replicas that cannot open, checkpoints of both.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use strandline_log::{LogDir, ProducerState};
use strandline_metadata::config::BrokerConfig;
use strandline_metadata::{ClusterImage, MetadataRecord, PartitionImage};
use strandline_types::{BrokerId, EpochStart, LeaderEpoch, TopicId, TopicIdPartition};
use strandline_wire::batch::{BatchBuilder, BatchHeader, RecordToWrite, ValidatedBatch};
use strandline_wire::compression::Compression;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::handle::Partition;
use super::log_dirs::LogDirs;
use super::table::PartitionManager;

const NODE: BrokerId = BrokerId(1);

/// A broker's partitions over directories of their own.
struct Node {
    parent: tempfile::TempDir,
    manager: Arc<PartitionManager>,
    image: ClusterImage,
}

fn id(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

fn state() -> PartitionImage {
    PartitionImage {
        replicas: vec![NODE],
        isr: vec![NODE],
        leader: Some(NODE),
        leader_epoch: LeaderEpoch(1),
        ..PartitionImage::default()
    }
}

fn paths(parent: &Path) -> [PathBuf; 2] {
    [parent.join("a"), parent.join("b")]
}

fn start(parent: &Path) -> Arc<PartitionManager> {
    let dirs = LogDirs::open(&paths(parent), NODE.0, Some("c"), 0, parent).unwrap();
    let (requests, _) = mpsc::unbounded_channel();
    Arc::new(PartitionManager::new(NODE, dirs, 1, requests).unwrap())
}

impl Node {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let manager = start(parent.path());
        Self {
            parent,
            manager,
            image: ClusterImage::default(),
        }
    }

    /// Changes the image by all records at once.
    async fn apply(&mut self, records: Vec<MetadataRecord>) {
        for record in records {
            self.image.apply(record);
        }
        self.image.applied_index += 1;
        let image = Arc::new(self.image.clone());
        self.manager.apply(image, BrokerConfig::default()).await;
    }

    /// A process that was killed, and the next one.
    async fn kill_and_start(&mut self, crash: impl FnOnce(&Path)) {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(self.parent.path(), copy.path());
        self.manager.shutdown().await;
        self.parent = copy;
        crash(self.parent.path());
        self.manager = start(self.parent.path());
    }

    fn get(&self) -> Option<Arc<Partition>> {
        self.manager.get("t", 0)
    }

    /// Appends a batch of one record; returns its offset.
    async fn append(&self, value: &'static str) -> i64 {
        self.append_in(LeaderEpoch(1), value).await
    }

    async fn append_in(&self, epoch: LeaderEpoch, value: &'static str) -> i64 {
        let partition = self.get().expect("the partition is here");
        let appended = partition.run(move |owned| {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.push(&RecordToWrite {
                value: Some(Bytes::from_static(value.as_bytes())),
                ..RecordToWrite::default()
            });
            let bytes = builder.build();
            let header = BatchHeader::decode(&bytes).unwrap();
            let batch = ValidatedBatch { header, bytes };
            let results = owned.log.append(&[batch], epoch, 1_000_000);
            results.into_iter().next().unwrap().unwrap().base_offset
        });
        appended.await.unwrap()
    }

    /// The bytes of partition 0's first segment, wherever it lies.
    fn bytes(&self) -> Vec<u8> {
        let files: Vec<_> = paths(self.parent.path())
            .iter()
            .map(|dir| dir.join("t-0").join(format!("{:020}.log", 0)))
            .filter(|path| path.exists())
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
        std::fs::read(&files[0]).unwrap()
    }

    fn home(&self) -> PathBuf {
        let all = paths(self.parent.path());
        let mut homes = all.iter().map(|dir| dir.join("t-0"));
        homes.find(|path| path.exists()).expect("a directory")
    }

    /// Names in all log directories that begin with the partition's and end with `suffix`.
    fn names(&self, suffix: &str) -> usize {
        let dirs = paths(self.parent.path());
        let entries = dirs.iter().flat_map(|dir| std::fs::read_dir(dir).unwrap());
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.starts_with("t-0") && name.ends_with(suffix))
            .count()
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn create(number: u128) -> Vec<MetadataRecord> {
    vec![
        MetadataRecord::Topic {
            id: id(number),
            name: "t".into(),
        },
        MetadataRecord::Partition {
            topic_id: id(number),
            partition: 0,
            state: state(),
        },
    ]
}

fn delete_and_create(old: u128, new: u128) -> Vec<MetadataRecord> {
    let mut records = vec![MetadataRecord::RemoveTopic { id: id(old) }];
    records.extend(create(new));
    records
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|w| w == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_and_made_again_in_one_image_has_a_directory_of_its_own() {
    let mut node = Node::new();
    node.apply(create(1)).await;
    node.append("old").await;
    // Several times, so that the new directory is in the log directory of the old one at least once.
    for number in 2..6 {
        node.apply(delete_and_create(number - 1, number)).await;
        let partition = node.get().unwrap();
        assert_eq!(partition.topic_id, id(number));
        assert_eq!(partition.view().log_end_offset, 0);
        assert_eq!(node.append("new").await, 0);
        let bytes = node.bytes();
        assert!(contains(&bytes, "new") && !contains(&bytes, "old"));
        let metadata = std::fs::read_to_string(node.home().join("partition.metadata")).unwrap();
        assert!(metadata.contains(&strandline_types::base64_id(id(number).0)));
    }
    node.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_while_the_broker_is_down_has_nothing_of_the_old_one() {
    let mut node = Node::new();
    node.apply(create(1)).await;
    node.append("old").await;
    node.manager.write_checkpoints();
    node.kill_and_start(|_| {}).await;
    node.apply(delete_and_create(1, 2)).await;
    assert_eq!(node.get().unwrap().view().log_end_offset, 0);
    node.append("new").await;
    assert!(!contains(&node.bytes(), "old"));
    assert_eq!(node.names("-stray"), 1, "the old one is set aside");
    node.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_of_a_deleted_topic_say_nothing_of_its_successor() {
    let mut node = Node::new();
    node.apply(create(1)).await;
    for _ in 0..20 {
        node.append("old").await;
    }
    let partition = node.get().unwrap();
    let moved = partition.run(|owned| {
        owned.log.advance_high_watermark(20);
        owned.log.advance_log_start(10)
    });
    moved.await.unwrap().unwrap();
    node.manager.write_checkpoints();
    // Until both log directories have had their turn.
    for number in 2..4 {
        node.apply(delete_and_create(number - 1, number)).await;
        for _ in 0..3 {
            node.append("new").await;
        }
        node.kill_and_start(|_| {}).await;
        node.apply(vec![]).await;
        let view = node.get().unwrap().view();
        assert_eq!((view.log_start_offset, view.log_end_offset), (0, 3));
        assert!(contains(&node.bytes(), "new"));
    }
    node.manager.shutdown().await;
}

/// Damages the length of the first batch.
fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[8] = 0x7f;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_failed_to_open_stays_offline_and_unchanged_over_restarts() {
    let mut node = Node::new();
    node.apply(create(1)).await;
    for _ in 0..20 {
        node.append("acknowledged").await;
    }
    let partition = node.get().unwrap();
    let flushed = partition.run(|owned| owned.log.mark_flushed(20)).await;
    flushed.unwrap();
    node.manager.write_checkpoints();
    let home = node.home();
    let home = home.strip_prefix(node.parent.path()).unwrap().to_owned();
    let log = home.join(format!("{:020}.log", 0));
    node.kill_and_start(|parent| damage(&parent.join(&log)))
        .await;
    let before = std::fs::read(node.parent.path().join(&log)).unwrap();
    for stop in 0..3 {
        for _ in 0..3 {
            // Each image is another chance to open it with other rules.
            node.apply(create(1)).await;
            assert!(node.get().is_none());
        }
        node.manager.write_checkpoints();
        if stop == 1 {
            node.manager.shutdown().await;
            node.manager = start(node.parent.path());
        } else {
            node.kill_and_start(|_| {}).await;
        }
        let now = std::fs::read(node.parent.path().join(&log)).unwrap();
        assert_eq!(now, before, "no byte is changed");
        assert_eq!(node.names(""), 1, "and no other directory is made");
    }
    // Deleted in the end: the name is free again.
    node.apply(create(1)).await;
    node.apply(delete_and_create(1, 2)).await;
    assert_eq!(node.append("new").await, 0);
    assert_eq!(node.names("-stray"), 1);
    node.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_recovery_points_nothing_is_cut_and_whole_logs_open() {
    let mut node = Node::new();
    node.apply(create(1)).await;
    for _ in 0..20 {
        node.append("acknowledged").await;
    }
    node.manager.write_checkpoints();
    let log = node.home().join(format!("{:020}.log", 0));
    let log = log.strip_prefix(node.parent.path()).unwrap().to_owned();
    let lose = |parent: &Path| {
        for dir in paths(parent) {
            std::fs::write(dir.join("recovery-point-offset-checkpoint"), "0\n7\n").unwrap();
        }
    };
    node.kill_and_start(lose).await;
    node.apply(vec![]).await;
    assert_eq!(node.get().unwrap().view().log_end_offset, 20);
    node.kill_and_start(|parent| {
        lose(parent);
        damage(&parent.join(&log));
    })
    .await;
    let before = std::fs::read(node.parent.path().join(&log)).unwrap();
    for _ in 0..2 {
        node.apply(create(1)).await;
        assert!(node.get().is_none());
        node.manager.write_checkpoints();
        node.kill_and_start(|_| {}).await;
        let now = std::fs::read(node.parent.path().join(&log)).unwrap();
        assert_eq!(now, before);
    }
    node.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_records_that_names_no_topic_is_neither_opened_nor_shadowed() {
    let mut node = Node::new();
    node.apply(create(1)).await;
    node.append("acknowledged").await;
    let home = node.home();
    let home = home.strip_prefix(node.parent.path()).unwrap().to_owned();
    let lose = |parent: &Path| {
        std::fs::write(parent.join(&home).join("partition.metadata"), "").unwrap();
    };
    node.kill_and_start(lose).await;
    node.apply(create(1)).await;
    assert!(node.get().is_none());
    assert!(contains(&node.bytes(), "acknowledged"));
    assert_eq!(node.names(""), 1);
    // Repaired by hand, the log is there again.
    let repair = |parent: &Path| {
        let text = format!(
            "version: 0\ntopic_id: {}\n",
            strandline_types::base64_id(id(1).0)
        );
        std::fs::write(parent.join(&home).join("partition.metadata"), text).unwrap();
    };
    node.kill_and_start(repair).await;
    node.apply(create(1)).await;
    assert_eq!(node.get().unwrap().view().log_end_offset, 1);
    node.manager.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_cannot_be_freed_is_not_used_for_another_topic() {
    let mut node = Node::new();
    // Something that was never found at start has the name.
    for dir in paths(node.parent.path()) {
        std::fs::create_dir(dir.join("t-0")).unwrap();
        std::fs::write(dir.join("t-0").join(format!("{:020}.log", 0)), "old").unwrap();
    }
    node.apply(create(1)).await;
    assert!(node.get().is_none());
    let failed = TopicIdPartition {
        topic_id: id(1),
        partition: 0,
    };
    assert!(node.manager.has_failed(&failed));
    for dir in paths(node.parent.path()) {
        let log = dir.join("t-0").join(format!("{:020}.log", 0));
        assert_eq!(std::fs::read(log).unwrap(), b"old");
    }
    node.manager.shutdown().await;
}

#[test]
fn a_retired_directory_is_found_for_removal_at_the_next_start() {
    let parent = tempfile::tempdir().unwrap();
    let dir = LogDir::open(parent.path(), 1, None, 0).unwrap();
    let tp = strandline_types::TopicPartition::new("t", 0);
    let path = dir.create_partition(&tp, id(1)).unwrap();
    let retired = LogDir::retire(&path).unwrap();
    let found = dir.partitions().unwrap();
    assert!(found.partitions.is_empty());
    assert_eq!(found.deleted, [retired]);
}

/// Both wrote it by way of one temporary file. The one whose file was gone took the log directory offline.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_and_a_log_that_begins_again_write_one_lineage() {
    const TIMES: i32 = 100;
    let mut node = Node::new();
    node.apply(create(1)).await;
    let partition = node.get().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let checkpoints = {
        let (manager, stop) = (node.manager.clone(), stop.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                manager.write_checkpoints();
            }
        })
    };
    let lineage = |last: i32| -> Vec<EpochStart> {
        let epochs = (1..=last).map(|epoch| EpochStart {
            epoch: LeaderEpoch(epoch),
            start_offset: i64::from(epoch) * 10,
        });
        epochs.collect()
    };
    for last in 1..=TIMES {
        // The checkpoint has a lineage to write.
        node.append_in(LeaderEpoch(last), "x").await;
        let epochs = lineage(last);
        let offset = i64::from(last) * 10 + 5;
        let begun = partition.run(move |owned| {
            owned.start_behind_cold_tier(offset, 0, epochs, ProducerState::default())
        });
        begun.await.unwrap().unwrap();
        assert!(!partition.is_offline() && !partition.is_on_failed_directory());
    }
    stop.store(true, Ordering::Relaxed);
    checkpoints.join().unwrap();
    let written = std::fs::read_to_string(node.home().join("leader-epoch-checkpoint")).unwrap();
    let entries = lineage(TIMES);
    let entries = entries
        .iter()
        .map(|e| format!("{} {}\n", e.epoch, e.start_offset));
    assert_eq!(
        written,
        format!("0\n{TIMES}\n{}", entries.collect::<String>())
    );
    node.manager.shutdown().await;
}
