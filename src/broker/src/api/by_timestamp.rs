//! Look-up of the offset for a timestamp over both tiers: the cold one up to where the local log begins, then the local
//! one.
//!
//! The answer is the record that a scan from the log start would find first. The log start may lie inside a batch, in
//! either tier.

use std::cmp::Reverse;
use std::sync::Arc;

use bytes::Bytes;
use strandline_log::{FoundTimestamp, LeaderEpochs, LogError, LogView};
use strandline_types::{LeaderEpoch, Offset, RemoteLogSegmentMetadata, TimestampMs};
use strandline_wire::ErrorCode;
use strandline_wire::batch::{BatchHeader, Records};

use super::Call;
use super::fetch::remote_error;
use crate::partition::Partition;
use crate::tier::Tier;

/// Offset, timestamp and the epoch that wrote the record.
pub type Found = (i64, i64, i32);
pub const NOTHING: Found = (-1, -1, -1);

/// The first record at or above a timestamp, below `limit`.
pub async fn find_timestamp(
    call: &Call,
    partition: &Arc<Partition>,
    view: &Arc<LogView>,
    at: TimestampMs,
    limit: Offset,
) -> Result<Found, ErrorCode> {
    if let Some(tier) = &call.context.tier {
        for segment in cold_segments(call, partition, view) {
            // Where the largest timestamp is not known, the segment is searched.
            if (0..at).contains(&segment.max_timestamp_ms) {
                continue;
            }
            let cold = ColdSegment::new(tier, &segment, view);
            if let Some(found) = cold.first_at_or_above(at).await? {
                return Ok(found);
            }
        }
    }
    let (searching, start) = (view.clone(), view.local_log_start_offset);
    let found = off_reactor(partition, move || {
        searching.find_timestamp(at, start, limit)
    })
    .await?;
    Ok(found_locally(view, found))
}

/// The record with the largest timestamp below `limit`; of several, the first.
pub async fn find_max_timestamp(
    call: &Call,
    partition: &Arc<Partition>,
    view: &Arc<LogView>,
    limit: Offset,
) -> Result<Found, ErrorCode> {
    let (searching, start) = (view.clone(), view.local_log_start_offset);
    let local = off_reactor(partition, move || {
        searching.find_max_timestamp(start, limit)
    })
    .await?;
    let mut best = found_locally(view, local);
    let Some(tier) = &call.context.tier else {
        return Ok(best);
    };
    let mut segments = cold_segments(call, partition, view);
    segments.sort_by_key(|s| Reverse(s.max_timestamp_ms));
    for segment in segments {
        // All cold records come before all local ones, so of equal timestamps the cold one wins.
        if (0..best.1).contains(&segment.max_timestamp_ms) {
            continue;
        }
        let found = ColdSegment::new(tier, &segment, view).largest().await?;
        if let Some(found) = found
            && (found.1, Reverse(found.0)) > (best.1, Reverse(best.0))
        {
            best = found;
        }
    }
    Ok(best)
}

/// The remote segments with records between the log start and the local log, in order.
fn cold_segments(
    call: &Call,
    partition: &Partition,
    view: &LogView,
) -> Vec<RemoteLogSegmentMetadata> {
    let image = call.context.quorum.image();
    let Some(log) = image.remote_log(partition.id()) else {
        return Vec::new();
    };
    let cold = view.log_start_offset..view.local_log_start_offset;
    log.readable()
        .filter(|s| s.end_offset > cold.start && s.base_offset < cold.end)
        .cloned()
        .collect()
}

/// Runs a search that reads files.
async fn off_reactor<T: Send + 'static>(
    partition: &Partition,
    search: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, ErrorCode> {
    tokio::task::spawn_blocking(search)
        .await
        .map_err(|_| ErrorCode::UnknownServerError)?
        .map_err(|error| {
            partition.report(&error);
            tracing::error!(%error, "a look-up by time failed");
            ErrorCode::KafkaStorageError
        })
}

fn found_locally(view: &LogView, found: Option<FoundTimestamp>) -> Found {
    found.map_or(NOTHING, |f| {
        let epoch = view.epochs.epoch_of(f.offset).map_or(-1, |e| e.0);
        (f.offset, f.timestamp_ms, epoch)
    })
}

/// A remote segment, as far as it lies between the log start and the local log.
struct ColdSegment<'a> {
    tier: &'a Tier,
    segment: &'a RemoteLogSegmentMetadata,
    start: Offset,
    end: Offset,
    /// The leader's: records of another history do not count.
    lineage: &'a LeaderEpochs,
}

impl<'a> ColdSegment<'a> {
    fn new(tier: &'a Tier, segment: &'a RemoteLogSegmentMetadata, view: &'a LogView) -> Self {
        Self {
            tier,
            segment,
            start: view.log_start_offset,
            end: view.local_log_start_offset.min(segment.end_offset),
            lineage: &view.epochs,
        }
    }

    async fn first_at_or_above(&self, at: TimestampMs) -> Result<Option<Found>, ErrorCode> {
        let mut from = self.start;
        // A batch may have its timestamp in records below the log start; the search then continues behind the batch.
        while let Some(batch) = self.batch(at, from).await? {
            let mut records = self.records(&batch)?.into_iter();
            if let Some(found) = records.find(|record| record.1 >= at) {
                return Ok(Some(found));
            }
            from = next_offset(&batch)?;
        }
        Ok(None)
    }

    async fn largest(&self) -> Result<Option<Found>, ErrorCode> {
        if self.segment.max_timestamp_ms >= 0 {
            let known = self
                .first_at_or_above(self.segment.max_timestamp_ms)
                .await?;
            if known.is_some() {
                return Ok(known);
            }
        }
        // The record with the largest timestamp is below the log start. Look at each batch whose timestamps exceed the
        // best so far.
        let (mut from, mut best) = (self.start, None::<Found>);
        loop {
            let above = best.map_or(0, |b| b.1.saturating_add(1));
            let Some(batch) = self.batch(above, from).await? else {
                return Ok(best);
            };
            for record in self.records(&batch)? {
                if record.1 >= 0 && best.is_none_or(|b| record.1 > b.1) {
                    best = Some(record);
                }
            }
            from = next_offset(&batch)?;
        }
    }

    /// The first batch with records from `from` on that may have one at or above `at`.
    async fn batch(&self, at: TimestampMs, from: Offset) -> Result<Option<Bytes>, ErrorCode> {
        if from >= self.end {
            return Ok(None);
        }
        let batch = self.tier.find_timestamp(self.segment, at, from).await;
        batch.map_err(|error| {
            if let Some(unsaid) = self.tier.read_failed(self.segment.partition) {
                tracing::warn!(segment = %self.segment.id, %error, unsaid, "a look-up by time failed in the cold tier");
            }
            remote_error(&error)
        })
    }

    /// The records of a batch that count.
    fn records(&self, batch: &[u8]) -> Result<Vec<Found>, ErrorCode> {
        let header = BatchHeader::decode(batch).map_err(|_| ErrorCode::CorruptMessage)?;
        let mut records = Records::new(header, batch).map_err(|_| ErrorCode::CorruptMessage)?;
        let mut found = Vec::new();
        let epoch = LeaderEpoch(header.partition_leader_epoch);
        while let Some(record) = records
            .next_record()
            .map_err(|_| ErrorCode::CorruptMessage)?
        {
            let counts = (self.start..self.end).contains(&record.offset)
                && self.lineage.epoch_of(record.offset) == Some(epoch);
            if counts {
                found.push((
                    record.offset,
                    record.timestamp,
                    header.partition_leader_epoch,
                ));
            }
        }
        Ok(found)
    }
}

fn next_offset(batch: &[u8]) -> Result<Offset, ErrorCode> {
    let header = BatchHeader::decode(batch).map_err(|_| ErrorCode::CorruptMessage)?;
    Ok(header.end_offset())
}
