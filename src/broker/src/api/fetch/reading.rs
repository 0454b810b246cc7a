//! One partition of a request on its way to an answer.

use std::sync::Arc;

use strandline_wire::ErrorCode;
use strandline_wire::fetch::FetchPartitionResponse;

use super::reader::Reader;
use crate::fetch_session::Visit;
use crate::partition::Partition;

/// A partition, and its answer as far as it has come.
pub(super) struct Reading {
    pub visit: Visit,
    pub partition: Option<Arc<Partition>>,
    pub answer: FetchPartitionResponse,
    /// The offset is in the cold tier.
    pub remote: bool,
    pub throttle: Throttled,
}

/// The effect of a replication throttle on a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Throttled {
    No,
    /// The bytes that are read count.
    Counts,
    /// Nothing is read until the throttle allows it.
    Waits,
}

impl Reading {
    /// Whether the answer is settled without records.
    pub(super) fn has_answer(&self) -> bool {
        self.answer.error != ErrorCode::None
            || self.answer.diverging_epoch.is_some()
            || self.answer.preferred_read_replica >= 0
    }

    /// Whether another look may find records although the partition has announced no news.
    pub(super) fn may_have_more(&self, reader: &Reader) -> bool {
        let Some(partition) = &self.partition else {
            return true;
        };
        self.has_answer()
            || self.remote
            || self.visit.request.fetch_offset < reader.limit(&partition.view())
    }
}
