//! Chunks on a local disk: one file a chunk, least recently used out first, a CRC on every read.
//!
//! File: `STRCHNK1`, length u32, CRC-32C u32 (big endian), the bytes; named `<segment>-<chunk>.chunk` in one of 256
//! folders. Written as `.tmp` and renamed; at start `.tmp` files of chunks go, chunks are counted, and every other file
//! stays: a directory that was named by mistake loses nothing. Nothing here is needed:
//! every failure only means a fetch from the bucket.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use strandline_types::RemoteLogSegmentId;
use thiserror::Error;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::ChunkKey;

const MAGIC: &[u8; 8] = b"STRCHNK1";
const HEADER_BYTES: usize = 16;
/// Chunks that wait to be written; more are dropped rather than kept in memory.
const WRITES_IN_FLIGHT: usize = 8;

#[derive(Debug, Error)]
#[error("strandline.remote.cache.dir: {}: {source}", path.display())]
pub struct DiskCacheError {
    path: PathBuf,
    source: io::Error,
}

#[derive(Debug)]
pub struct DiskCache {
    directory: PathBuf,
    limit_bytes: u64,
    index: Mutex<Index>,
    writes: Arc<Semaphore>,
}

/// Which chunks are there, in order of their last use.
#[derive(Debug, Default)]
struct Index {
    chunks: HashMap<ChunkKey, (u64, u64)>,
    by_use: BTreeMap<u64, ChunkKey>,
    bytes: u64,
    clock: u64,
}

impl Index {
    fn touch(&mut self, key: ChunkKey) -> bool {
        let clock = self.clock + 1;
        let Some((used, _)) = self.chunks.get_mut(&key) else {
            return false;
        };
        let before = std::mem::replace(used, clock);
        self.by_use.remove(&before);
        self.by_use.insert(clock, key);
        self.clock = clock;
        true
    }

    fn insert(&mut self, key: ChunkKey, bytes: u64) {
        self.remove(key);
        self.clock += 1;
        self.chunks.insert(key, (self.clock, bytes));
        self.by_use.insert(self.clock, key);
        self.bytes += bytes;
    }

    fn remove(&mut self, key: ChunkKey) {
        if let Some((used, bytes)) = self.chunks.remove(&key) {
            self.by_use.remove(&used);
            self.bytes -= bytes;
        }
    }

    fn pop_oldest(&mut self) -> Option<ChunkKey> {
        let key = *self.by_use.first_key_value()?.1;
        self.remove(key);
        Some(key)
    }
}

impl DiskCache {
    /// Opens a directory of our own; counts the chunks that an earlier process left.
    pub fn open(directory: &Path, limit_bytes: u64) -> Result<Self, DiskCacheError> {
        let failed = |source| DiskCacheError {
            path: directory.to_path_buf(),
            source,
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let mut index = Index::default();
        for folder in fs::read_dir(directory).map_err(failed)? {
            let folder = folder.map_err(failed)?.path();
            if !folder.is_dir() {
                continue;
            }
            for file in fs::read_dir(&folder).map_err(failed)? {
                let file = file.map_err(failed)?;
                if let Some(key) = parse_name(&file.path(), ".chunk") {
                    index.insert(key, file.metadata().map_err(failed)?.len());
                } else if parse_name(&file.path(), ".tmp").is_some() {
                    fs::remove_file(file.path()).map_err(failed)?;
                }
            }
        }
        let cache = Self {
            directory: directory.to_path_buf(),
            limit_bytes,
            index: Mutex::new(index),
            writes: Arc::new(Semaphore::new(WRITES_IN_FLIGHT)),
        };
        cache.trim();
        Ok(cache)
    }

    fn path(&self, (segment, chunk): ChunkKey) -> PathBuf {
        let name = segment.to_string();
        self.directory
            .join(&name[..2])
            .join(format!("{name}-{chunk}.chunk"))
    }

    /// A chunk, if it is there and undamaged.
    pub async fn get(self: &Arc<Self>, key: ChunkKey, wanted_crc: u32) -> Option<Bytes> {
        if !self.index.lock().expect("no holder panics").touch(key) {
            return None;
        }
        let cache = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let found = read_chunk(&cache.path(key), wanted_crc);
            if found.is_none() {
                cache.forget(key);
            }
            found
        });
        read.await.ok().flatten()
    }

    /// Writes a chunk in the background; drops it when the disk does not keep up.
    pub fn put(self: &Arc<Self>, key: ChunkKey, crc: u32, bytes: Bytes) {
        let Ok(permit) = self.writes.clone().try_acquire_owned() else {
            return;
        };
        let cache = self.clone();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            match write_chunk(&cache.path(key), crc, &bytes) {
                Ok(length) => {
                    cache
                        .index
                        .lock()
                        .expect("no holder panics")
                        .insert(key, length);
                    cache.trim();
                }
                Err(error) => tracing::debug!(%error, "a chunk was not cached on disk"),
            }
        });
    }

    fn forget(&self, key: ChunkKey) {
        self.index.lock().expect("no holder panics").remove(key);
        let _ = fs::remove_file(self.path(key));
    }

    fn trim(&self) {
        loop {
            let oldest = {
                let mut index = self.index.lock().expect("no holder panics");
                if index.bytes <= self.limit_bytes {
                    return;
                }
                index.pop_oldest()
            };
            let Some(key) = oldest else { return };
            let _ = fs::remove_file(self.path(key));
        }
    }

    pub fn bytes(&self) -> u64 {
        self.index.lock().expect("no holder panics").bytes
    }
}

/// The chunk of a file that this cache has written; `None` for a foreign file, which stays.
fn parse_name(path: &Path, suffix: &str) -> Option<ChunkKey> {
    let stem = path.file_name()?.to_str()?.strip_suffix(suffix)?;
    let (segment, chunk) = stem.split_once('-')?;
    Some((
        RemoteLogSegmentId(Uuid::try_parse(segment).ok()?),
        chunk.parse().ok()?,
    ))
}

fn write_chunk(path: &Path, crc: u32, bytes: &[u8]) -> io::Result<u64> {
    fs::create_dir_all(path.parent().expect("a chunk lies in a folder"))?;
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(MAGIC)?;
    file.write_all(&(bytes.len() as u32).to_be_bytes())?;
    file.write_all(&crc.to_be_bytes())?;
    file.write_all(bytes)?;
    fs::rename(&temporary, path)?;
    Ok((HEADER_BYTES + bytes.len()) as u64)
}

fn read_chunk(path: &Path, wanted_crc: u32) -> Option<Bytes> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
    let bytes = Bytes::from(bytes);
    let length = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?) as usize;
    let body = bytes.slice(HEADER_BYTES.min(bytes.len())..);
    let intact =
        bytes.starts_with(MAGIC) && body.len() == length && crate::crc32c(&body) == wanted_crc;
    intact.then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u128) -> ChunkKey {
        (RemoteLogSegmentId(Uuid::from_u128(n << 120)), 7)
    }

    fn insert(cache: &DiskCache, n: u128, bytes: &[u8]) {
        let length = write_chunk(&cache.path(key(n)), crate::crc32c(bytes), bytes).unwrap();
        cache.index.lock().unwrap().insert(key(n), length);
        cache.trim();
    }

    #[tokio::test]
    async fn the_least_recently_used_chunk_goes_and_the_rest_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let body = vec![5u8; 1000];
        let crc = crate::crc32c(&body);
        let cache = Arc::new(DiskCache::open(directory.path(), 3200).unwrap());
        for n in 1..=3 {
            insert(&cache, n, &body);
        }
        assert!(cache.get(key(1), crc).await.is_some());
        insert(&cache, 4, &body);
        assert!(cache.get(key(2), crc).await.is_none());
        assert_eq!(cache.bytes(), 3 * 1016);
        let left_over = format!("01/{}-0.tmp", RemoteLogSegmentId(Uuid::from_u128(1)));
        fs::write(directory.path().join(&left_over), b"left over").unwrap();
        // `strandline.remote.cache.dir` names a log directory by mistake.
        let foreign = ["01/00000000000000000000.log", "01/x.tmp"];
        for name in foreign {
            fs::write(directory.path().join(name), b"not ours").unwrap();
        }
        let cache = Arc::new(DiskCache::open(directory.path(), 3200).unwrap());
        for n in [1, 3, 4] {
            assert_eq!(cache.get(key(n), crc).await.unwrap(), body);
        }
        assert!(!directory.path().join(&left_over).exists());
        for name in foreign {
            assert_eq!(fs::read(directory.path().join(name)).unwrap(), b"not ours");
        }
    }

    #[tokio::test]
    async fn a_damaged_chunk_is_a_miss_and_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Arc::new(DiskCache::open(directory.path(), 1 << 20).unwrap());
        insert(&cache, 1, b"hello");
        let path = cache.path(key(1));
        let mut bytes = fs::read(&path).unwrap();
        bytes[17] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(cache.get(key(1), crate::crc32c(b"hello")).await.is_none());
        assert!(!path.exists());
        assert_eq!(cache.bytes(), 0);
    }
}
