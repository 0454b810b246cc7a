//! The reader of a fetch: a consumer sees committed records, a follower sees all that are appended.

use strandline_log::LogView;
use strandline_types::{BrokerEpoch, BrokerId};
use strandline_wire::fetch::FetchRequest;

use crate::api::Call;
use crate::partition::Interest;

/// The sender of a fetch.
#[derive(Clone, Debug)]
pub(super) enum Reader {
    Consumer {
        isolation_level: i8,
        /// The reader's rack, if it names one (KIP-392).
        rack: Option<String>,
        from_followers: bool,
    },
    Follower {
        id: BrokerId,
        broker_epoch: BrokerEpoch,
    },
}

impl Reader {
    pub(super) fn of(call: &Call, request: &FetchRequest) -> Self {
        if request.replica_id >= 0 {
            return Self::Follower {
                id: BrokerId(request.replica_id),
                broker_epoch: BrokerEpoch(request.replica_epoch),
            };
        }
        let rack = String::from_utf8_lossy(&request.rack_id).into_owned();
        Self::Consumer {
            isolation_level: request.isolation_level,
            rack: Some(rack).filter(|r| !r.is_empty()),
            from_followers: call.version >= 11,
        }
    }

    pub(super) fn interest(&self) -> Interest {
        match self {
            Self::Consumer { .. } => Interest::Committed,
            Self::Follower { .. } => Interest::Appended,
        }
    }

    /// Offset up to which this reader may see records.
    pub(super) fn limit(&self, view: &LogView) -> i64 {
        match self {
            Self::Consumer {
                isolation_level: 1, ..
            } => view.last_stable_offset,
            Self::Consumer { .. } => view.high_watermark,
            Self::Follower { .. } => view.log_end_offset,
        }
    }
}
