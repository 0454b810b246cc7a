//! The directories of partitions in a log directory: their names, which topic each belongs to, and the renames that take
//! one out of use.
//!
//! Crash consistency: a directory is created with its `partition.metadata` before any record is in it, and leaves its name
//! by one rename. A name that ends in `-delete` is removed at the next start; one that ends in `-stray` is kept for a time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use strandline_types::{TimestampMs, TopicId, TopicPartition, base64_id, parse_base64_id};
use uuid::Uuid;

use crate::log_dir::LogDir;
use crate::relocation::REPLACES_ANOTHER;

pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
/// A directory of a deleted topic, waiting to be removed.
const DELETED_SUFFIX: &str = "-delete";
/// A directory that no metadata knows; its name says since when (ms since 1970), until it is removed.
const STRAY_SUFFIX: &str = "-stray";
/// A replica on its way from another log directory.
const FUTURE_SUFFIX: &str = "-future";

/// A partition's directory as found at start.
#[derive(Clone, Debug)]
pub struct PartitionDirectory {
    pub topic_partition: TopicPartition,
    /// Why it is not known, where `partition.metadata` is missing or cannot be read.
    pub topic_id: Result<TopicId, String>,
    pub path: PathBuf,
    /// Another directory of the same partition, in another log directory, is the older one.
    pub replaces_another: bool,
    /// The directory is not complete: a move to it has begun and has not ended.
    pub is_future: bool,
    /// Records were appended to the log in this directory, or may have been.
    pub has_records: bool,
}

/// Directories of one log directory.
#[derive(Clone, Debug, Default)]
pub struct PartitionDirectories {
    pub partitions: Vec<PartitionDirectory>,
    /// Directories of deleted topics that the last process did not remove.
    pub deleted: Vec<PathBuf>,
}

impl LogDir {
    pub fn partition_path(&self, tp: &TopicPartition) -> PathBuf {
        self.path.join(format!("{}-{}", tp.topic, tp.partition))
    }

    /// Where a replica that comes from another log directory is built.
    pub fn future_path(&self, tp: &TopicPartition) -> PathBuf {
        self.path
            .join(format!("{}-{}.0{FUTURE_SUFFIX}", tp.topic, tp.partition))
    }

    /// Creates a partition's directory with its `partition.metadata`; an error if the name is taken. Durable after
    /// [`LogDir::sync`], so that many can be created for the price of one flush.
    pub fn create_partition(&self, tp: &TopicPartition, id: TopicId) -> io::Result<PathBuf> {
        let path = self.partition_path(tp);
        fs::create_dir(&path)?;
        let text = format!("version: 0\ntopic_id: {}\n", base64_id(id.0));
        fs::write(path.join(PARTITION_METADATA), text)?;
        Ok(path)
    }

    /// All directories of partitions.
    pub fn partitions(&self) -> io::Result<PartitionDirectories> {
        let mut found = PartitionDirectories::default();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
            if name.ends_with(STRAY_SUFFIX) || !path.is_dir() {
                continue;
            }
            if name.ends_with(DELETED_SUFFIX) {
                found.deleted.push(path);
            } else if let Some((topic_partition, is_future)) = parse_name(name) {
                found.partitions.push(PartitionDirectory {
                    topic_partition,
                    topic_id: read_topic_id(&path),
                    replaces_another: path.join(REPLACES_ANOTHER).exists(),
                    is_future,
                    has_records: has_records(&path),
                    path,
                });
            }
        }
        Ok(found)
    }

    /// Takes a directory out of use for good: after a crash it is removed at the next start. Returns its new path. Durable
    /// after [`LogDir::sync_names`].
    pub fn retire(path: &Path) -> io::Result<PathBuf> {
        let renamed = with_suffix(path, DELETED_SUFFIX);
        fs::rename(path, &renamed)?;
        Ok(renamed)
    }

    /// Sets a directory aside that no metadata knows. Durable after [`LogDir::sync_names`].
    pub fn quarantine(path: &Path, now_ms: TimestampMs) -> io::Result<PathBuf> {
        let renamed = with_suffix(path, &format!(".{now_ms}{STRAY_SUFFIX}"));
        fs::rename(path, &renamed)?;
        Ok(renamed)
    }

    /// The other directory of a partition that has moved is gone.
    pub fn replaced(path: &Path) -> io::Result<()> {
        fs::remove_file(path.join(REPLACES_ANOTHER))
    }

    /// Removes directories that were set aside at or before `until_ms`; returns their paths.
    pub fn remove_strays(&self, until_ms: TimestampMs) -> io::Result<Vec<PathBuf>> {
        let mut removed = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str());
            let aside = name.and_then(|n| n.strip_suffix(STRAY_SUFFIX));
            let since = aside.and_then(|n| n.rsplit_once('.')?.1.parse::<TimestampMs>().ok());
            if since.is_some_and(|since| since <= until_ms) {
                fs::remove_dir_all(&path)?;
                removed.push(path);
            }
        }
        Ok(removed)
    }
}

/// Partition and whether the directory is that of a move which has not ended; `None` where the name is no partition's.
fn parse_name(name: &str) -> Option<(TopicPartition, bool)> {
    let is_future = name.ends_with(FUTURE_SUFFIX);
    let name = if is_future {
        name.strip_suffix(FUTURE_SUFFIX)?.rsplit_once('.')?.0
    } else {
        name
    };
    let (topic, partition) = name.rsplit_once('-')?;
    let partition = partition.parse().ok()?;
    Some((TopicPartition::new(topic, partition), is_future))
}

fn read_topic_id(path: &Path) -> Result<TopicId, String> {
    let file = path.join(PARTITION_METADATA);
    let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let id = text.lines().find_map(|line| {
        let (key, value) = line.split_once([':', '='])?;
        (key.trim() == "topic_id").then(|| parse_base64_id(value.trim()))?
    });
    id.filter(|id| !id.is_nil())
        .map(TopicId)
        .ok_or_else(|| format!("{}: it names no topic", file.display()))
}

/// Whether a directory may hold records, or once held some. A file that cannot be read counts as records.
fn has_records(path: &Path) -> bool {
    let Ok(entries) = fs::read_dir(path) else {
        return true;
    };
    entries.into_iter().any(|entry| {
        let Ok(entry) = entry else { return true };
        let file = entry.path();
        if file.extension().is_none_or(|e| e != "log") {
            return false;
        }
        let base = file.file_stem().and_then(|s| s.to_str());
        let is_first = base.is_some_and(|b| b.bytes().all(|digit| digit == b'0'));
        !is_first || entry.metadata().map_or(true, |m| m.len() > 0)
    })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}{suffix}", Uuid::new_v4().simple()));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(dir: &LogDir) -> PartitionDirectory {
        dir.partitions().unwrap().partitions.remove(0)
    }

    #[test]
    fn a_directory_belongs_to_the_topic_that_it_names_and_to_none_where_it_names_none() {
        let directory = tempfile::tempdir().unwrap();
        let dir = LogDir::open(directory.path(), 1, None, 0).unwrap();
        let (tp, id) = (TopicPartition::new("a.b-c", 3), TopicId(Uuid::from_u128(7)));
        let path = dir.create_partition(&tp, id).unwrap();
        let here = found(&dir);
        assert_eq!((here.topic_partition, here.topic_id), (tp.clone(), Ok(id)));
        assert!(!here.has_records && !here.is_future && !here.replaces_another);
        let metadata = path.join(PARTITION_METADATA);
        for text in [
            "",
            "version: 0\n",
            "topic_id: AAAAAAAAAAAAAAAAAAAAAA\n",
            "topic_id: x\n",
        ] {
            fs::write(&metadata, text).unwrap();
            assert!(found(&dir).topic_id.is_err(), "{text:?}");
        }
        fs::write(&metadata, [0xff, 0xfe]).unwrap();
        assert!(found(&dir).topic_id.is_err());
        fs::remove_file(&metadata).unwrap();
        assert!(found(&dir).topic_id.is_err());
        fs::create_dir(&metadata).unwrap();
        assert!(found(&dir).topic_id.is_err());
        assert!(dir.create_partition(&tp, id).is_err(), "the name is taken");
    }

    #[test]
    fn a_directory_has_records_when_something_was_appended_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let dir = LogDir::open(directory.path(), 1, None, 0).unwrap();
        let tp = TopicPartition::new("t", 0);
        let path = dir
            .create_partition(&tp, TopicId(Uuid::from_u128(7)))
            .unwrap();
        let first = path.join(format!("{:020}.log", 0));
        fs::write(&first, "").unwrap();
        assert!(!found(&dir).has_records);
        fs::write(&first, "x").unwrap();
        assert!(found(&dir).has_records);
        fs::remove_file(&first).unwrap();
        fs::write(path.join(format!("{:020}.log", 40)), "").unwrap();
        assert!(found(&dir).has_records);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let dir = LogDir::open(directory.path(), 1, None, 0).unwrap();
        let tp = TopicPartition::new("a.b-c", 3);
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let future = name(dir.future_path(&tp));
        assert_eq!(parse_name(&future), Some((tp.clone(), true)));
        assert_eq!(
            parse_name(&name(dir.partition_path(&tp))),
            Some((tp, false))
        );
        assert_eq!(parse_name("lost+found"), None);
    }
}
