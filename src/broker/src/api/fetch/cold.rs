//! Reads of cold records: all partitions of a request at once, each with an equal share of the bytes that are left.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use strandline_metadata::ClusterImage;
use strandline_tiering::cache::FetchError;
use strandline_wire::ErrorCode;

use super::local::read_one;
use super::reader::Reader;
use super::reading::Reading;
use crate::api::Call;
use crate::tier::Tier;

/// Reads cold records; returns the bytes of the whole answer so far, which were `used` before.
pub(super) async fn read_remote(
    call: &Call,
    readings: &mut [Reading],
    reader: &Reader,
    budget: usize,
    used: usize,
) -> usize {
    let wanted = readings.iter().filter(|r| r.remote).count();
    let Some(tier) = call.context.tier.clone().filter(|_| wanted > 0) else {
        for reading in readings.iter_mut().filter(|r| r.remote) {
            reading.answer.error = ErrorCode::OffsetOutOfRange;
        }
        return used;
    };
    let share = budget.saturating_sub(used) / wanted;
    let image = call.context.quorum.image();
    let wait = Duration::from_millis(
        call.context
            .config()
            .number("remote.fetch.max.wait.ms")
            .max(1) as u64,
    );
    let reads = readings.iter_mut().filter(|r| r.remote).map(|reading| {
        let (tier, image) = (tier.clone(), image.clone());
        async move {
            let Some(partition) = reading.partition.clone() else {
                return (reading, Ok(Ok(None)));
            };
            let view = partition.view();
            let max = (reading.visit.request.max_bytes.max(0) as usize).min(share);
            let read = tier.read(
                &image,
                partition.id(),
                view.epochs.entries(),
                reading.visit.request.fetch_offset,
                max,
            );
            let result = tokio::time::timeout(wait, read).await;
            (reading, result)
        }
    });
    let mut used = used;
    for (reading, result) in join_all(reads).await {
        match result {
            // Still loading; the client asks again.
            Err(_) => {}
            Ok(Ok(Some(records))) => {
                // Only the first records of an answer may exceed the budget.
                if used == 0 || used + records.bytes <= budget {
                    used += records.bytes;
                    reading.answer.records = records.slices;
                }
            }
            Ok(Ok(None)) => match behind_gap(&image, reading, reader, share).await {
                Some(bytes) => {
                    used += bytes.len();
                    let found = Some(bytes).filter(|b| !b.is_empty());
                    reading.answer.records.extend(found);
                }
                None => reading.answer.error = ErrorCode::OffsetOutOfRange,
            },
            Ok(Err(error)) => {
                let offset = reading.visit.request.fetch_offset;
                if let Some(partition) = &reading.partition
                    && let Some(unsaid) = tier.read_failed(partition.id())
                {
                    let partition = &partition.topic_partition;
                    tracing::warn!(%partition, offset, %error, unsaid, "a remote read failed");
                }
                reading.answer.error = remote_error(&error);
            }
        }
    }
    used
}

/// The local records behind a gap that ends the cold tier: no replica has the requested offset, as after compaction.
async fn behind_gap(
    image: &ClusterImage,
    reading: &Reading,
    reader: &Reader,
    max_bytes: usize,
) -> Option<Bytes> {
    let partition = reading.partition.as_ref()?;
    let (view, offset) = (partition.view(), reading.visit.request.fetch_offset);
    let lineage = view.epochs.entries();
    let at = Tier::end_of_answers(image, partition.id(), lineage, offset);
    if at <= offset || at < view.local_log_start_offset {
        return None;
    }
    let read = read_one(&view, at, max_bytes, reader.limit(&view)).await;
    read.ok()
}

/// Damaged bytes are reported as such. An error of the store makes the client try again.
pub(in crate::api) fn remote_error(error: &FetchError) -> ErrorCode {
    match error {
        FetchError::Store { .. } => ErrorCode::KafkaStorageError,
        FetchError::Corrupt { .. } | FetchError::Side { .. } | FetchError::OutOfBounds { .. } => {
            ErrorCode::CorruptMessage
        }
    }
}
