//! The throttle of a leader: replicas that are not in sync wait for their turn.

use std::time::Duration;

use strandline_types::BrokerId;
use tokio::time::Instant;

use super::reader::Reader;
use super::reading::{Reading, Throttled};
use crate::api::Call;

/// Marks the readings of replicas that `leader.replication.throttled.replicas` names and that are not in sync; returns the
/// time that they have to wait, if any.
pub(super) fn hold_up_throttled(
    call: &Call,
    readings: &mut [Reading],
    reader: &Reader,
) -> Option<Duration> {
    let Reader::Follower { id, .. } = reader else {
        return None;
    };
    let own = BrokerId(call.context.node_id());
    let mut wait = None;
    for reading in readings {
        let Some(partition) = &reading.partition else {
            continue;
        };
        let number = partition.topic_partition.partition;
        let config = partition.config();
        let named = config
            .leader_replication_throttled_replicas
            .contains(number, own);
        if !named || call.context.is_in_sync(partition.id(), *id) {
            continue;
        }
        wait = wait.or_else(|| call.context.leader_throttle.wait(Instant::now().into_std()));
        reading.throttle = if wait.is_some() {
            Throttled::Waits
        } else {
            Throttled::Counts
        };
    }
    wait
}

pub(super) fn pay_throttle(call: &Call, readings: &[Reading]) {
    let counted = readings.iter().filter(|r| r.throttle == Throttled::Counts);
    let bytes = counted.map(|r| r.answer.records_len()).sum();
    if bytes > 0 {
        call.context.leader_throttle.spend(bytes);
    }
}
