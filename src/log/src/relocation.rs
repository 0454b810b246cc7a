//! Moving a log to another directory while it is written to (KIP-113).
//!
//! What is sealed, and most of the active segment, is copied by anybody from views; the owner copies the rest, renames the
//! new directory to its final name and goes on there. Crash consistency: until the rename the new directory is not looked
//! at; the rename happens after everything in it is on disk and a file in it says that it replaces the other one, so a
//! start that finds both knows which one is older.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions as FileOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use strandline_types::Offset;

use crate::checkpoint::sync_directory;
use crate::error::LogError;
use crate::log_dir::PARTITION_METADATA;
use crate::partition_log::{OpenOptions, PartitionLog, write_leader_epochs};
use crate::segment::{Segment, file_name};
use crate::view::LogView;

const COPY_BUFFER: usize = 1 << 20;
/// In a directory that replaces another one.
pub(crate) const REPLACES_ANOTHER: &str = "replaces-another-directory";

/// A copy of a log on its way to another directory.
#[derive(Debug)]
pub struct Relocation {
    target: PathBuf,
    /// [`PartitionLog::cuts`] when it began: what was copied before a cut may not be there any more.
    cuts: u64,
    /// Segments of which something is there.
    begun: BTreeSet<Offset>,
    /// Sealed segments that are there with all their files.
    complete: BTreeSet<Offset>,
}

impl Relocation {
    /// Begins with an empty directory at `target`, for the log in `source`, which was cut `cuts` times so far.
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

    /// Copies up to about `max_bytes` of what `view` has more; returns how many there were.
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
    fn copy_companions(&self, segment: &Segment, end: Offset) -> Result<bool, LogError> {
        let source = directory_of(segment);
        for extension in ["index", "timeindex"] {
            let from = file_name(source, segment.base_offset, extension);
            if !copy_durably(
                &from,
                &file_name(&self.target, segment.base_offset, extension),
            )? {
                return Ok(false);
            }
        }
        for (offset, extension) in [(segment.base_offset, "txnindex"), (end, "snapshot")] {
            // There where there is something to tell.
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

impl PartitionLog {
    /// Ends a relocation: copies what is left, and goes on in `to`, durable up to its end. Returns the directory that is
    /// to be deleted, or the relocation if it must begin again because this log was cut in the meantime.
    ///
    /// After an error nothing has changed.
    pub fn relocate(
        &mut self,
        mut relocation: Relocation,
        to: &Path,
    ) -> Result<Result<PathBuf, Relocation>, LogError> {
        if relocation.cuts != self.cuts() {
            return Ok(Err(relocation));
        }
        self.prepare_to_close()?;
        let view = self.view();
        relocation.copy(&view, u64::MAX)?;
        let target = relocation.target.as_path();
        let segments = &view.segments;
        let active = segments.last().expect("a log has at least one segment");
        relocation.copy_companions(active, view.log_end_offset)?;
        let known: BTreeSet<Offset> = segments.iter().map(|s| s.base_offset).collect();
        // Of what retention took on the way nothing may come back, and it may have been there in part only.
        for gone in relocation.begun.difference(&known) {
            for extension in ["log", "index", "timeindex", "txnindex", "snapshot"] {
                // Not every segment has every file.
                let _ = fs::remove_file(file_name(target, *gone, extension));
            }
        }
        write_leader_epochs(target, self.epochs()).map_err(LogError::io(target))?;
        let marker = target.join(REPLACES_ANOTHER);
        fs::write(&marker, "").map_err(LogError::io(&marker))?;
        sync_directory(target).map_err(LogError::io(target))?;
        let parent = to.parent().unwrap_or(Path::new("."));
        fs::rename(target, to).map_err(LogError::io(to))?;
        let opened = sync_directory(parent)
            .map_err(LogError::io(parent))
            .and_then(|()| self.open_there(to));
        match opened {
            Ok(moved) => {
                let old = self.directory().to_path_buf();
                *self = moved;
                Ok(Ok(old))
            }
            Err(error) => {
                let _ = fs::rename(to, target);
                Err(error)
            }
        }
    }

    fn open_there(&self, to: &Path) -> Result<Self, LogError> {
        let options = OpenOptions {
            config: self.config,
            recovery_point: self.log_end_offset(),
            log_start_offset: self.log_start_offset(),
            high_watermark: self.high_watermark(),
            clean: true,
        };
        let mut moved = Self::open(self.topic_partition.clone(), to, options)?;
        if moved.log_end_offset() != self.log_end_offset() {
            return Err(LogError::Corrupt {
                path: to.to_path_buf(),
                position: 0,
                offset: moved.log_end_offset(),
                reason: format!(
                    "the copy ends at {}, the log at {}",
                    moved.log_end_offset(),
                    self.log_end_offset()
                ),
            });
        }
        moved.mark_flushed(self.log_end_offset());
        moved.adopt(self);
        Ok(moved)
    }
}
