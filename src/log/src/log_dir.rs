//! One entry of `log.dirs`: its lock, identity, checkpoints, clean-shutdown marker and free space.
//!
//! Crash consistency: the marker `.kafka_cleanshutdown` is written last at a clean stop and removed first at the next
//! start, so a crash at any point in between counts as unclean.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strandline_types::{base64_id, parse_base64_id};
use thiserror::Error;
use uuid::Uuid;

use crate::checkpoint::{
    OffsetCheckpoint, read_offset_checkpoint, sync_directory, write_atomically,
    write_offset_checkpoint,
};
use crate::directory_place::DirectoryPlace;

const META_PROPERTIES: &str = "meta.properties";
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
const LOCK: &str = ".lock";
const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
const LOG_STARTS: &str = "log-start-offset-checkpoint";
#[derive(Debug, Error)]
pub enum LogDirError {
    #[error("log.dirs: {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("log.dirs: {} is in use by another process", .0.display())]
    Locked(PathBuf),
    #[error("log.dirs: {} belongs to {what} {found}, not to {wanted}", path.display())]
    Foreign {
        path: PathBuf,
        what: &'static str,
        found: String,
        wanted: String,
    },
}

/// A log directory, locked for this process until it is released or the value is dropped.
#[derive(Debug)]
pub struct LogDir {
    pub path: PathBuf,
    /// KIP-858's directory id.
    pub directory_id: Uuid,
    pub space: Arc<DiskSpace>,
    /// The last stop was clean.
    pub clean: bool,
    lock: File,
    place: DirectoryPlace,
}

/// Bytes that may still be appended before the reserve is touched.
#[derive(Debug, Default)]
pub struct DiskSpace {
    available: AtomicU64,
    total: AtomicU64,
    reserve: AtomicU64,
}

/// A directory that was full has room again when this much is free above its reserve, or a share of a small disk.
const ROOM_AGAIN_BYTES: u64 = 64 << 20;
const ROOM_AGAIN_SHARE: u64 = 32;

impl DiskSpace {
    /// Asks the file system.
    fn refresh(&self, path: &Path) -> io::Result<()> {
        let stat = rustix::fs::statvfs(path)?;
        self.available
            .store(stat.f_bavail * stat.f_frsize, Ordering::Release);
        self.total
            .store(stat.f_blocks * stat.f_frsize, Ordering::Release);
        Ok(())
    }

    /// Whether `bytes` may be appended; counts them as used until the next refresh.
    pub fn take(&self, bytes: u64) -> bool {
        let enough = |available: u64| {
            available
                .checked_sub(bytes)
                .filter(|left| *left >= self.reserve.load(Ordering::Acquire))
        };
        self.available
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, enough)
            .is_ok()
    }

    /// Keeps this many bytes free from now on.
    pub fn set_reserve(&self, bytes: u64) {
        self.reserve.store(bytes, Ordering::Release);
    }

    /// Whether anything may be appended.
    pub fn has_room(&self) -> bool {
        self.available_bytes() > self.reserve.load(Ordering::Acquire)
    }

    /// Whether a directory that was full may be used again: not for a few records only.
    pub fn has_room_again(&self) -> bool {
        let margin = ROOM_AGAIN_BYTES.min(self.total_bytes() / ROOM_AGAIN_SHARE);
        self.available_bytes() > self.reserve.load(Ordering::Acquire).saturating_add(margin)
    }

    pub fn available_bytes(&self) -> u64 {
        self.available.load(Ordering::Acquire)
    }

    pub fn total_bytes(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }
}

impl LogDir {
    /// Opens, or formats if it is empty, a log directory for `node_id` of cluster `cluster_id` (`None`: not yet known).
    ///
    /// `reserve_bytes` is kept free: produces are refused before the file system is full.
    pub fn open(
        path: &Path,
        node_id: i32,
        cluster_id: Option<&str>,
        reserve_bytes: u64,
    ) -> Result<Self, LogDirError> {
        let io = |source| LogDirError::Io {
            path: path.to_path_buf(),
            source,
        };
        fs::create_dir_all(path).map_err(io)?;
        let lock = File::create(path.join(LOCK)).map_err(io)?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| LogDirError::Locked(path.to_path_buf()))?;
        check_cluster(
            path,
            &read_properties(&path.join(META_PROPERTIES)),
            cluster_id,
        )?;
        // The cluster's id is written when its metadata is known to be on disk: see `adopt_cluster_id`.
        let directory_id = identify(path, node_id, None)?;
        let marker = path.join(CLEAN_SHUTDOWN);
        let clean = marker.exists();
        if clean {
            fs::remove_file(&marker).map_err(io)?;
            sync_directory(path).map_err(io)?;
        }
        let space = DiskSpace {
            reserve: reserve_bytes.into(),
            ..DiskSpace::default()
        };
        space.refresh(path).map_err(io)?;
        Ok(Self {
            path: path.to_path_buf(),
            directory_id,
            space: Arc::new(space),
            clean,
            lock,
            place: DirectoryPlace::of(path).map_err(io)?,
        })
    }

    /// See [`DirectoryPlace::check`].
    pub fn check_place(&self) -> io::Result<()> {
        self.place.check()
    }

    /// Writes the cluster id where the directory was formatted before one was known.
    pub fn adopt_cluster_id(&self, node_id: i32, cluster_id: &str) -> Result<(), LogDirError> {
        identify(&self.path, node_id, Some(cluster_id)).map(|_| ())
    }

    /// The cluster id that the directory was formatted with.
    pub fn stored_cluster_id(path: &Path) -> Option<String> {
        read_properties(&path.join(META_PROPERTIES)).remove("cluster.id")
    }

    pub fn refresh_space(&self) -> io::Result<()> {
        self.space.refresh(&self.path)
    }

    /// Makes everything that was created in this directory durable.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.path)?)?)
    }

    /// Makes the names of partition directories that were created, renamed or removed durable.
    pub fn sync_names(&self) -> io::Result<()> {
        sync_directory(&self.path)
    }

    pub fn read_recovery_points(&self) -> io::Result<OffsetCheckpoint> {
        read_offset_checkpoint(&self.path.join(RECOVERY_POINTS))
    }

    pub fn read_high_watermarks(&self) -> io::Result<OffsetCheckpoint> {
        read_offset_checkpoint(&self.path.join(HIGH_WATERMARKS))
    }

    pub fn read_log_starts(&self) -> io::Result<OffsetCheckpoint> {
        read_offset_checkpoint(&self.path.join(LOG_STARTS))
    }

    pub fn write_recovery_points(&self, points: &OffsetCheckpoint) -> io::Result<()> {
        write_offset_checkpoint(&self.path.join(RECOVERY_POINTS), points)
    }

    pub fn write_high_watermarks(&self, watermarks: &OffsetCheckpoint) -> io::Result<()> {
        write_offset_checkpoint(&self.path.join(HIGH_WATERMARKS), watermarks)
    }

    pub fn write_log_starts(&self, starts: &OffsetCheckpoint) -> io::Result<()> {
        write_offset_checkpoint(&self.path.join(LOG_STARTS), starts)
    }

    /// The last step of a clean stop.
    pub fn mark_clean(&self) -> io::Result<()> {
        write_atomically(&self.path.join(CLEAN_SHUTDOWN), b"{\"version\":0}\n")
    }

    /// Lets another broker take the directory, even while other owners of this value exist.
    pub fn release(&self) -> io::Result<()> {
        Ok(rustix::fs::flock(
            &self.lock,
            rustix::fs::FlockOperation::Unlock,
        )?)
    }
}

fn check_cluster(
    path: &Path,
    properties: &BTreeMap<String, String>,
    wanted: Option<&str>,
) -> Result<(), LogDirError> {
    match (properties.get("cluster.id"), wanted) {
        (Some(found), Some(wanted)) if found != wanted => Err(LogDirError::Foreign {
            path: path.to_path_buf(),
            what: "cluster",
            found: found.clone(),
            wanted: wanted.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Checks or writes a directory's `meta.properties`; returns its `directory.id`.
pub fn identify(path: &Path, node_id: i32, cluster_id: Option<&str>) -> Result<Uuid, LogDirError> {
    let file = path.join(META_PROPERTIES);
    let mut properties = read_properties(&file);
    let foreign = |what, found: &str, wanted: &str| LogDirError::Foreign {
        path: path.to_path_buf(),
        what,
        found: found.to_owned(),
        wanted: wanted.to_owned(),
    };
    let node = node_id.to_string();
    if let Some(found) = properties.get("node.id").filter(|found| **found != node) {
        return Err(foreign("node.id", found, &node));
    }
    check_cluster(path, &properties, cluster_id)?;
    let directory_id = properties
        .get("directory.id")
        .and_then(|id| parse_base64_id(id))
        .unwrap_or_else(Uuid::new_v4);
    let before = properties.clone();
    properties.insert("version".into(), "1".into());
    properties.insert("node.id".into(), node);
    properties.insert("directory.id".into(), base64_id(directory_id));
    if let Some(id) = cluster_id {
        properties.insert("cluster.id".into(), id.to_owned());
    }
    if properties != before {
        let text: String = properties
            .iter()
            .map(|(k, v)| format!("{k}={v}\n"))
            .collect();
        write_atomically(&file, text.as_bytes()).map_err(|source| LogDirError::Io {
            path: file.clone(),
            source,
        })?;
    }
    Ok(directory_id)
}

/// `key=value` or `key: value` lines.
fn read_properties(path: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(['=', ':']))
        .map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_another_node_or_cluster_or_process_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let first = LogDir::open(directory.path(), 1, Some("abc"), 0).unwrap();
        assert!(!first.clean);
        assert_eq!(LogDir::stored_cluster_id(directory.path()), None);
        first.adopt_cluster_id(1, "abc").unwrap();
        assert!(matches!(
            LogDir::open(directory.path(), 1, Some("abc"), 0),
            Err(LogDirError::Locked(_))
        ));
        first.mark_clean().unwrap();
        let id = first.directory_id;
        first.release().unwrap();
        let text = |r: Result<LogDir, LogDirError>| r.unwrap_err().to_string();
        assert!(text(LogDir::open(directory.path(), 2, Some("abc"), 0)).contains("node.id"));
        assert!(text(LogDir::open(directory.path(), 1, Some("xyz"), 0)).contains("cluster"));
        let again = LogDir::open(directory.path(), 1, None, 0).unwrap();
        assert!(again.clean);
        assert_eq!(again.directory_id, id);
    }

    #[test]
    fn space_runs_out_before_the_reserve_is_touched() {
        let space = DiskSpace {
            available: 1000.into(),
            total: 2000.into(),
            reserve: 900.into(),
        };
        assert!(space.take(60));
        assert!(!space.take(60));
        assert!(space.take(40));
    }
}
