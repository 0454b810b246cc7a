//! The life of remote segments: who may move them to which state, and how a leader ends another history.

use serde::{Deserialize, Serialize};
use strandline_types::{
    BrokerId, EpochStart, LeaderEpoch, Offset, RemoteLogSegmentId, RemoteLogSegmentMetadata,
    RemoteLogSegmentState, TimestampMs, TopicIdPartition,
};

use super::Refusal;
use crate::image::ClusterImage;
use crate::record::MetadataRecord;

/// Moves a remote segment to its next state, for the leader that asks.
///
/// A copy must come from the partition's current leader epoch, bring something that the readable copies lack, and leave no
/// gap behind them when it finishes: a stale leader, or one that has not yet seen the last copy, is refused. Offsets of copies
/// may overlap, because segments of two leaders need not end at the same offsets.
pub(super) fn update_remote_segment(
    image: &ClusterImage,
    segment: RemoteLogSegmentMetadata,
) -> Result<Vec<MetadataRecord>, Refusal> {
    use RemoteLogSegmentState::{CopySegmentFinished, CopySegmentStarted, DeleteSegmentFinished};
    image
        .check_remote_segment(&segment)
        .map_err(Refusal::Fenced)?;
    let deleting = !matches!(segment.state, CopySegmentStarted | CopySegmentFinished);
    if !deleting {
        check_copier(image, &segment)?;
    }
    if segment.state == DeleteSegmentFinished {
        return Ok(vec![MetadataRecord::RemoveRemoteSegment {
            partition: segment.partition,
            id: segment.id,
        }]);
    }
    Ok(vec![MetadataRecord::RemoteSegment(segment)])
}

/// Abandons an unfinished copy; its objects are deleted next.
pub(super) fn abandon_copy(
    image: &ClusterImage,
    partition: TopicIdPartition,
    id: RemoteLogSegmentId,
) -> Result<Vec<MetadataRecord>, Refusal> {
    let log = image.remote_log(partition);
    let Some(known) = log.and_then(|log| log.find(id)) else {
        return Ok(Vec::new());
    };
    match known.state {
        RemoteLogSegmentState::CopySegmentFinished => Err(Refusal::Fenced(format!(
            "the copy {id} of {partition} has finished"
        ))),
        RemoteLogSegmentState::CopySegmentStarted => Ok(vec![MetadataRecord::RemoteSegment(
            RemoteLogSegmentMetadata {
                state: RemoteLogSegmentState::DeleteSegmentStarted,
                ..known.clone()
            },
        )]),
        _ => Ok(Vec::new()),
    }
}

/// A leader's log and its cold tier hold different records from an offset on; the leader's records win.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteLogCut {
    pub partition: TopicIdPartition,
    /// The leader that asks, and the epoch in which it leads.
    pub broker_id: BrokerId,
    pub leader_epoch: LeaderEpoch,
    /// The first offset that the cold tier must not answer for any more.
    pub from: Offset,
    /// Where the leader's log continues. If this is not `from`, nobody has the records in between.
    pub resumes_at: Offset,
    /// Names the gap, if there is one.
    pub gap: RemoteLogSegmentId,
    /// The leader's lineage of the gap: followers that begin behind it must have the same.
    pub gap_leader_epochs: Vec<EpochStart>,
    pub event_timestamp_ms: TimestampMs,
}

/// Makes remote segments unreadable from `cut.from` on. A segment that begins below keeps its records below. A gap
/// becomes a segment without bytes, so that the tier still ends where its last segment does.
pub(super) fn cut_remote_log(
    image: &ClusterImage,
    cut: &RemoteLogCut,
) -> Result<Vec<MetadataRecord>, Refusal> {
    check_leader(image, cut.partition, cut.broker_id, cut.leader_epoch)?;
    let mut records = Vec::new();
    let log = image.remote_log(cut.partition);
    let beyond = log.iter().flat_map(|log| log.readable());
    for segment in beyond.filter(|s| s.end_offset > cut.from) {
        let mut next = segment.clone();
        next.event_timestamp_ms = cut.event_timestamp_ms;
        if segment.base_offset >= cut.from {
            next.state = RemoteLogSegmentState::DeleteSegmentStarted;
        } else {
            next.end_offset = cut.from;
            let epochs = &mut next.segment_leader_epochs;
            epochs.retain(|entry| entry.start_offset < cut.from);
        }
        records.push(MetadataRecord::RemoteSegment(next));
    }
    if cut.resumes_at > cut.from {
        records.push(MetadataRecord::RemoteSegment(RemoteLogSegmentMetadata {
            id: cut.gap,
            partition: cut.partition,
            base_offset: cut.from,
            end_offset: cut.resumes_at,
            max_timestamp_ms: -1,
            broker_id: cut.broker_id,
            leader_epoch: cut.leader_epoch,
            event_timestamp_ms: cut.event_timestamp_ms,
            segment_leader_epochs: cut.gap_leader_epochs.clone(),
            log_bytes: 0,
            log_crc32c: 0,
            side_bytes: 0,
            side_crc32c: 0,
            state: RemoteLogSegmentState::CopySegmentFinished,
        }));
    }
    Ok(records)
}

fn check_leader(
    image: &ClusterImage,
    tp: TopicIdPartition,
    broker_id: BrokerId,
    leader_epoch: LeaderEpoch,
) -> Result<(), Refusal> {
    let Some(partition) = image.partition(tp) else {
        return Err(Refusal::Fenced(format!("partition {tp} does not exist")));
    };
    if partition.leader != Some(broker_id) || partition.leader_epoch != leader_epoch {
        return Err(Refusal::Fenced(format!(
            "broker {broker_id} in epoch {leader_epoch} does not lead {tp} (leader {:?}, epoch {})",
            partition.leader, partition.leader_epoch
        )));
    }
    Ok(())
}

/// A copy must have the same history as the readable segments that it overlaps, and no older epoch than the one in
/// which they end.
fn check_lineage(
    readable: &RemoteLogSegmentMetadata,
    copy: &RemoteLogSegmentMetadata,
) -> Result<(), Refusal> {
    let (known, new) = (&readable.segment_leader_epochs, &copy.segment_leader_epochs);
    let from = readable.base_offset.max(copy.base_offset);
    let end = readable.end_offset.min(copy.end_offset);
    let differs = EpochStart::first_difference(known, new, from, end);
    let last = EpochStart::epoch_at(known, readable.last_offset());
    let next = EpochStart::epoch_at(new, copy.last_offset());
    let goes_back = matches!((last, next), (Some(last), Some(next)) if next < last);
    if differs.is_none() && !goes_back {
        return Ok(());
    }
    Err(Refusal::Fenced(format!(
        "the leader epochs of offsets {} to {} of {} are not those of remote segment {}",
        copy.base_offset,
        copy.last_offset(),
        copy.partition,
        readable.id
    )))
}

fn check_copier(image: &ClusterImage, segment: &RemoteLogSegmentMetadata) -> Result<(), Refusal> {
    let fenced = |text: String| Err(Refusal::Fenced(text));
    let tp = segment.partition;
    check_leader(image, tp, segment.broker_id, segment.leader_epoch)?;
    let log = image.remote_log(tp);
    for readable in log.iter().flat_map(|log| log.readable()) {
        check_lineage(readable, segment)?;
    }
    let highest = log.map_or(-1, |log| log.highest_remote_offset());
    if segment.last_offset() <= highest {
        return fenced(format!(
            "offsets up to {} of {tp} are in the cold tier already (up to {highest})",
            segment.last_offset()
        ));
    }
    // Copies overlap, so one may start before the one in front of it has finished. None may finish before.
    let finishes = segment.state == RemoteLogSegmentState::CopySegmentFinished;
    if finishes && highest >= 0 && segment.base_offset > highest + 1 {
        return fenced(format!(
            "offsets {} to {} of {tp} would be missing in the cold tier",
            highest + 1,
            segment.base_offset - 1
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
