//! Reads of hot records, in the order of the request.

use bytes::Bytes;
use strandline_log::{LogView, ReadError};
use strandline_wire::ErrorCode;

use super::reader::Reader;
use super::reading::{Reading, Throttled};
use super::room::Room;
use crate::partition::read_batches;

/// Reads hot records in order.
pub(super) async fn read_local(readings: &mut [Reading], reader: &Reader, room: &mut Room<'_>) {
    for reading in readings {
        let Some(partition) = reading.partition.clone() else {
            continue;
        };
        let skip = reading.remote || reading.throttle == Throttled::Waits || reading.has_answer();
        let left = room.left();
        if skip || (left == 0 && !room.is_empty()) {
            continue;
        }
        let view = partition.view();
        let most = usize::try_from(reading.visit.request.max_bytes).unwrap_or(0);
        let offset = reading.visit.request.fetch_offset;
        match read_one(&view, offset, most.min(left), reader.limit(&view), room).await {
            Ok(bytes) => {
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
}

/// Reads the records of one partition, if the room has place for them.
async fn read_one(
    view: &LogView,
    offset: i64,
    max_bytes: usize,
    limit: i64,
    room: &mut Room<'_>,
) -> Result<Bytes, ReadError> {
    let Some(slice) = view.slice(offset, max_bytes, limit)? else {
        return Ok(Bytes::new());
    };
    // Only the first batch of an answer may be larger than asked for.
    if slice.length > max_bytes && !room.is_empty() {
        return Ok(Bytes::new());
    }
    let Some(held) = room.take(slice.length).await else {
        return Ok(Bytes::new());
    };
    let bytes = read_batches(slice).await?;
    room.add(bytes.len());
    Ok(held.until_dropped(bytes))
}
