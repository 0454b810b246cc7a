//! Decides which part of a partition a reader may read, and from which tier: epoch, role, range, lineage.

use std::sync::Arc;

use strandline_log::LogView;
use strandline_types::BrokerId;
use strandline_wire::ErrorCode;
use strandline_wire::fetch::{FetchPartition, FetchPartitionResponse};

use super::reader::Reader;
use super::reading::{Reading, Throttled};
use crate::api::Call;
use crate::api::look_up::{current_leader, find};
use crate::fetch_session::Visit;
use crate::partition::{Partition, Role};

/// Finds the partition and checks epoch and range; decides which tier is asked.
pub(super) fn start(
    call: &Call,
    visit: Visit,
    reader: &Reader,
    watch: &mut impl FnMut(u32, &Partition),
) -> Reading {
    let wanted = visit.request;
    let mut reading = Reading {
        answer: FetchPartitionResponse::error(wanted.partition, ErrorCode::None),
        visit,
        partition: None,
        remote: false,
        throttle: Throttled::No,
    };
    let answer = &mut reading.answer;
    let (partition, role) = match readable(call, &reading.visit, reader, watch) {
        Ok(readable) => readable,
        Err(code) => {
            answer.error = code;
            if matches!(
                code,
                ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
            ) {
                answer.current_leader =
                    current_leader(call, &reading.visit.topic, wanted.partition);
            }
            return reading;
        }
    };
    let view = partition.view();
    answer.high_watermark = view.high_watermark;
    answer.last_stable_offset = view.last_stable_offset;
    answer.log_start_offset = view.log_start_offset;
    let committed = matches!(
        reader,
        Reader::Consumer {
            isolation_level: 1,
            ..
        }
    );
    answer.aborted_transactions = committed.then(Vec::new);
    if let Reader::Consumer {
        rack: Some(rack), ..
    } = reader
        && role.is_leader
        && let Some(nearer) = nearest_replica(call, &partition, rack)
    {
        answer.preferred_read_replica = nearer.0;
        reading.partition = Some(partition);
        return reading;
    }
    let is_follower = matches!(reader, Reader::Follower { .. });
    if let Some(diverging) = diverging_epoch(&view, &wanted) {
        // Checked first: a log that has diverged from this one may be longer.
        answer.diverging_epoch = Some(diverging);
    } else if wanted.fetch_offset > view.log_end_offset && !role.is_leader {
        // The leader may have it.
        answer.error = ErrorCode::OffsetNotAvailable;
    } else if wanted.fetch_offset < view.log_start_offset
        || wanted.fetch_offset > view.log_end_offset
    {
        answer.error = ErrorCode::OffsetOutOfRange;
    } else if is_follower && wanted.fetch_offset < view.local_log_start_offset {
        // The follower takes epochs and producer state from the cold tier, and begins where this log begins.
        answer.error = ErrorCode::OffsetMovedToTieredStorage;
    } else {
        reading.remote = wanted.fetch_offset < view.local_log_start_offset;
    }
    reading.partition = Some(partition);
    reading
}

/// The requested partition and this broker's role for it, if `reader` may read it here.
fn readable(
    call: &Call,
    visit: &Visit,
    reader: &Reader,
    watch: &mut impl FnMut(u32, &Partition),
) -> Result<(Arc<Partition>, Arc<Role>), ErrorCode> {
    let wanted = visit.request;
    let partition = find(call, &visit.topic, wanted.partition)?;
    watch(visit.slot, &partition);
    let role = partition.role();
    check_epoch(wanted.current_leader_epoch, role.leader_epoch.0)?;
    let may_read = match reader {
        Reader::Consumer { from_followers, .. } => {
            role.is_leader || *from_followers && role.leader.is_some() && !is_mine(call, &role)
        }
        // The request must name an epoch, or a follower of an older leader would pass for a follower of this one.
        Reader::Follower { .. } => role.is_leader && wanted.current_leader_epoch >= 0,
    };
    if may_read {
        Ok((partition, role))
    } else {
        Err(ErrorCode::NotLeaderOrFollower)
    }
}

/// The metadata names this broker as the leader, though it may have stepped aside.
fn is_mine(call: &Call, role: &Role) -> bool {
    role.leader.map(|l| l.0) == Some(call.context.node_id())
}

/// An in-sync replica in the reader's rack, where the leader is in another one and `replica.selector.class` asks for it.
fn nearest_replica(call: &Call, partition: &Partition, rack: &str) -> Option<BrokerId> {
    if !call.context.prefers_near_replicas() {
        return None;
    }
    let image = call.context.quorum.image();
    let is_here = |id: &BrokerId| {
        let broker = image.brokers.get(id);
        broker.is_some_and(|b| !b.fenced && b.rack.as_deref() == Some(rack))
    };
    if is_here(&BrokerId(call.context.node_id())) {
        return None;
    }
    let state = image.partition(partition.id())?;
    state.isr.iter().copied().find(is_here)
}

/// Refuses a request of a client that knows an older leader epoch, or a newer one.
pub(in crate::api) fn check_epoch(claimed: i32, current: i32) -> Result<(), ErrorCode> {
    match claimed {
        -1 => Ok(()),
        n if n < current => Err(ErrorCode::FencedLeaderEpoch),
        n if n > current => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Where the reader's log diverges from this one, by the epoch of the reader's last record (KIP-320, KIP-595).
fn diverging_epoch(view: &LogView, wanted: &FetchPartition) -> Option<(i32, i64)> {
    if wanted.last_fetched_epoch < 0 {
        return None;
    }
    let last = strandline_types::LeaderEpoch(wanted.last_fetched_epoch);
    let (epoch, end) = view.epochs.end_offset_for(last, view.log_end_offset)?;
    (epoch < last || end < wanted.fetch_offset).then_some((epoch.0, end))
}
