//! Reads of hot records, in the order of the request.

use bytes::Bytes;
use strandline_log::{LogView, ReadError};
use strandline_wire::ErrorCode;

use super::reader::Reader;
use super::reading::{Reading, Throttled};
use crate::api::read::read_batches;

/// Reads hot records in order; returns the bytes read.
pub(super) async fn read_local(readings: &mut [Reading], reader: &Reader, budget: usize) -> usize {
    let mut used = 0;
    for reading in readings {
        let Some(partition) = reading.partition.clone() else {
            continue;
        };
        let skip = reading.remote
            || reading.throttle == Throttled::Waits
            || reading.answer.error != ErrorCode::None
            || reading.answer.diverging_epoch.is_some()
            || reading.answer.preferred_read_replica >= 0;
        // The first batch of an answer may exceed every limit, or a large batch would block its reader for ever.
        let left = budget.saturating_sub(used);
        if skip || (left == 0 && used > 0) {
            continue;
        }
        let view = partition.view();
        let max = (reading.visit.request.max_bytes.max(0) as usize).min(left);
        match read_one(
            &view,
            reading.visit.request.fetch_offset,
            max,
            reader.limit(&view),
        )
        .await
        {
            Ok(bytes) if bytes.len() > left && used > 0 => {}
            Ok(bytes) => {
                used += bytes.len();
                if !bytes.is_empty() {
                    reading.answer.records = vec![bytes];
                }
            }
            Err(ReadError::OffsetOutOfRange { .. }) => {
                // The local start moved past the offset since the view was taken: it is in the cold tier now.
                reading.remote = true;
            }
            Err(ReadError::Log(error)) => {
                partition.report(&error);
                tracing::error!(partition = %partition.topic_partition, %error, "a fetch failed");
                reading.answer.error = match error {
                    strandline_log::LogError::Corrupt { .. } => ErrorCode::CorruptMessage,
                    strandline_log::LogError::Io { .. }
                    | strandline_log::LogError::Damaged { .. } => ErrorCode::KafkaStorageError,
                };
            }
        }
    }
    used
}

pub(super) async fn read_one(
    view: &LogView,
    offset: i64,
    max_bytes: usize,
    limit: i64,
) -> Result<Bytes, ReadError> {
    let Some(slice) = view.slice(offset, max_bytes, limit)? else {
        return Ok(Bytes::new());
    };
    Ok(read_batches(slice).await?)
}
