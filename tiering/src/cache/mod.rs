//! Chunks of remote segments: in memory, below it on disk, below that one shared ranged GET per chunk.
//!
//! Bytes that arrive damaged are fetched again before they count as damaged ([`loading`]).
//! A chunk is loaded once, however many readers ask for it; a reader that stops waiting does not stop the load.
//! Failures are not kept. Memory keeps the chunks that were used last (`moka`, LRU: admission by frequency would refuse
//! chunks that were just fetched ahead). The disk takes a chunk that had to be fetched from the bucket a second time,
//! so one long scan neither fills the disk nor wears it out. Loading, checking and decoding run on the threads that the
//! cache was given.

mod ahead;
mod disk;
mod loading;
mod recent;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use strandline_types::{BufferPool, RemoteLogSegmentId, RemoteLogSegmentMetadata};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use ahead::ReadAhead;
pub use disk::{DiskCache, DiskCacheError};
use recent::RecentKeys;

use crate::side::{SideError, SideObject};
use crate::store::RemoteStore;
use crate::throttle::Throttle;
use crate::upload::PART_BYTES;

/// One chunk of one attempt's log object. Attempts are never written twice, so a key never changes its bytes.
pub type ChunkKey = (RemoteLogSegmentId, u64);

/// Why remote bytes could not be had.
#[derive(Clone, Debug, Error)]
pub enum FetchError {
    /// The store failed; the same read may succeed later.
    #[error("get {key}: {reason}")]
    Store { key: String, reason: String },
    /// The bytes from the store are not those that were written.
    #[error("{key}, chunk {chunk}: crc {found:#010x}, recorded is {wanted:#010x}")]
    Corrupt {
        key: String,
        chunk: u64,
        found: u32,
        wanted: u32,
    },
    #[error("{key}: {reason}")]
    Side { key: String, reason: Arc<SideError> },
    #[error("{key}: the log object has no byte {position}")]
    OutOfBounds { key: String, position: u64 },
}

/// Hits by tier, misses and evictions.
#[derive(Debug, Default)]
pub struct CacheStats {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub evictions: AtomicU64,
    /// Answers of the store whose checksum did not fit.
    pub damaged: AtomicU64,
}

/// Limits of the cache.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    pub memory_bytes: u64,
    /// `None`: no disk tier.
    pub disk: Option<(std::path::PathBuf, u64)>,
}

/// Share of the memory budget that parsed side objects may take.
const SIDE_SHARE: u64 = 8;
/// Share of the memory budget that chunks may take which were fetched ahead and not read yet. More readers than that
/// fetch less far ahead, instead of driving out each other's chunks.
const AHEAD_SHARE: u64 = 2;
/// Loads from the bucket at the same time; together with the chunk size this bounds memory in flight.
const CONCURRENT_LOADS: usize = 32;
/// Buffers of evicted chunks that are kept for the next ones.
const SPARE_BUFFERS: usize = 8;
/// Keys remembered for admission to the disk.
const RECENT_KEYS: usize = 1 << 16;

/// The cache. Clones share it.
#[derive(Clone)]
pub struct ChunkCache {
    inner: Arc<Inner>,
}

struct Inner {
    store: RemoteStore,
    chunks: Cache<ChunkKey, Bytes>,
    sides: Cache<RemoteLogSegmentId, Arc<SideObject>>,
    ahead: Arc<ReadAhead>,
    buffers: BufferPool,
    disk: Option<Arc<DiskCache>>,
    loads: Semaphore,
    throttle: Arc<Throttle>,
    fetched: RecentKeys,
    stats: Arc<CacheStats>,
    tasks: TaskTracker,
    /// Ends loads that are under way.
    stop: CancellationToken,
    threads: Handle,
}

impl ChunkCache {
    /// A cache whose loads run on `threads`.
    pub fn open(
        store: RemoteStore,
        config: CacheConfig,
        throttle: Arc<Throttle>,
        threads: Handle,
    ) -> Result<Self, DiskCacheError> {
        let stats = Arc::new(CacheStats::default());
        let disk = config
            .disk
            .map(|(path, bytes)| DiskCache::open(&path, bytes))
            .transpose()?;
        let side_bytes = config.memory_bytes / SIDE_SHARE;
        let ahead = Arc::new(ReadAhead::new(config.memory_bytes / AHEAD_SHARE));
        let (evicted, gone) = (stats.clone(), ahead.clone());
        let chunks = Cache::builder()
            .max_capacity(config.memory_bytes - side_bytes)
            .eviction_policy(EvictionPolicy::lru())
            .weigher(|_, chunk: &Bytes| chunk.len() as u32 + 100)
            .eviction_listener(move |key: Arc<ChunkKey>, _, cause| {
                if cause.was_evicted() {
                    evicted.evictions.fetch_add(1, Ordering::Relaxed);
                    gone.end(&key);
                }
            })
            .build();
        let sides = Cache::builder()
            .max_capacity(side_bytes)
            .weigher(|_, side: &Arc<SideObject>| side.weight() as u32)
            .build();
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                chunks,
                sides,
                ahead,
                buffers: BufferPool::new(SPARE_BUFFERS, PART_BYTES),
                disk: disk.map(Arc::new),
                loads: Semaphore::new(CONCURRENT_LOADS),
                throttle,
                fetched: RecentKeys::new(RECENT_KEYS),
                stats,
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
                threads,
            }),
        })
    }

    pub fn stats(&self) -> &CacheStats {
        &self.inner.stats
    }

    /// The side object of a segment, checked.
    pub async fn side(
        &self,
        segment: &RemoteLogSegmentMetadata,
    ) -> Result<Arc<SideObject>, FetchError> {
        if let Some(side) = self.inner.sides.get(&segment.id).await {
            return Ok(side);
        }
        let (inner, segment) = (self.inner.clone(), segment.clone());
        // In a task of its own: the load continues and serves other readers if this caller goes away.
        let load = async move {
            let load = inner.unless_stopped(inner.load_side(&segment));
            inner.sides.try_get_with(segment.id, load).await
        };
        self.inner
            .tasks
            .spawn_on(load, &self.inner.threads)
            .await
            .expect("loading a side object does not panic")
            .map_err(|e| FetchError::clone(&e))
    }

    /// One chunk, from the nearest place that has it, checked.
    pub async fn chunk(
        &self,
        segment: &RemoteLogSegmentMetadata,
        side: &Arc<SideObject>,
        chunk: u64,
    ) -> Result<Bytes, FetchError> {
        let key = (segment.id, chunk);
        self.inner.ahead.end(&key);
        if let Some(bytes) = self.inner.chunks.get(&key).await {
            self.inner.stats.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(bytes);
        }
        self.start_load(segment, side, chunk)
            .await
            .expect("loading a chunk does not panic")
            .map_err(|e| FetchError::clone(&e))
    }

    /// Begins to load a chunk that will be asked for soon, if there is room for it. Returns at once.
    pub fn prefetch(&self, segment: &RemoteLogSegmentMetadata, side: &Arc<SideObject>, chunk: u64) {
        let key = (segment.id, chunk);
        let within = chunk * side.chunk_bytes < segment.log_bytes;
        if within
            && !self.inner.chunks.contains_key(&key)
            && self.inner.ahead.begin(key, side.chunk_bytes)
        {
            drop(self.start_load(segment, side, chunk));
        }
    }

    fn start_load(
        &self,
        segment: &RemoteLogSegmentMetadata,
        side: &Arc<SideObject>,
        chunk: u64,
    ) -> tokio::task::JoinHandle<Result<Bytes, Arc<FetchError>>> {
        let (inner, segment, side) = (self.inner.clone(), segment.clone(), side.clone());
        let load = async move {
            let load = inner.unless_stopped(inner.load_chunk(&segment, &side, chunk));
            let loaded = inner.chunks.try_get_with((segment.id, chunk), load).await;
            if loaded.is_err() {
                inner.ahead.end(&(segment.id, chunk));
            }
            loaded
        };
        self.inner.tasks.spawn_on(load, &self.inner.threads)
    }

    /// Ends loads that are under way, also those that a low rate keeps waiting.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}
