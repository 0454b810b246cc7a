//! Moving a log to another directory while it is written to (KIP-113).
//!
//! Copying sealed segments, and most of the active one, needs only views. The owner then copies the rest, renames the
//! new directory to its final name and continues there (`partition_log/replace`). Crash consistency: no process opens
//! the new directory before the rename. The rename happens after everything in the directory is on disk. A file in the
//! directory says that it replaces the other one, so a start that finds both knows which one is older.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions as FileOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use strandline_types::Offset;

use crate::error::LogError;
use crate::partition_directory::PARTITION_METADATA;
use crate::segment::{Segment, TIME_INDEX, TRANSACTION_INDEX, file_name};
use crate::view::LogView;

const COPY_BUFFER: usize = 1 << 20;
/// The marker file in a directory that replaces another one.
pub(crate) const REPLACES_ANOTHER: &str = "replaces-another-directory";

/// A copy of a log on its way to another directory.
#[derive(Debug)]
pub struct Relocation {
    pub(crate) target: PathBuf,
    /// [`PartitionLog::cuts`] at the beginning: records that were copied before a truncation may not be in the log any
    /// more.
    pub(crate) cuts: u64,
    /// Segments of which the target has at least a part.
    pub(crate) begun: BTreeSet<Offset>,
    /// Sealed segments that the target has with all their files.
    complete: BTreeSet<Offset>,
}

impl Relocation {
    /// Begins with an empty directory at `target`, for the log in `source`, which was truncated `cuts` times so far.
    pub fn begin(target: &Path, source: &Path, cuts: u64) -> Result<Self, LogError> {
        match fs::remove_dir_all(target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LogError::io(target)(error));
            }
            _ => {}
        }
        fs::create_dir_all(target).map_err(LogError::io(target))?;
        copy_durably(
            &source.join(PARTITION_METADATA),
            &target.join(PARTITION_METADATA),
        )?;
        Ok(Self {
            target: target.to_path_buf(),
            cuts,
            begun: BTreeSet::new(),
            complete: BTreeSet::new(),
        })
    }

    /// Copies up to about `max_bytes` of the bytes that `view` has and the target has not; returns their number.
    pub fn copy(&mut self, view: &LogView, max_bytes: u64) -> Result<u64, LogError> {
        let mut copied = 0;
        for (at, segment) in view.segments.iter().enumerate() {
            if copied >= max_bytes {
                break;
            }
            if self.complete.contains(&segment.base_offset) {
                continue;
            }
            self.begun.insert(segment.base_offset);
            let (bytes, whole) = self.copy_log(segment, max_bytes - copied)?;
            copied += bytes;
            if let Some(next) = view.segments.get(at + 1).filter(|_| whole)
                && self.copy_companions(segment, next.base_offset)?
            {
                self.complete.insert(segment.base_offset);
            }
        }
        Ok(copied)
    }

    /// Copies records; returns the bytes and whether nothing is left.
    fn copy_log(&self, segment: &Segment, max_bytes: u64) -> Result<(u64, bool), LogError> {
        let path = file_name(&self.target, segment.base_offset, "log");
        let failed = |source| LogError::Io {
            path: path.clone(),
            source,
        };
        let mut open = FileOptions::new();
        let file = open.append(true).create(true).open(&path);
        let mut file = file.map_err(failed)?;
        let mut position = file.metadata().map_err(failed)?.len();
        let (from, end) = (position, segment.bytes());
        let mut buffer = vec![0; COPY_BUFFER.min(end.saturating_sub(from) as usize)];
        while position < end && position - from < max_bytes {
            let length = buffer.len().min((end - position) as usize);
            let read = segment.read_at(&mut buffer[..length], position);
            read.map_err(LogError::io(&segment.log_path))?;
            file.write_all(&buffer[..length]).map_err(failed)?;
            position += length as u64;
        }
        if position == end {
            file.sync_data().map_err(failed)?;
        }
        Ok((position - from, position >= end))
    }

    /// Copies a sealed segment's indexes and the producer snapshot at its end; `false` if retention was faster.
    pub(crate) fn copy_companions(&self, segment: &Segment, end: Offset) -> Result<bool, LogError> {
        let source = directory_of(segment);
        for extension in ["index", TIME_INDEX] {
            let from = file_name(source, segment.base_offset, extension);
            if !copy_durably(
                &from,
                &file_name(&self.target, segment.base_offset, extension),
            )? {
                return Ok(false);
            }
        }
        for (offset, extension) in [(segment.base_offset, TRANSACTION_INDEX), (end, "snapshot")] {
            // Companion files exist only where they have contents.
            let from = file_name(source, offset, extension);
            copy_durably(&from, &file_name(&self.target, offset, extension))?;
        }
        Ok(true)
    }
}

fn directory_of(segment: &Segment) -> &Path {
    let parent = segment.log_path.parent();
    parent.expect("a segment lies in a directory")
}

/// `false` if there is nothing to copy.
fn copy_durably(from: &Path, to: &Path) -> Result<bool, LogError> {
    match fs::copy(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        copied => copied.map_err(LogError::io(to))?,
    };
    let file = File::open(to).map_err(LogError::io(to))?;
    file.sync_data().map_err(LogError::io(to))?;
    Ok(true)
}
