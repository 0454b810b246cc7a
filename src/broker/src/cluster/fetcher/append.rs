//! The append step of a round.

use std::future::Future;

use kafka_protocol::messages::fetch_response::PartitionData;

use super::answer::Asked;
use crate::partition::{FetchedRecords, PartitionError};

/// Appends one answer. Completes when the records are durable.
pub(super) fn append(
    one: Asked,
    answer: PartitionData,
) -> impl Future<Output = (Asked, Result<(), PartitionError>)> {
    let records = answer.records.unwrap_or_default();
    let view = one.partition.view();
    let news = !records.is_empty()
        || answer.high_watermark.min(view.log_end_offset) > view.high_watermark
        || answer.log_start_offset > view.log_start_offset;
    async move {
        if !news {
            return (one, Ok(()));
        }
        let fetched = FetchedRecords {
            leader_epoch: one.leader_epoch,
            records,
            high_watermark: answer.high_watermark,
            log_start_offset: answer.log_start_offset,
        };
        let appended = one.partition.append_fetched(fetched).await;
        (one, appended)
    }
}
