//! The cold tier at run time: reads for fetches, and the manager that copies, trims and deletes.

mod back_off;
mod copying;
mod deleting;
mod next_step;
mod opening;
mod ownership;
mod passes;
mod retention;
mod sections;
mod segment_check;
mod state;
pub mod status;
mod sweeping;
mod switched_off;
mod takeover;
mod threads;
mod turn;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use strandline_metadata::ClusterImage;
use strandline_metadata::config::BrokerConfig;
use strandline_tiering::cache::{CacheConfig, ChunkCache, FetchError};
use strandline_tiering::lineage::holder;
use strandline_tiering::reader::{BatchOutline, RemoteReader, RemoteRecords};
use strandline_tiering::store::RemoteStore;
use strandline_tiering::throttle::Throttle;
use strandline_tiering::upload::{CopyMemory, Uploader};
use strandline_types::{
    EpochStart, Offset, RemoteLogSegmentMetadata, TimestampMs, TopicIdPartition,
};
use strandline_wire::batch::BatchHeader;
use tokio_util::sync::CancellationToken;

use crate::clock::monotonic;
use crate::log_limit::LogLimit;
pub use opening::{OpenTierError, open_tier};
pub use ownership::cluster_of;
pub use passes::TierManager;
pub use retention::last_copied_offset;
pub use state::state_at;
use status::TierStatus;
pub use sweeping::look_for_orphans;
pub use takeover::take_over_partitions;
pub use threads::ColdThreads;

/// The cold tier of this broker.
pub struct Tier {
    pub store: RemoteStore,
    pub reader: RemoteReader,
    pub uploader: Uploader,
    pub status: TierStatus,
    pub threads: ColdThreads,
    /// `strandline.remote.store.url`
    pub url: String,
    /// The prefix is known to be this cluster's; until then nothing is copied and nothing swept.
    owned: AtomicBool,
    /// Reads by consumers that failed, and steps of copying and deleting.
    pub failed_reads: AtomicU64,
    pub failed_steps: AtomicU64,
    read_lines: Mutex<LogLimit<TopicIdPartition>>,
}

fn outline(bytes: &[u8]) -> Option<BatchOutline> {
    let header = BatchHeader::decode(bytes).ok()?;
    Some(BatchOutline {
        base_offset: header.base_offset,
        last_offset: header.last_offset(),
        max_timestamp_ms: header.max_timestamp,
        size: header.size() as u64,
    })
}

fn rate(config: &BrokerConfig, key: &str) -> u64 {
    match config.number(key) {
        i64::MAX => u64::MAX,
        n => n.max(1) as u64,
    }
}

impl Tier {
    pub fn new(
        store: RemoteStore,
        config: &BrokerConfig,
        cache_dir: &std::path::Path,
        threads: ColdThreads,
        url: String,
    ) -> Result<Self, strandline_tiering::cache::DiskCacheError> {
        let disk_bytes = config.number("strandline.remote.cache.bytes").max(0) as u64;
        let cache = CacheConfig {
            memory_bytes: config.number("strandline.remote.cache.memory.bytes").max(0) as u64,
            disk: (disk_bytes > 0).then(|| (cache_dir.to_path_buf(), disk_bytes)),
        };
        let reads = Arc::new(Throttle::new(rate(
            config,
            "remote.log.manager.fetch.max.bytes.per.second",
        )));
        let copies = Arc::new(Throttle::new(rate(
            config,
            "remote.log.manager.copy.max.bytes.per.second",
        )));
        let cache = ChunkCache::open(store.clone(), cache, reads, threads.handle().clone())?;
        Ok(Self {
            reader: RemoteReader {
                cache,
                decode: outline,
            },
            uploader: Uploader {
                store: store.clone(),
                throttle: copies,
                chunk_bytes: config.number("strandline.remote.chunk.bytes") as u32,
                memory: CopyMemory::new(
                    config.number("strandline.remote.copy.memory.bytes").max(0) as u64,
                ),
                stop: CancellationToken::new(),
            },
            store,
            status: TierStatus::default(),
            threads,
            url,
            owned: AtomicBool::new(false),
            failed_reads: AtomicU64::new(0),
            failed_steps: AtomicU64::new(0),
            read_lines: Mutex::default(),
        })
    }

    /// Whether the prefix is known to be this cluster's.
    pub fn is_owned(&self) -> bool {
        self.owned.load(Ordering::Acquire)
    }

    pub fn set_owned(&self, owned: bool) {
        self.owned.store(owned, Ordering::Release);
    }

    /// Counts a read that failed; whether a line may say so, and how many of the partition's were not said.
    pub fn read_failed(&self, partition: TopicIdPartition) -> Option<u64> {
        self.failed_reads.fetch_add(1, Ordering::Relaxed);
        let lines = self.read_lines.lock();
        let mut lines = lines.unwrap_or_else(PoisonError::into_inner);
        lines.line(partition, monotonic())
    }

    fn count_failed_step(&self) {
        self.failed_steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Whole batches from `offset` on; `None` if no readable segment of the log's `lineage` holds it.
    pub async fn read(
        &self,
        image: &ClusterImage,
        partition: TopicIdPartition,
        lineage: &[EpochStart],
        offset: Offset,
        max_bytes: usize,
    ) -> Result<Option<RemoteRecords>, FetchError> {
        let Some(log) = image.remote_log(partition) else {
            return Ok(None);
        };
        let mut at = offset;
        // A segment may end in offsets that hold no record; the next one then has the first.
        while let Some((segment, until)) = holder(log.readable_around(at), at, lineage) {
            if !segment.is_gap() {
                let next = holder(log.readable_around(until), until, lineage).map(|(s, _)| s);
                let read = self.reader.read(segment, at..until, max_bytes, next);
                let records = read.await?;
                if !records.slices.is_empty() {
                    return Ok(Some(records));
                }
            }
            at = until;
        }
        Ok(None)
    }

    /// The first offset from `offset` on that the cold tier does not answer for.
    pub fn end_of_answers(
        image: &ClusterImage,
        partition: TopicIdPartition,
        lineage: &[EpochStart],
        offset: Offset,
    ) -> Offset {
        let mut at = offset;
        if let Some(log) = image.remote_log(partition) {
            while let Some((_, until)) = holder(log.readable_around(at), at, lineage) {
                at = until;
            }
        }
        at
    }

    /// The first batch of a segment that may hold a record at or after a timestamp.
    pub async fn find_timestamp(
        &self,
        segment: &RemoteLogSegmentMetadata,
        timestamp_ms: TimestampMs,
        from: Offset,
    ) -> Result<Option<Bytes>, FetchError> {
        self.reader
            .find_timestamp(segment, timestamp_ms, from)
            .await
    }
}
