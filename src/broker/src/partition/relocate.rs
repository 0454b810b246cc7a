//! Moving replicas between this broker's log directories (`AlterReplicaLogDirs`, KIP-113). One at a time; a move that a
//! stop interrupts begins again at the next start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use strandline_log::{LogDir, LogError, Relocation};
use strandline_wire::ErrorCode;
use tokio_util::sync::CancellationToken;

use super::handle::Partition;
use super::table::PartitionManager;

/// Bytes to copy between two looks at the throttle.
const PIECE_BYTES: u64 = 4 << 20;
/// If less than this is left, the owner copies the rest, and no append can happen meanwhile.
const REST_BYTES: u64 = 256 << 10;

/// A move of one replica.
#[derive(Debug)]
pub struct Move {
    /// Index in `log.dirs`.
    pub target: usize,
    copied: AtomicU64,
    stop: CancellationToken,
}

impl Move {
    pub fn copied_bytes(&self) -> u64 {
        self.copied.load(Ordering::Acquire)
    }
}

/// Why a move ended before its end.
enum Failure {
    /// The move was called off, the partition was deleted, or the broker stops.
    CalledOff,
    Log(LogError),
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

impl PartitionManager {
    /// Index of a directory of `log.dirs`, by its path as the properties or `DescribeLogDirs` give it.
    pub fn log_dir_at(&self, path: &str) -> Option<usize> {
        let wanted = std::path::absolute(path).ok()?;
        let here = |dir: &LogDir| std::path::absolute(&dir.path).is_ok_and(|p| p == wanted);
        self.log_dirs.dirs.iter().position(here)
    }

    /// Begins to move a replica to another directory; to the one where it is, calls a move off.
    pub fn move_replica(
        self: &Arc<Self>,
        partition: &Arc<Partition>,
        target: usize,
    ) -> Result<(), ErrorCode> {
        if self.log_dirs.is_failed(target) || partition.is_offline() {
            return Err(ErrorCode::KafkaStorageError);
        }
        let mut moving = partition.moving.lock().expect("no holder panics");
        if moving.as_ref().is_some_and(|m| m.target == target) {
            return Ok(());
        }
        if let Some(other) = moving.take() {
            other.stop.cancel();
        }
        if partition.log_dir() == target {
            return Ok(());
        }
        let new = Arc::new(Move {
            target,
            copied: AtomicU64::new(0),
            stop: self.stop_moves.child_token(),
        });
        *moving = Some(new.clone());
        tokio::spawn(carry_out(self.clone(), partition.clone(), new));
        Ok(())
    }
}

impl PartitionManager {
    /// The checkpoints name the new directory, and the old one is gone for good, before the mark goes that says which of
    /// the two is older. Blocks.
    fn finish_move(&self, retired: io::Result<PathBuf>, new: &Path) -> io::Result<()> {
        self.write_checkpoints();
        let retired = retired?;
        self.sync_names()?;
        self.removals.push(retired);
        LogDir::replaced(new)
    }
}

async fn carry_out(manager: Arc<PartitionManager>, partition: Arc<Partition>, moving: Arc<Move>) {
    let Ok(_turn) = manager.moves.acquire().await else {
        return;
    };
    let tp = &partition.topic_partition;
    let dir = &manager.log_dirs.dirs[moving.target];
    let result = relocate(&manager, &partition, &moving).await;
    match result {
        Ok(retired) => {
            let (manager, new) = (manager.clone(), dir.partition_path(tp));
            let finish = tokio::task::spawn_blocking(move || manager.finish_move(retired, &new));
            match finish.await {
                Ok(Ok(())) => {}
                other => {
                    tracing::warn!(partition = %tp, ?other, "the old directory of a moved replica stays until the next start");
                }
            }
            tracing::info!(partition = %tp, to = %dir.path.display(), "a replica has moved to another log directory");
        }
        Err(failure) => {
            if let Failure::Log(error) = failure {
                // The topic may have been deleted meanwhile.
                if !error.is_not_found() {
                    manager.log_dirs.health.report(&error);
                }
                tracing::error!(partition = %tp, to = %dir.path.display(), %error, "a replica did not move to another log directory");
            }
            // A stop keeps the copied files: the move begins again at the next start.
            if !manager.stop_moves.is_cancelled() {
                let future = dir.future_path(tp);
                let _ = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(future)).await;
            }
        }
    }
    let mut current = partition.moving.lock().expect("no holder panics");
    if current.as_ref().is_some_and(|m| Arc::ptr_eq(m, &moving)) {
        *current = None;
    }
}

/// Copies until little is left, then lets the owner switch to the new directory. Returns the old directory, renamed.
async fn relocate(
    manager: &Arc<PartitionManager>,
    partition: &Arc<Partition>,
    moving: &Move,
) -> Result<io::Result<PathBuf>, Failure> {
    let tp = &partition.topic_partition;
    let target = moving.target;
    let dir = &manager.log_dirs.dirs[target];
    let (future, to) = (dir.future_path(tp), dir.partition_path(tp));
    let gone = |_| Failure::CalledOff;
    loop {
        let cuts = partition
            .run(|owned| owned.log().cuts())
            .await
            .map_err(gone)?;
        let source = manager.log_dirs.dirs[partition.log_dir()].partition_path(tp);
        let at = future.clone();
        let mut relocation = blocking(move || Relocation::begin(&at, &source, cuts)).await?;
        moving.copied.store(0, Ordering::Release);
        loop {
            while let Some(wait) = manager.move_throttle.wait(Instant::now()) {
                if moving
                    .stop
                    .run_until_cancelled(tokio::time::sleep(wait))
                    .await
                    .is_none()
                {
                    return Err(Failure::CalledOff);
                }
            }
            if moving.stop.is_cancelled() {
                return Err(Failure::CalledOff);
            }
            let view = partition.view();
            let (back, copied) = blocking(move || {
                let copied = relocation.copy(&view, PIECE_BYTES)?;
                Ok((relocation, copied))
            })
            .await?;
            relocation = back;
            manager.move_throttle.spend(copied as usize);
            moving.copied.fetch_add(copied, Ordering::AcqRel);
            if copied <= REST_BYTES {
                break;
            }
        }
        let Some(flusher) = manager.log_dirs.flusher(target) else {
            return Err(Failure::CalledOff);
        };
        let to = to.clone();
        let moved = partition.run(move |owned| owned.relocate(relocation, &to, target, flusher));
        if let Ok(retired) = moved.await.map_err(gone)?? {
            return Ok(retired);
        }
        // The log was truncated meanwhile: the copy may have records that are not in the log any more.
    }
}

async fn blocking<T: Send + 'static>(
    task: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(task).await {
        Ok(result) => result.map_err(Failure::Log),
        Err(_) => Err(Failure::CalledOff),
    }
}
