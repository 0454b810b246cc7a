//! The log directories of this process, each with its flusher.

use std::path::PathBuf;

use strandline_log::{LogDir, LogDirError};
use tokio::sync::mpsc;

use super::flusher::{FlushRequest, Flusher};

/// The log directories of this process, in the order of `log.dirs`.
pub struct LogDirs {
    pub dirs: Vec<LogDir>,
    pub(super) flushers: Vec<Flusher>,
}

impl LogDirs {
    pub fn open(
        paths: &[PathBuf],
        node_id: i32,
        cluster_id: Option<&str>,
        reserve_bytes: u64,
    ) -> Result<Self, LogDirError> {
        let dirs = paths
            .iter()
            .map(|p| LogDir::open(p, node_id, cluster_id, reserve_bytes))
            .collect::<Result<Vec<_>, _>>()?;
        let flusher = |d: &LogDir| {
            Flusher::start(d.path.clone()).map_err(|source| LogDirError::Io {
                path: d.path.clone(),
                source,
            })
        };
        let flushers = dirs.iter().map(flusher).collect::<Result<_, _>>()?;
        Ok(Self { dirs, flushers })
    }

    pub(super) fn flusher(&self, index: usize) -> Option<mpsc::UnboundedSender<FlushRequest>> {
        self.flushers[index].sender()
    }

    /// Whether a flush in this directory has failed.
    pub fn is_failed(&self, index: usize) -> bool {
        self.flushers[index].has_failed()
    }
}
