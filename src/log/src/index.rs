//! Sparse indexes beside a segment, in Kafka's format.
//!
//! `.index`: pairs of (offset − base offset, position), both u32, big endian; the offset is the last one of the batch at
//! that position. `.timeindex`: (timestamp i64, offset − base offset u32); timestamps ascend. Lookups are binary
//! searches by positional reads; the page cache holds the upper levels, so no index needs memory of ours.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub const OFFSET_ENTRY_BYTES: u64 = 8;
pub const TIME_ENTRY_BYTES: u64 = 12;

/// An index file and how much of it is valid. One owner appends; any thread may look up.
#[derive(Debug)]
pub(crate) struct IndexFile {
    pub path: PathBuf,
    file: File,
    bytes: AtomicU64,
    /// The state of the file when it was opened.
    pub found: Found,
}

/// The state of an index file when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There was no file.
    Missing,
    /// The last entry is incomplete.
    Torn,
    /// Any number of whole entries.
    Whole,
}

impl IndexFile {
    /// Opens or creates; a partial last entry is ignored and overwritten later.
    fn open(path: PathBuf, entry_bytes: u64) -> io::Result<Self> {
        let exists = path.try_exists()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let length = file.metadata()?.len();
        let torn = length % entry_bytes;
        Ok(Self {
            path,
            file,
            bytes: AtomicU64::new(length - torn),
            found: match (exists, torn) {
                (false, _) => Found::Missing,
                (true, 0) => Found::Whole,
                (true, _) => Found::Torn,
            },
        })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Appends whole entries.
    pub fn push(&self, entries: &[u8]) -> io::Result<()> {
        let at = self.bytes();
        if entries.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(entries, at)?;
        self.bytes
            .store(at + entries.len() as u64, Ordering::Release);
        Ok(())
    }

    fn clear(&self) -> io::Result<()> {
        self.bytes.store(0, Ordering::Release);
        self.file.set_len(0)
    }

    /// Keeps the leading entries for which `stays` holds; entries ascend.
    fn truncate<const N: usize>(&self, stays: impl Fn(&[u8; N]) -> bool) -> io::Result<()> {
        let mut count = self.bytes() / N as u64;
        while count > 0 && !stays(&self.entry::<N>(count - 1)?) {
            count -= 1;
        }
        self.bytes.store(count * N as u64, Ordering::Release);
        self.file.set_len(count * N as u64)
    }

    fn entry<const N: usize>(&self, number: u64) -> io::Result<[u8; N]> {
        let mut entry = [0; N];
        self.file.read_exact_at(&mut entry, number * N as u64)?;
        Ok(entry)
    }

    /// The last entry for which `at_or_below` holds; entries ascend.
    fn floor<const N: usize>(
        &self,
        at_or_below: impl Fn(&[u8; N]) -> bool,
    ) -> io::Result<Option<[u8; N]>> {
        let (mut low, mut high) = (0, self.bytes() / N as u64);
        let mut found = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry::<N>(middle)?;
            if at_or_below(&entry) {
                found = Some(entry);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(found)
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Which batches get an entry: the first one behind every `interval_bytes` of batches, as in Kafka.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntrySpacing {
    interval_bytes: u64,
    /// Bytes of batches since the last one that got an entry.
    pub since_entry: u64,
}

impl EntrySpacing {
    pub fn new(interval_bytes: u32, since_entry: u64) -> Self {
        Self {
            interval_bytes: u64::from(interval_bytes),
            since_entry,
        }
    }

    /// Passes a batch; `true` if the batch gets an entry.
    pub fn passes(&mut self, batch_bytes: u64) -> bool {
        let gets_entry = self.since_entry > self.interval_bytes;
        if gets_entry {
            self.since_entry = 0;
        }
        self.since_entry += batch_bytes;
        gets_entry
    }
}

/// The bytes of an entry as one big-endian number.
fn number(entry: &[u8]) -> u128 {
    entry.iter().fold(0, |n, byte| (n << 8) | u128::from(*byte))
}

/// Relative offset and position of an offset entry.
fn offset_entry(entry: [u8; 8]) -> (u32, u32) {
    let number = number(&entry);
    ((number >> 32) as u32, number as u32)
}

/// Timestamp and relative offset of a time entry.
fn time_entry(entry: &[u8; 12]) -> (i64, u32) {
    let number = number(entry);
    ((number >> 32) as i64, number as u32)
}

pub(crate) fn offset_entry_bytes(relative_offset: u32, position: u32) -> [u8; 8] {
    (u64::from(relative_offset) << 32 | u64::from(position)).to_be_bytes()
}

pub(crate) fn time_entry_bytes(timestamp_ms: i64, relative_offset: u32) -> [u8; 12] {
    let mut entry = [0; 12];
    entry[..8].copy_from_slice(&timestamp_ms.to_be_bytes());
    entry[8..].copy_from_slice(&relative_offset.to_be_bytes());
    entry
}

/// Offset to position.
#[derive(Debug)]
pub(crate) struct OffsetIndex(pub IndexFile);

impl OffsetIndex {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(IndexFile::open(
            path.to_path_buf(),
            OFFSET_ENTRY_BYTES,
        )?))
    }

    pub fn push(&self, relative_offset: u32, position: u32) -> io::Result<()> {
        self.0.push(&offset_entry_bytes(relative_offset, position))
    }

    /// The entry of a batch at or before the one that holds `relative_offset`: (relative last offset, position).
    pub fn entry_for(&self, relative_offset: u32) -> io::Result<Option<(u32, u32)>> {
        // An entry names its batch's *last* offset, so one equal to the target points at the right batch.
        let entry = self
            .0
            .floor::<8>(|e| offset_entry(*e).0 <= relative_offset)?;
        Ok(entry.map(offset_entry))
    }

    /// Drops entries of batches that end at or after `relative_offset`.
    pub fn truncate(&self, relative_offset: u32) -> io::Result<()> {
        self.0
            .truncate::<8>(|e| offset_entry(*e).0 < relative_offset)
    }

    /// The last entry: (relative offset, position).
    pub fn last(&self) -> io::Result<Option<(u32, u32)>> {
        let count = self.0.bytes() / OFFSET_ENTRY_BYTES;
        let Some(last) = count.checked_sub(1) else {
            return Ok(None);
        };
        Ok(Some(offset_entry(self.0.entry::<8>(last)?)))
    }

    pub fn clear(&self) -> io::Result<()> {
        self.0.clear()
    }
}

/// Timestamp to offset.
#[derive(Debug)]
pub(crate) struct TimeIndex(pub IndexFile);

impl TimeIndex {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(IndexFile::open(path.to_path_buf(), TIME_ENTRY_BYTES)?))
    }

    /// Drops entries of batches that end at or after `relative_offset`.
    pub fn truncate(&self, relative_offset: u32) -> io::Result<()> {
        self.0.truncate::<12>(|e| time_entry(e).1 < relative_offset)
    }

    /// Adds an entry if its timestamp is above the last one's.
    pub fn push(&self, timestamp_ms: i64, relative_offset: u32) -> io::Result<()> {
        if self.last()?.is_some_and(|(last, _)| timestamp_ms <= last) {
            return Ok(());
        }
        self.0
            .push(&time_entry_bytes(timestamp_ms, relative_offset))
    }

    /// The last entry: (timestamp, relative offset).
    pub fn last(&self) -> io::Result<Option<(i64, u32)>> {
        let count = self.0.bytes() / TIME_ENTRY_BYTES;
        let Some(last) = count.checked_sub(1) else {
            return Ok(None);
        };
        Ok(Some(time_entry(&self.0.entry(last)?)))
    }

    /// The last entry of an offset below `relative_offset`.
    pub fn entry_before(&self, relative_offset: u32) -> io::Result<Option<(i64, u32)>> {
        let entry = self.0.floor::<12>(|e| time_entry(e).1 < relative_offset)?;
        Ok(entry.map(|e| time_entry(&e)))
    }

    /// The last entry below `timestamp_ms`: everything up to the batch of its offset has smaller timestamps.
    pub fn entry_below(&self, timestamp_ms: i64) -> io::Result<Option<(i64, u32)>> {
        let entry = self.0.floor::<12>(|e| time_entry(e).0 < timestamp_ms)?;
        Ok(entry.map(|e| time_entry(&e)))
    }

    pub fn clear(&self) -> io::Result<()> {
        self.0.clear()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_find_the_entry_at_or_below() {
        let directory = tempfile::tempdir().unwrap();
        let offsets = OffsetIndex::open(&directory.path().join("a.index")).unwrap();
        assert_eq!(offsets.entry_for(7).unwrap(), None);
        for i in 1..=100u32 {
            offsets.push(i * 10, i * 1000).unwrap();
        }
        assert_eq!(offsets.entry_for(9).unwrap(), None);
        assert_eq!(offsets.entry_for(10).unwrap(), Some((10, 1000)));
        assert_eq!(offsets.entry_for(555).unwrap(), Some((550, 55_000)));
        assert_eq!(offsets.entry_for(u32::MAX).unwrap(), Some((1000, 100_000)));
        let times = TimeIndex::open(&directory.path().join("a.timeindex")).unwrap();
        for (timestamp, offset) in [(100, 1), (100, 2), (90, 3), (200, 4)] {
            times.push(timestamp, offset).unwrap();
        }
        assert_eq!(times.last().unwrap(), Some((200, 4)));
        assert_eq!(times.entry_below(100).unwrap(), None);
        assert_eq!(times.entry_below(101).unwrap(), Some((100, 1)));
        assert_eq!(times.entry_below(201).unwrap(), Some((200, 4)));
    }

    #[test]
    fn a_file_tells_what_it_was_when_it_was_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.index");
        let open = || OffsetIndex::open(&path).unwrap();
        let index = open();
        assert_eq!(index.0.found, Found::Missing);
        index.push(1, 2).unwrap();
        assert_eq!(open().0.found, Found::Whole);
        std::fs::write(&path, [0; 11]).unwrap();
        let torn = open();
        assert_eq!((torn.0.found, torn.0.bytes()), (Found::Torn, 8));
    }
}
