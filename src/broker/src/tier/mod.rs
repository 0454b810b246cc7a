//! The cold tier at run time: reads for fetches, and the manager that copies, trims and deletes.

mod manager;
mod segment_check;
pub mod status;
mod threads;

use std::sync::Arc;

use bytes::Bytes;
use strandline_metadata::ClusterImage;
use strandline_metadata::config::BrokerConfig;
use strandline_tiering::cache::{CacheConfig, ChunkCache, FetchError};
use strandline_tiering::reader::{BatchOutline, RemoteReader, RemoteRecords};
use strandline_tiering::store::RemoteStore;
use strandline_tiering::throttle::Throttle;
use strandline_tiering::upload::Uploader;
use strandline_types::{Offset, RemoteLogSegmentMetadata, TimestampMs, TopicIdPartition};
use strandline_wire::batch::BatchHeader;

pub use manager::{TierManager, look_for_orphans};
use status::TierStatus;
pub use threads::ColdThreads;

/// The cold tier of this broker.
pub struct Tier {
    pub store: RemoteStore,
    pub reader: RemoteReader,
    pub uploader: Uploader,
    pub status: TierStatus,
    pub threads: ColdThreads,
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
            },
            store,
            status: TierStatus::default(),
            threads,
        })
    }

    /// Whole batches from `offset` on; `None` if no readable segment holds it.
    pub async fn read(
        &self,
        image: &ClusterImage,
        partition: TopicIdPartition,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<Option<RemoteRecords>, FetchError> {
        let Some(log) = image.remote_log(partition) else {
            return Ok(None);
        };
        let mut at = offset;
        // A segment may end in offsets that hold no record; the next one then has the first.
        while let Some(segment) = log.segment_for(at) {
            let next = log.segment_for(segment.end_offset);
            let records = self.reader.read(segment, at, max_bytes, next).await?;
            if !records.slices.is_empty() {
                return Ok(Some(records));
            }
            at = segment.end_offset;
        }
        Ok(None)
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
