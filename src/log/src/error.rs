//! Errors of a log, grouped by what the caller must do.

use std::io;
use std::path::{Path, PathBuf};

use strandline_types::Offset;
use thiserror::Error;

use crate::producer_state::SequenceError;

/// Opening, rolling, deleting: after any of these the partition is offline until someone looks.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// Bytes below the recovery point are damaged. They are never truncated: another copy must repair them.
    #[error("{}: corrupt at byte {position} (offset {offset}), below what was committed: {reason}", path.display())]
    Corrupt {
        path: PathBuf,
        position: u64,
        offset: Offset,
        reason: String,
    },
    /// A file beside the records is damaged, and its contents cannot be derived from the records.
    #[error("{}: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
}

impl LogError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

impl LogError {
    /// A file or directory is not where it was: it was moved or removed meanwhile.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The same error once more, with the code of the operating system.
pub(crate) fn same(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// Why a batch was not appended.
#[derive(Debug, Error)]
pub enum AppendError {
    /// Refused with Kafka's code for the sequence; the log is unchanged.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    #[error("record batch of {size} bytes is larger than segment.bytes = {max}")]
    LargerThanSegment { size: u64, max: u64 },
    /// The file system failed; the log's end is where it was.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Why batches from a leader were not appended; those before the bad one were.
#[derive(Debug, Error)]
pub enum FetchedError {
    #[error("a batch of the leader is damaged: {0}")]
    Corrupt(String),
    /// The batch begins below the log's end, and the log holds other batches there.
    #[error(
        "a batch of the leader begins at offset {base_offset}, the log ends at {log_end_offset}"
    )]
    Overlaps {
        base_offset: Offset,
        log_end_offset: Offset,
    },
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Why a read found nothing.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("offset {offset} is outside [{start}, {end}]")]
    OffsetOutOfRange {
        offset: Offset,
        start: Offset,
        end: Offset,
    },
    #[error(transparent)]
    Log(#[from] LogError),
}
