//! Chunks on a local disk: one file a chunk, least recently used out first, a CRC on every read.
//!
//! File: `STRCHNK1`, length u32, CRC-32C u32 (big endian), the bytes; named `<segment>-<chunk>.chunk` in one of 256
//! folders. Written as `.tmp` and renamed; at start chunks are counted and `.tmp` files of chunks go. A directory with any
//! other file is refused, and nothing in it is touched: it was named by mistake. Nothing here is needed:
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

/// The root directory of a file system may hold this beside the cache.
const OF_FILE_SYSTEM: &str = "lost+found";

#[derive(Debug, Error)]
pub enum DiskCacheError {
    #[error("strandline.remote.cache.dir: {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "strandline.remote.cache.dir: {} is no file of the cache: give the cache a directory of its own",
        .0.display()
    )]
    Foreign(PathBuf),
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
        let failed = |source| DiskCacheError::Io {
            path: directory.to_path_buf(),
            source,
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let found = look(directory)?;
        let mut index = Index::default();
        for (key, bytes) in found.chunks {
            index.insert(key, bytes);
        }
        for path in found.unfinished {
            fs::remove_file(path).map_err(failed)?;
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

    /// Whether `open` would take this directory: one that is not there yet, or one with nothing but files of the cache.
    pub fn check(directory: &Path) -> Result<(), DiskCacheError> {
        match look(directory) {
            Err(DiskCacheError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(())
            }
            looked => looked.map(drop),
        }
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

/// The files of an earlier process.
#[derive(Default)]
struct Found {
    /// With their lengths.
    chunks: Vec<(ChunkKey, u64)>,
    unfinished: Vec<PathBuf>,
}

/// Looks at every file without touching any.
fn look(directory: &Path) -> Result<Found, DiskCacheError> {
    let mut found = Found::default();
    for folder in entries(directory)? {
        let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or("");
        if name == OF_FILE_SYSTEM {
            continue;
        }
        let is_own = name.len() == 2 && name.chars().all(|c| c.is_ascii_hexdigit());
        let is_folder = fs::symlink_metadata(&folder).is_ok_and(|m| m.is_dir());
        if !is_own || !is_folder {
            return Err(DiskCacheError::Foreign(folder));
        }
        for file in entries(&folder)? {
            if let Some(key) = parse_name(&file, ".chunk") {
                let length = fs::metadata(&file).map(|m| m.len());
                let length = length.map_err(|source| DiskCacheError::Io {
                    path: file.clone(),
                    source,
                })?;
                found.chunks.push((key, length));
            } else if parse_name(&file, ".tmp").is_some() {
                found.unfinished.push(file);
            } else {
                return Err(DiskCacheError::Foreign(file));
            }
        }
    }
    Ok(found)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, DiskCacheError> {
    let entries = fs::read_dir(directory).and_then(|all| {
        let paths = all.map(|entry| Ok(entry?.path()));
        paths.collect::<io::Result<Vec<_>>>()
    });
    entries.map_err(|source| DiskCacheError::Io {
        path: directory.to_path_buf(),
        source,
    })
}

/// The chunk of a file that this cache has written; `None` for a foreign file.
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
        let cache = Arc::new(DiskCache::open(directory.path(), 3200).unwrap());
        for n in [1, 3, 4] {
            assert_eq!(cache.get(key(n), crc).await.unwrap(), body);
        }
        assert!(!directory.path().join(&left_over).exists());
    }

    #[test]
    fn a_directory_with_a_foreign_file_is_refused_and_nothing_in_it_is_touched() {
        let foreign = [
            "t-0/00000000000000000000.log",
            "__cluster_metadata/log",
            "01/00000000000000000000.log",
            "01/x.tmp",
            "meta.properties",
            "01",
            "photos/1.jpg",
        ];
        for name in foreign {
            let directory = tempfile::tempdir().unwrap();
            let unfinished = format!("02/{}-0.tmp", RemoteLogSegmentId(Uuid::from_u128(2)));
            for file in [name, &unfinished] {
                let path = directory.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, b"not ours").unwrap();
            }
            let checked = DiskCache::check(directory.path()).unwrap_err();
            let refused = DiskCache::open(directory.path(), 0).unwrap_err();
            assert_eq!(checked.to_string(), refused.to_string());
            assert!(matches!(&refused, DiskCacheError::Foreign(_)), "{refused}");
            for file in [name, &unfinished] {
                let kept = fs::read(directory.path().join(file)).unwrap();
                assert_eq!(kept, b"not ours", "{file}");
            }
        }
        let mounted = tempfile::tempdir().unwrap();
        fs::create_dir(mounted.path().join("lost+found")).unwrap();
        DiskCache::check(mounted.path()).unwrap();
        DiskCache::check(&mounted.path().join("not-there")).unwrap();
        DiskCache::open(mounted.path(), 0).unwrap();
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
