//! The standing of each log directory: well, full or failed. Every I/O error of a log directory is reported here: of
//! appends, reads, flushes, rolls, checkpoints, truncation, recovery and moves.
//!
//! A failed directory stays failed until the next start, because nobody knows what of it reached the disk. A full one has
//! lost nothing: an append that did not fit is not in the log. A full directory is well again as soon as there is room. The reader of
//! [`Health::changed`] takes replicas offline and tells the controller (`cluster/standing.rs`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use strandline_log::{DiskSpace, LogDir, LogError};
use tokio::sync::Notify;

/// The meaning of an I/O error for its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The disk, or what connects it.
    Failed,
    Full,
    /// The process has reached a limit of its own, or a file is not what the caller thought.
    Elsewhere,
}

/// Only errors of the operating system say something about a directory: a read behind the end of a file that was cut
/// meanwhile has none.
fn fault_of(error: &io::Error) -> Fault {
    let Some(errno) = Errno::from_io_error(error) else {
        return Fault::Elsewhere;
    };
    match errno {
        Errno::NOSPC | Errno::DQUOT => Fault::Full,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::INTR | Errno::AGAIN
        // A name that is taken, or cannot be one.
        | Errno::EXIST | Errno::NOTEMPTY | Errno::NAMETOOLONG => Fault::Elsewhere,
        _ => Fault::Failed,
    }
}

/// The standing of all log directories of a broker, by their indexes.
#[derive(Debug)]
pub struct Health {
    directories: Vec<Directory>,
    changed: Notify,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    space: Arc<DiskSpace>,
    /// Why it has failed.
    failure: Mutex<Option<String>>,
    failed: AtomicBool,
    full: AtomicBool,
}

impl Health {
    pub(super) fn new(dirs: &[LogDir]) -> Arc<Self> {
        let directories = dirs.iter().map(|dir| Directory {
            path: dir.path.clone(),
            space: dir.space.clone(),
            failure: Mutex::default(),
            failed: AtomicBool::new(false),
            full: AtomicBool::new(!dir.space.has_room()),
        });
        Arc::new(Self {
            directories: directories.collect(),
            changed: Notify::new(),
        })
    }

    pub fn is_failed(&self, index: usize) -> bool {
        let directory = self.directories.get(index);
        directory.is_none_or(|d| d.failed.load(Ordering::Acquire))
    }

    /// Whether appends are refused for want of space.
    pub fn is_full(&self, index: usize) -> bool {
        let directory = self.directories.get(index);
        directory.is_some_and(|d| d.full.load(Ordering::Acquire))
    }

    /// Why a directory has failed.
    pub fn failure(&self, index: usize) -> Option<String> {
        let directory = self.directories.get(index)?;
        directory.failure.lock().expect("no holder panics").clone()
    }

    /// Returns when a directory has another standing, or had since this returned last.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether `bytes` may be appended in a directory without touching its reserve.
    pub fn take(&self, index: usize, bytes: u64) -> bool {
        let Some(directory) = self.directories.get(index) else {
            return false;
        };
        let enough = directory.space.take(bytes);
        if !enough {
            self.note_full(directory);
        }
        enough
    }

    /// Reports an error of a log. Only I/O errors say something about the directory. Returns whether it has failed.
    pub fn report(&self, error: &LogError) -> bool {
        match error {
            LogError::Io { path, source } => self.report_io(path, source),
            LogError::Corrupt { .. } | LogError::Damaged { .. } => false,
        }
    }

    /// Reports an I/O error at `path`, in one of the log directories. Returns whether that directory has failed.
    pub fn report_io(&self, path: &Path, error: &io::Error) -> bool {
        let mut all = self.directories.iter();
        let Some(directory) = all.find(|d| path.starts_with(&d.path)) else {
            return false;
        };
        match fault_of(error) {
            Fault::Failed => {
                self.note_failed(directory, &format!("{}: {error}", path.display()));
                true
            }
            Fault::Full => {
                self.note_full(directory);
                false
            }
            Fault::Elsewhere => false,
        }
    }

    /// A flush has failed. After any error, the kernel may have dropped the pages, so the directory has failed.
    pub(super) fn flush_failed(&self, index: usize, error: &LogError) {
        if let Some(directory) = self.directories.get(index) {
            self.note_failed(directory, &error.to_string());
        }
    }

    /// Looks whether a directory is still the one that was opened, and how much room it has. Blocks.
    pub(super) fn look_at(&self, index: usize, dir: &LogDir) {
        let Some(directory) = self.directories.get(index) else {
            return;
        };
        if directory.failed.load(Ordering::Acquire) {
            return;
        }
        if let Err(error) = dir.check_place().and_then(|()| dir.refresh_space()) {
            self.note_failed(directory, &format!("{}: {error}", dir.path.display()));
            return;
        }
        if !directory.space.has_room() {
            self.note_full(directory);
        } else if directory.space.has_room_again() && directory.full.swap(false, Ordering::AcqRel) {
            tracing::info!(directory = %directory.path.display(), available = directory.space.available_bytes(), "the log directory has room again");
            self.changed.notify_one();
        }
    }

    fn note_failed(&self, directory: &Directory, reason: &str) {
        if directory.failed.swap(true, Ordering::AcqRel) {
            return;
        }
        *directory.failure.lock().expect("no holder panics") = Some(reason.to_owned());
        tracing::error!(directory = %directory.path.display(), error = reason, "the log directory has failed; its replicas are offline until the next start");
        self.changed.notify_one();
    }

    fn note_full(&self, directory: &Directory) {
        if directory.full.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::error!(directory = %directory.path.display(), available = directory.space.available_bytes(), "the log directory is full; its replicas step aside until there is room (strandline.log.dir.reserved.bytes stay free)");
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_disk_fails_a_directory_and_a_limit_of_the_process_does_not() {
        let os = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for errno in [
            Errno::IO,
            Errno::ROFS,
            Errno::NXIO,
            Errno::NODEV,
            Errno::STALE,
            Errno::NOENT,
        ] {
            assert_eq!(fault_of(&os(errno)), Fault::Failed, "{errno:?}");
        }
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            assert_eq!(fault_of(&os(errno)), Fault::Full, "{errno:?}");
        }
        for errno in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::INTR,
            Errno::EXIST,
            Errno::NOTEMPTY,
        ] {
            assert_eq!(fault_of(&os(errno)), Fault::Elsewhere, "{errno:?}");
        }
        let cut = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(fault_of(&cut), Fault::Elsewhere);
    }

    fn two() -> (tempfile::TempDir, Vec<LogDir>, Arc<Health>) {
        let parent = tempfile::tempdir().unwrap();
        let open = |name| LogDir::open(&parent.path().join(name), 1, None, 0).unwrap();
        let dirs = vec![open("a"), open("ab")];
        let health = Health::new(&dirs);
        (parent, dirs, health)
    }

    #[tokio::test]
    async fn an_error_fails_its_own_directory_for_good_and_is_told_once() {
        let (parent, dirs, health) = two();
        let source = io::Error::from_raw_os_error(Errno::IO.raw_os_error());
        let path = parent.path().join("ab").join("t-0").join("0.log");
        assert!(health.report(&LogError::Io { path, source }));
        assert!(!health.is_failed(0) && health.is_failed(1));
        health.changed().await;
        dirs.iter()
            .enumerate()
            .for_each(|(index, dir)| health.look_at(index, dir));
        assert!(health.is_failed(1), "a look that succeeds proves nothing");
        assert!(health.failure(1).unwrap().contains("0.log"));
    }

    #[tokio::test]
    async fn a_directory_that_was_moved_away_or_replaced_has_failed() {
        let (parent, dirs, health) = two();
        std::fs::rename(parent.path().join("a"), parent.path().join("gone")).unwrap();
        health.look_at(0, &dirs[0]);
        assert!(health.is_failed(0));
        std::fs::rename(parent.path().join("ab"), parent.path().join("gone-too")).unwrap();
        std::fs::create_dir(parent.path().join("ab")).unwrap();
        health.look_at(1, &dirs[1]);
        assert!(health.is_failed(1));
    }

    #[tokio::test]
    async fn a_full_directory_is_well_again_when_there_is_room() {
        let (parent, dirs, health) = two();
        let source = io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error());
        let path = parent.path().join("a").join("t-0");
        assert!(!health.report(&LogError::Io { path, source }));
        assert!(health.is_full(0) && !health.is_failed(0) && !health.is_full(1));
        health.changed().await;
        health.look_at(0, &dirs[0]);
        assert!(!health.is_full(0));
        assert!(!health.take(1, u64::MAX));
        assert!(health.is_full(1), "more was wanted than there is");
    }
}
