//! Reads of cold records: all partitions of a request at once, each with an equal share of the bytes that are left.

use bytes::Bytes;
use futures::future::join_all;
use strandline_metadata::ClusterImage;
use strandline_tiering::cache::FetchError;
use strandline_wire::ErrorCode;

use super::reader::Reader;
use super::reading::Reading;
use super::room::Room;
use crate::api::Call;
use crate::memory::Held;
use crate::partition::read_batches;
use crate::tier::Tier;

/// Reads cold records.
pub(super) async fn read_remote(
    call: &Call,
    readings: &mut [Reading],
    reader: &Reader,
    room: &mut Room<'_>,
) {
    let wanted = readings.iter().filter(|r| r.remote).count();
    let Some(tier) = call.context.tier.clone().filter(|_| wanted > 0) else {
        for reading in readings.iter_mut().filter(|r| r.remote) {
            reading.answer.error = ErrorCode::OffsetOutOfRange;
        }
        return;
    };
    let share = room.left().checked_div(wanted).unwrap_or(0);
    // Chunks of the cache are in memory anyway, until the cache drops them; an answer keeps them longer.
    let most = |r: &Reading| share.min(usize::try_from(r.visit.request.max_bytes).unwrap_or(0));
    let needed = readings.iter().filter(|r| r.remote).map(most).sum();
    let Some(mut held) = room.take(needed).await else {
        return;
    };
    let image = call.context.quorum.image();
    let wait = call.context.hot().remote_fetch_max_wait;
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
    let mut cold_bytes = 0;
    for (reading, result) in join_all(reads).await {
        match result {
            // Still loading; the client asks again.
            Err(_) => {}
            Ok(Ok(Some(records))) => {
                // Only the first records of an answer may exceed the budget.
                if room.is_empty() || records.bytes <= share {
                    room.add(records.bytes);
                    cold_bytes += records.bytes;
                    reading.answer.records = records.slices;
                }
            }
            Ok(Ok(None)) => match behind_gap(&image, reading, reader, share).await {
                Some(bytes) => {
                    room.add(bytes.len());
                    cold_bytes += bytes.len();
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
    held.shrink(cold_bytes);
    hold_by_last(readings, held);
}

/// Returns the memory when the last cold slice of the answer has been written.
fn hold_by_last(readings: &mut [Reading], held: Held) {
    let slices = readings.iter_mut().filter(|r| r.remote);
    let last = slices.filter_map(|r| r.answer.records.last_mut()).last();
    if let Some(last) = last {
        *last = held.until_dropped(std::mem::take(last));
    }
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
    // The caller holds the memory for these records.
    match view.slice(at, max_bytes, reader.limit(&view)) {
        Ok(Some(slice)) => read_batches(slice).await.ok(),
        Ok(None) => Some(Bytes::new()),
        Err(_) => None,
    }
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
