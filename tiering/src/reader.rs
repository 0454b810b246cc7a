//! Reading records of a remote segment: finds the batch, gathers whole batches as slices of cached chunks, and fetches
//! ahead for sequential readers.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;
use strandline_types::{Offset, RemoteLogSegmentMetadata, TimestampMs};

use crate::cache::{ChunkCache, FetchError};
use crate::side::{SectionKind, SideObject};

/// The fields of a batch that the reader needs. The caller brings the decoder: this crate does not know Kafka's format.
#[derive(Clone, Copy, Debug)]
pub struct BatchOutline {
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub max_timestamp_ms: TimestampMs,
    /// Bytes of the whole batch.
    pub size: u64,
}

/// Decodes the first [`HEADER_BYTES`] of a batch; `None` if they are no batch header.
pub type DecodeHeader = fn(&[u8]) -> Option<BatchOutline>;

/// Bytes that a header needs.
pub const HEADER_BYTES: u64 = 61;

/// Chunks that are fetched ahead of a sequential reader.
const PREFETCH_CHUNKS: u64 = 3;

/// Whole batches, in order, as slices of chunks; a batch may be cut over two slices.
#[derive(Clone, Debug, Default)]
pub struct RemoteRecords {
    pub slices: Vec<Bytes>,
    pub bytes: usize,
    /// The offset at which reading may continue.
    pub next_offset: Offset,
}

/// Reads remote segments through the cache.
#[derive(Clone)]
pub struct RemoteReader {
    pub cache: ChunkCache,
    pub decode: DecodeHeader,
}

/// One segment with its side object.
struct Open<'a> {
    reader: &'a RemoteReader,
    segment: &'a RemoteLogSegmentMetadata,
    side: Arc<SideObject>,
}

impl RemoteReader {
    /// Whole batches from the one that holds `offsets.start` on: at most `max_bytes`, but at least one, and none that
    /// begins at `offsets.end` or beyond, where the segment may hold another history. Empty only if the segment holds
    /// no record in that range. `next` is the following segment, whose head is fetched ahead near the end.
    pub async fn read(
        &self,
        segment: &RemoteLogSegmentMetadata,
        offsets: Range<Offset>,
        max_bytes: usize,
        next: Option<&RemoteLogSegmentMetadata>,
    ) -> Result<RemoteRecords, FetchError> {
        let open = self.open(segment).await?;
        let limit = offsets.end;
        let found = open.find_offset(offsets.start).await?;
        let Some((start, first)) = found.filter(|(_, b)| b.base_offset < limit) else {
            return Ok(RemoteRecords {
                next_offset: limit,
                ..RemoteRecords::default()
            });
        };
        let mut batches = vec![(start + first.size, first)];
        let mut end = start + first.size;
        // A batch that cannot be read ends the answer; the next fetch begins there and says why.
        while let Ok(Some(batch)) = open.header_at(end).await {
            if end + batch.size - start > max_bytes as u64 || batch.base_offset >= limit {
                break;
            }
            end += batch.size;
            batches.push((end, batch));
        }
        let (slices, end, last) = open.whole_batches(start, &batches).await?;
        self.fetch_ahead(&open, end, next).await;
        Ok(RemoteRecords {
            slices,
            bytes: (end - start) as usize,
            next_offset: last.last_offset + 1,
        })
    }

    /// The lineage up to the segment's end (`leader-epoch-checkpoint`) and the producer state there (`.snapshot`), for a
    /// replica whose log begins behind it.
    pub async fn state_at_end(
        &self,
        segment: &RemoteLogSegmentMetadata,
    ) -> Result<(Bytes, Bytes), FetchError> {
        let open = self.open(segment).await?;
        let section = |kind| open.side.section(kind).unwrap_or_default();
        Ok((
            section(SectionKind::LeaderEpochs),
            section(SectionKind::ProducerSnapshot),
        ))
    }

    /// The bytes of the first batch at or after `from` that may hold a record with `timestamp_ms` or later.
    pub async fn find_timestamp(
        &self,
        segment: &RemoteLogSegmentMetadata,
        timestamp_ms: TimestampMs,
        from: Offset,
    ) -> Result<Option<Bytes>, FetchError> {
        if segment.is_gap() {
            return Ok(None);
        }
        let open = self.open(segment).await?;
        let scan_from = open
            .side
            .offset_for_timestamp(segment.base_offset, timestamp_ms)
            .max(from);
        let position = open.find_offset(scan_from).await?;
        let position = position.map_or(segment.log_bytes, |(position, _)| position);
        let found = open
            .find(position, |b| {
                b.max_timestamp_ms >= timestamp_ms && b.last_offset >= from
            })
            .await?;
        // Behind the end of a segment that was shortened, its object holds another history.
        let found = found.filter(|(_, batch)| batch.base_offset < segment.end_offset);
        let Some((position, batch)) = found else {
            return Ok(None);
        };
        let mut whole = BytesMut::with_capacity(batch.size as usize);
        for slice in open.slices(position, position + batch.size).await? {
            whole.extend_from_slice(&slice);
        }
        Ok(Some(whole.freeze()))
    }

    async fn open<'a>(
        &'a self,
        segment: &'a RemoteLogSegmentMetadata,
    ) -> Result<Open<'a>, FetchError> {
        let side = self.cache.side(segment).await?;
        Ok(Open {
            reader: self,
            segment,
            side,
        })
    }

    /// Begins the loads that a sequential reader needs next, over the segment's border too.
    async fn fetch_ahead(
        &self,
        open: &Open<'_>,
        position: u64,
        next: Option<&RemoteLogSegmentMetadata>,
    ) {
        let current = position / open.side.chunk_bytes;
        let chunks = open.segment.log_bytes.div_ceil(open.side.chunk_bytes);
        for chunk in current..=current + PREFETCH_CHUNKS {
            if chunk < chunks {
                self.cache.prefetch(open.segment, &open.side, chunk);
            } else if let Some(next) = next {
                let (cache, next) = (self.cache.clone(), next.clone());
                let ahead = chunk - chunks;
                // The next segment's side object may have to be fetched first, so this has a task of its own.
                tokio::spawn(async move {
                    if let Ok(side) = cache.side(&next).await {
                        cache.prefetch(&next, &side, ahead);
                    }
                });
            }
        }
    }
}

impl Open<'_> {
    /// The batch that holds `offset`, or the first one behind it. An offset index that points into nothing costs a walk
    /// over the whole segment, not the records.
    async fn find_offset(&self, offset: Offset) -> Result<Option<(u64, BatchOutline)>, FetchError> {
        let wanted = |batch: &BatchOutline| batch.last_offset >= offset;
        let from = self
            .side
            .position_for(self.segment.base_offset, offset)
            .min(self.segment.log_bytes);
        if from == 0 {
            return self.find(0, wanted).await;
        }
        match self.header_at(from).await {
            Ok(Some(first)) if self.begins_here(&first, offset) => self.find(from, wanted).await,
            Ok(_) | Err(FetchError::OutOfBounds { .. }) => self.find(0, wanted).await,
            // The index may be right, and the bytes there cannot be had: those before are not asked for.
            Err(error) => Err(error),
        }
    }

    /// Whether the bytes at an index entry's position are a batch of this segment, and not one behind `offset`.
    fn begins_here(&self, batch: &BatchOutline, offset: Offset) -> bool {
        let segment = self.segment.base_offset..=offset;
        segment.contains(&batch.base_offset) && batch.last_offset >= batch.base_offset
    }

    /// The first batch at or after `position` that satisfies `wanted`.
    async fn find(
        &self,
        mut position: u64,
        wanted: impl Fn(&BatchOutline) -> bool,
    ) -> Result<Option<(u64, BatchOutline)>, FetchError> {
        while let Some(batch) = self.header_at(position).await? {
            if wanted(&batch) {
                return Ok(Some((position, batch)));
            }
            position += batch.size;
        }
        Ok(None)
    }

    async fn header_at(&self, position: u64) -> Result<Option<BatchOutline>, FetchError> {
        let end = position + HEADER_BYTES;
        if end > self.segment.log_bytes {
            return Ok(None);
        }
        let chunk_bytes = self.side.chunk_bytes;
        let chunk = self.chunk(position / chunk_bytes).await?;
        let within = (position % chunk_bytes) as usize;
        let decoded = if let Some(header) = chunk.get(within..within + HEADER_BYTES as usize) {
            (self.reader.decode)(header)
        } else {
            let mut header = chunk.get(within..).unwrap_or_default().to_vec();
            let rest = self.chunk(position / chunk_bytes + 1).await?;
            let missing = (HEADER_BYTES as usize).saturating_sub(header.len());
            header.extend_from_slice(rest.get(..missing).unwrap_or_default());
            (self.reader.decode)(&header)
        };
        // The chunk's checksum held, so a header that does not decode means that the segment was copied damaged.
        let out_of_bounds = || FetchError::OutOfBounds {
            key: self.segment.id.to_string(),
            position,
        };
        let batch = decoded.ok_or_else(out_of_bounds)?;
        if position + batch.size > self.segment.log_bytes {
            return Err(out_of_bounds());
        }
        Ok(Some(batch))
    }

    async fn chunk(&self, chunk: u64) -> Result<Bytes, FetchError> {
        self.reader
            .cache
            .chunk(self.segment, &self.side, chunk)
            .await
    }

    /// As many of the batches from `start` on, given their ends, as can be had without a gap, and at least the first: one
    /// damaged chunk hides its own range alone.
    async fn whole_batches(
        &self,
        start: u64,
        batches: &[(u64, BatchOutline)],
    ) -> Result<(Vec<Bytes>, u64, BatchOutline), FetchError> {
        let mut wanted = batches;
        loop {
            let Some((end, last)) = wanted.last().copied() else {
                return Err(FetchError::OutOfBounds {
                    key: self.segment.id.to_string(),
                    position: start,
                });
            };
            match self.slices(start, end).await {
                Ok(slices) => return Ok((slices, end, last)),
                Err(error) => {
                    // Without what ends in the last chunk.
                    let chunk = end.saturating_sub(1) / self.side.chunk_bytes;
                    let border = chunk * self.side.chunk_bytes;
                    let kept = wanted.partition_point(|(end, _)| *end <= border);
                    wanted = wanted.get(..kept).unwrap_or_default();
                    if wanted.is_empty() {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// `[start, end)` as slices of chunks, which are loaded side by side.
    async fn slices(&self, start: u64, end: u64) -> Result<Vec<Bytes>, FetchError> {
        let chunk_bytes = self.side.chunk_bytes;
        let slices = (start / chunk_bytes..=(end - 1) / chunk_bytes).map(|number| async move {
            let chunk = self.chunk(number).await?;
            let base = number * chunk_bytes;
            let from = start.saturating_sub(base) as usize;
            let to = (end - base).min(chunk_bytes) as usize;
            if from > to || to > chunk.len() {
                return Err(FetchError::OutOfBounds {
                    key: self.segment.id.to_string(),
                    position: base + chunk.len() as u64,
                });
            }
            Ok(chunk.slice(from..to))
        });
        try_join_all(slices).await
    }
}
