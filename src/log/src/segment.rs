//! A segment: the `.log` file, its indexes, and the facts about it that readers need.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use strandline_types::{NO_TIMESTAMP, Offset, TimestampMs};
use strandline_wire::batch::{BATCH_HEADER_BYTES, BatchHeader};

use crate::error::LogError;
use crate::index::{OffsetIndex, TimeIndex};

/// A segment of a partition. The owner of the log appends; any thread may read the first `bytes` bytes.
#[derive(Debug)]
pub struct Segment {
    pub base_offset: Offset,
    pub log_path: PathBuf,
    log: File,
    pub(crate) offset_index: OffsetIndex,
    pub(crate) time_index: TimeIndex,
    /// Length of the valid part of the log file.
    bytes: AtomicU64,
    max_timestamp_ms: AtomicI64,
    /// Last offset of the batch with that timestamp.
    offset_of_max_timestamp: AtomicI64,
    /// Wall clock at the first append in this process, or the file's modification time.
    pub(crate) first_append_ms: AtomicI64,
    /// Wall clock at the last append, or the file's modification time.
    last_append_ms: AtomicI64,
    /// The directory entry of this segment is not yet known to be durable.
    pub(crate) new_in_directory: AtomicBool,
    /// A look-up met an index entry that does not fit the log.
    pub(crate) index_is_wrong: AtomicBool,
}

/// A sealed segment for the code that copies it: paths, offsets, sizes; nothing of the log's own state.
#[derive(Clone, Debug)]
pub struct SealedSegment {
    pub base_offset: Offset,
    /// Exclusive.
    pub end_offset: Offset,
    pub bytes: u64,
    pub max_timestamp_ms: TimestampMs,
    /// When the segment was last written to, by the broker's clock.
    pub last_append_ms: TimestampMs,
    pub log_path: PathBuf,
    pub offset_index_path: PathBuf,
    pub time_index_path: PathBuf,
    pub transaction_index_path: PathBuf,
    /// The producer state at `end_offset`, which is where the next segment begins.
    pub producer_snapshot_path: PathBuf,
}

pub(crate) const TIME_INDEX: &str = "timeindex";
pub(crate) const TRANSACTION_INDEX: &str = "txnindex";
/// The extensions of a segment's files.
pub(crate) const EXTENSIONS: [&str; 5] =
    ["log", "index", TIME_INDEX, TRANSACTION_INDEX, "snapshot"];

/// `00000000000000000042.<extension>` in `directory`.
pub(crate) fn file_name(directory: &Path, base_offset: Offset, extension: &str) -> PathBuf {
    directory.join(format!("{base_offset:020}.{extension}"))
}

impl Segment {
    /// Opens the segment at `base_offset`, creating its files if they are not there.
    pub(crate) fn open(directory: &Path, base_offset: Offset) -> Result<Self, LogError> {
        let log_path = file_name(directory, base_offset, "log");
        let new = !log_path.exists();
        let log = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&log_path)
            .map_err(LogError::io(&log_path))?;
        let metadata = log.metadata().map_err(LogError::io(&log_path))?;
        let index_path = file_name(directory, base_offset, "index");
        let time_path = file_name(directory, base_offset, TIME_INDEX);
        let offset_index = OffsetIndex::open(&index_path).map_err(LogError::io(&index_path))?;
        let time_index = TimeIndex::open(&time_path).map_err(LogError::io(&time_path))?;
        let last_time = time_index.last().map_err(LogError::io(&time_path))?;
        let (max_timestamp, relative) = last_time.unwrap_or((NO_TIMESTAMP, 0));
        // Where the file system has no such time, the segment counts as new: its records must not expire early.
        let modified = metadata.modified().unwrap_or_else(|_| SystemTime::now());
        let modified = modified
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        Ok(Self {
            base_offset,
            bytes: AtomicU64::new(metadata.len()),
            log_path,
            log,
            offset_index,
            time_index,
            max_timestamp_ms: AtomicI64::new(max_timestamp),
            offset_of_max_timestamp: AtomicI64::new(base_offset + i64::from(relative)),
            first_append_ms: AtomicI64::new(modified),
            last_append_ms: AtomicI64::new(modified),
            new_in_directory: AtomicBool::new(new),
            index_is_wrong: AtomicBool::new(false),
        })
    }

    /// The same segment, read and written through another file handle.
    #[cfg(test)]
    pub(crate) fn with_file(self, log: File) -> Self {
        Self { log, ..self }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Largest record timestamp, −1 where none is known.
    pub fn max_timestamp_ms(&self) -> TimestampMs {
        self.max_timestamp_ms.load(Ordering::Acquire)
    }

    fn directory(&self) -> &Path {
        self.log_path.parent().unwrap_or(Path::new("."))
    }

    pub(crate) fn note_append(&self, now_ms: TimestampMs) {
        self.last_append_ms.store(now_ms, Ordering::Release);
    }

    /// When the segment was last written to, by the broker's clock.
    pub(crate) fn last_append_ms(&self) -> TimestampMs {
        self.last_append_ms.load(Ordering::Acquire)
    }

    pub(crate) fn file(&self) -> &File {
        &self.log
    }

    /// Makes bytes that were written at the end visible to readers.
    pub(crate) fn publish_bytes(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Release);
    }

    pub(crate) fn note_timestamp(&self, timestamp_ms: i64, last_offset: Offset) {
        if timestamp_ms > self.max_timestamp_ms() {
            self.max_timestamp_ms.store(timestamp_ms, Ordering::Release);
            self.offset_of_max_timestamp
                .store(last_offset, Ordering::Release);
        }
    }

    /// (largest timestamp, last offset of the batch that has it)
    pub fn max_timestamp_and_offset(&self) -> (TimestampMs, Offset) {
        (
            self.max_timestamp_ms(),
            self.offset_of_max_timestamp.load(Ordering::Acquire),
        )
    }

    /// `offset` as indexes write it. A segment rolls before its offsets leave this range.
    pub(crate) fn relative(&self, offset: Offset) -> u32 {
        let relative = offset.saturating_sub(self.base_offset).max(0);
        u32::try_from(relative).unwrap_or(u32::MAX)
    }

    /// Adds the entries that Kafka adds to both indexes for the batch at `position` that ends with `last_offset`.
    pub(crate) fn push_index_entries(&self, last_offset: Offset, position: u64) -> io::Result<()> {
        self.offset_index
            .push(self.relative(last_offset), position as u32)?;
        self.push_time_entry()
    }

    pub(crate) fn push_time_entry(&self) -> io::Result<()> {
        let (timestamp, offset) = self.max_timestamp_and_offset();
        if timestamp == NO_TIMESTAMP {
            return Ok(());
        }
        self.time_index.push(timestamp, self.relative(offset))
    }

    /// Completes the indexes of a segment that gets no more batches, and makes them durable.
    pub(crate) fn finish_indexes(&self) -> Result<(), LogError> {
        let failed = |source| LogError::Io {
            path: self.log_path.clone(),
            source,
        };
        self.push_time_entry().map_err(failed)?;
        self.offset_index.0.sync().map_err(failed)?;
        self.time_index.0.sync().map_err(failed)
    }

    /// Forgets the largest timestamp; a scan that follows finds it again.
    pub(crate) fn reset_timestamps(&self) {
        self.max_timestamp_ms.store(NO_TIMESTAMP, Ordering::Release);
        self.offset_of_max_timestamp
            .store(self.base_offset, Ordering::Release);
    }

    pub fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.log.read_exact_at(buffer, position)
    }

    /// Like [`Segment::read_at`], but fails with `WouldBlock` where the bytes are not in the page cache.
    /// Returns how many bytes were read, which may be fewer than asked for.
    pub fn read_at_cached(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut buffers = [io::IoSliceMut::new(buffer)];
        rustix::io::preadv2(
            &self.log,
            &mut buffers,
            position,
            rustix::io::ReadWriteFlags::NOWAIT,
        )
        .map_err(Into::into)
    }

    /// The batch header at `position`; `None` at or past `limit`.
    pub(crate) fn header_at(
        &self,
        position: u64,
        limit: u64,
    ) -> Result<Option<BatchHeader>, LogError> {
        if position + BATCH_HEADER_BYTES as u64 > limit {
            return Ok(None);
        }
        let mut bytes = [0; BATCH_HEADER_BYTES];
        self.read_at(&mut bytes, position)
            .map_err(LogError::io(&self.log_path))?;
        self.decode_header(&bytes, position).map(Some)
    }

    pub(crate) fn decode_header(
        &self,
        bytes: &[u8; BATCH_HEADER_BYTES],
        position: u64,
    ) -> Result<BatchHeader, LogError> {
        BatchHeader::decode(bytes).map_err(|e| LogError::Corrupt {
            path: self.log_path.clone(),
            position,
            offset: self.base_offset,
            reason: e.to_string(),
        })
    }

    /// Truncates the segment in front of the batch that holds `offset`, indexes included. Returns the new end offset
    /// and the bytes since the last index entry.
    pub(crate) fn truncate(&self, offset: Offset) -> Result<(Offset, u64), LogError> {
        let failed = |e| LogError::io(&self.log_path)(e);
        let cut = match self.find_batch(offset, self.bytes())? {
            Some((position, header)) => {
                let relative = self.relative(header.base_offset);
                self.offset_index.truncate(relative).map_err(failed)?;
                self.time_index.truncate(relative).map_err(failed)?;
                position
            }
            None => self.bytes(),
        };
        self.bytes.store(cut, Ordering::Release);
        self.log.set_len(cut).map_err(failed)?;
        let last_time = self.time_index.last().map_err(failed)?;
        self.reset_timestamps();
        if let Some((timestamp, relative)) = last_time {
            self.note_timestamp(timestamp, self.base_offset + i64::from(relative));
        }
        let indexed = self.indexed_batch(Offset::MAX, cut)?;
        let mut position = indexed.map_or(0, |(position, _)| position);
        let from = position;
        let mut end_offset = self.base_offset;
        while let Some(header) = self.header_at(position, cut)? {
            self.note_timestamp(header.max_timestamp, header.last_offset());
            end_offset = header.end_offset();
            position += header.size() as u64;
        }
        Ok((end_offset, position - from))
    }

    pub(crate) fn sealed(&self, end_offset: Offset) -> SealedSegment {
        let directory = self.directory();
        SealedSegment {
            base_offset: self.base_offset,
            end_offset,
            bytes: self.bytes(),
            max_timestamp_ms: self.max_timestamp_ms(),
            last_append_ms: self.last_append_ms(),
            log_path: self.log_path.clone(),
            offset_index_path: self.offset_index.0.path.clone(),
            time_index_path: self.time_index.0.path.clone(),
            transaction_index_path: file_name(directory, self.base_offset, TRANSACTION_INDEX),
            producer_snapshot_path: file_name(directory, end_offset, "snapshot"),
        }
    }

    /// Removes the segment's files. Readers that hold the segment keep reading the unlinked file.
    pub(crate) fn remove_files(&self) -> Result<(), LogError> {
        let directory = self.directory();
        for extension in EXTENSIONS {
            let path = file_name(directory, self.base_offset, extension);
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(LogError::io(&path)(e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
