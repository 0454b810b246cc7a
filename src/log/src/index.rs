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
}

impl IndexFile {
    /// Opens or creates; a partial last entry is ignored and overwritten later.
    fn open(path: PathBuf, entry_bytes: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        let length = file.metadata()?.len();
        Ok(Self {
            path,
            file,
            bytes: AtomicU64::new(length - length % entry_bytes),
        })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    fn push(&self, entry: &[u8]) -> io::Result<()> {
        let at = self.bytes();
        self.file.write_all_at(entry, at)?;
        self.bytes.store(at + entry.len() as u64, Ordering::Release);
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

fn u32_at(entry: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(entry[at..at + 4].try_into().expect("four bytes"))
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
        let mut entry = [0; 8];
        entry[..4].copy_from_slice(&relative_offset.to_be_bytes());
        entry[4..].copy_from_slice(&position.to_be_bytes());
        self.0.push(&entry)
    }

    /// Position of a batch at or before the one that holds `relative_offset`; 0 where the index does not say.
    pub fn position_for(&self, relative_offset: u32) -> io::Result<u64> {
        // An entry names its batch's *last* offset, so one equal to the target points at the right batch.
        let entry = self.0.floor::<8>(|e| u32_at(e, 0) <= relative_offset)?;
        Ok(entry.map_or(0, |e| u64::from(u32_at(&e, 4))))
    }

    /// Drops entries of batches that end at or after `relative_offset`.
    pub fn truncate(&self, relative_offset: u32) -> io::Result<()> {
        self.0.truncate::<8>(|e| u32_at(e, 0) < relative_offset)
    }

    /// The last entry: (relative offset, position).
    pub fn last(&self) -> io::Result<Option<(u32, u32)>> {
        let count = self.0.bytes() / OFFSET_ENTRY_BYTES;
        let Some(last) = count.checked_sub(1) else {
            return Ok(None);
        };
        let entry = self.0.entry::<8>(last)?;
        Ok(Some((u32_at(&entry, 0), u32_at(&entry, 4))))
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

    /// Adds an entry if its timestamp is above the last one's.
    /// Drops entries of batches that end at or after `relative_offset`.
    pub fn truncate(&self, relative_offset: u32) -> io::Result<()> {
        self.0.truncate::<12>(|e| u32_at(e, 8) < relative_offset)
    }

    pub fn push(&self, timestamp_ms: i64, relative_offset: u32) -> io::Result<()> {
        if self.last()?.is_some_and(|(last, _)| timestamp_ms <= last) {
            return Ok(());
        }
        let mut entry = [0; 12];
        entry[..8].copy_from_slice(&timestamp_ms.to_be_bytes());
        entry[8..].copy_from_slice(&relative_offset.to_be_bytes());
        self.0.push(&entry)
    }

    /// The last entry: (timestamp, relative offset).
    pub fn last(&self) -> io::Result<Option<(i64, u32)>> {
        let count = self.0.bytes() / TIME_ENTRY_BYTES;
        let Some(last) = count.checked_sub(1) else {
            return Ok(None);
        };
        Ok(Some(Self::parse(&self.0.entry(last)?)))
    }

    /// Relative offset from which a scan for `timestamp_ms` must begin: everything before has smaller timestamps.
    pub fn offset_for(&self, timestamp_ms: i64) -> io::Result<u32> {
        let entry = self.0.floor::<12>(|e| Self::parse(e).0 < timestamp_ms)?;
        Ok(entry.map_or(0, |e| Self::parse(&e).1))
    }

    fn parse(entry: &[u8; 12]) -> (i64, u32) {
        (
            i64::from_be_bytes(entry[..8].try_into().expect("eight bytes")),
            u32_at(entry, 8),
        )
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
        assert_eq!(offsets.position_for(7).unwrap(), 0);
        for i in 1..=100u32 {
            offsets.push(i * 10, i * 1000).unwrap();
        }
        assert_eq!(offsets.position_for(9).unwrap(), 0);
        assert_eq!(offsets.position_for(10).unwrap(), 1000);
        assert_eq!(offsets.position_for(555).unwrap(), 55_000);
        assert_eq!(offsets.position_for(u32::MAX).unwrap(), 100_000);
        let times = TimeIndex::open(&directory.path().join("a.timeindex")).unwrap();
        for (timestamp, offset) in [(100, 1), (100, 2), (90, 3), (200, 4)] {
            times.push(timestamp, offset).unwrap();
        }
        assert_eq!(times.last().unwrap(), Some((200, 4)));
        assert_eq!(times.offset_for(100).unwrap(), 0);
        assert_eq!(times.offset_for(101).unwrap(), 1);
        assert_eq!(times.offset_for(201).unwrap(), 4);
    }
}
