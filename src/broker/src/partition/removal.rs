//! Removing partitions that this broker has no replica of any more.
//!
//! A partition is closed first: its owner drops the log, and the directory is renamed, so that its name is free. Files are
//! unlinked later, one directory after the other, by a thread of their own. Crash consistency: a renamed directory is found
//! at the next start and put into the queue again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use strandline_log::LogDir;
use tokio::sync::oneshot;

use super::handle::Partition;
use super::shard::ShardMessage;
use super::table::PartitionManager;

/// Directories that wait to be unlinked: at most one for each partition that was here.
pub(super) struct Removals {
    /// `None` after [`Removals::stop`].
    queue: Mutex<Option<Sender<PathBuf>>>,
    stopped: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Removals {
    pub fn start() -> std::io::Result<Self> {
        let (queue, receiver) = channel();
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = stopped.clone();
        let thread = std::thread::Builder::new()
            .name("removal".into())
            .spawn(move || run(&receiver, &flag))?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            stopped,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Takes a directory that was retired.
    pub fn push(&self, retired: PathBuf) {
        if let Some(queue) = &*self.queue.lock().expect("no holder panics") {
            let _ = queue.send(retired);
        }
    }

    /// Ends the thread after the file at which it is; the rest is removed at the next start. Blocks.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        drop(self.queue.lock().expect("no holder panics").take());
        if let Some(thread) = self.thread.lock().expect("no holder panics").take() {
            let _ = thread.join();
        }
    }
}

fn run(queue: &Receiver<PathBuf>, stopped: &AtomicBool) {
    while let Ok(path) = queue.recv() {
        if let Err(error) = unlink(&path, stopped) {
            tracing::warn!(path = %path.display(), %error, "the directory of a removed replica stays until the next start");
        }
    }
}

/// Removes a directory file by file, as long as nothing asks for a stop.
fn unlink(directory: &Path, stopped: &AtomicBool) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        if stopped.load(Ordering::Acquire) {
            return Ok(());
        }
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    std::fs::remove_dir(directory)
}

impl PartitionManager {
    /// Closes partitions and takes their directories out of use. When this returns, their names are free; where a rename
    /// failed, the name stays taken, and no other directory is created under it.
    pub(super) async fn close_all(self: &Arc<Self>, gone: Vec<Arc<Partition>>) {
        let mut closed = Vec::new();
        for partition in gone {
            let owner = self.shards.owner_of(partition.key());
            let (reply, path) = oneshot::channel();
            let key = partition.key();
            let sent = owner.send(ShardMessage::Remove { key, reply }).await;
            // Without an answer the broker is stopping.
            if sent.is_ok()
                && let Ok(path) = path.await
            {
                closed.push((partition, path));
            }
        }
        if closed.is_empty() {
            return;
        }
        let manager = self.clone();
        let retiring = tokio::task::spawn_blocking(move || manager.retire_all(closed));
        if let Err(error) = retiring.await {
            tracing::error!(%error, "directories of removed replicas could not be renamed");
        }
    }

    fn retire_all(&self, closed: Vec<(Arc<Partition>, PathBuf)>) {
        let mut retired = Vec::new();
        for (partition, path) in closed {
            partition.close_lineage();
            if partition.is_on_failed_directory() {
                // The next start finds that nobody wants it.
                continue;
            }
            match LogDir::retire(&path) {
                Ok(path) => retired.push(path),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "the directory of a removed replica could not be renamed");
                }
            }
        }
        if let Err(error) = self.sync_names() {
            tracing::error!(%error, "renames of partition directories may not be durable");
        }
        for path in retired {
            self.removals.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retired_directories_are_unlinked_and_a_stop_leaves_the_rest() {
        let parent = tempfile::tempdir().unwrap();
        let filled = |name: &str| {
            let path = parent.path().join(name);
            std::fs::create_dir_all(path.join("inner")).unwrap();
            std::fs::write(path.join("a"), "x").unwrap();
            path
        };
        let removals = Removals::start().unwrap();
        let path = filled("t-0.1-delete");
        removals.push(path.clone());
        while path.exists() {
            std::thread::yield_now();
        }
        removals.stop();
        let path = filled("t-0.2-delete");
        removals.push(path.clone());
        unlink(&path, &AtomicBool::new(true)).unwrap();
        assert!(path.join("a").exists());
    }
}
