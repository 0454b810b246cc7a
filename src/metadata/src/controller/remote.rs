//! The life of remote segments: who may move them to which state.

use strandline_types::{
    RemoteLogSegmentId, RemoteLogSegmentMetadata, RemoteLogSegmentState, TopicIdPartition,
};

use super::Refusal;
use crate::image::ClusterImage;
use crate::record::MetadataRecord;

/// Moves a remote segment to its next state, for the leader that asks.
///
/// A copy must come from the partition's current leader epoch, bring something that the readable copies lack, and leave no
/// gap behind them: a stale leader, or one that has not yet seen the last copy, is refused. Copies may overlap, because
/// segments of two leaders need not end at the same offsets.
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

/// Ends a copy that nobody will finish; its objects go next.
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

fn check_copier(image: &ClusterImage, segment: &RemoteLogSegmentMetadata) -> Result<(), Refusal> {
    let fenced = |text: String| Err(Refusal::Fenced(text));
    let tp = segment.partition;
    let Some(partition) = image
        .topic_by_id(tp.topic_id)
        .and_then(|t| t.partitions.get(&tp.partition))
    else {
        return fenced(format!("partition {tp} does not exist"));
    };
    if partition.leader != Some(segment.broker_id) || partition.leader_epoch != segment.leader_epoch
    {
        return fenced(format!(
            "broker {} in epoch {} does not lead {tp} (leader {:?}, epoch {})",
            segment.broker_id, segment.leader_epoch, partition.leader, partition.leader_epoch
        ));
    }
    let highest = image
        .remote_log(tp)
        .map_or(-1, |log| log.highest_remote_offset());
    if segment.last_offset() <= highest {
        return fenced(format!(
            "offsets up to {} of {tp} are in the cold tier already (up to {highest})",
            segment.last_offset()
        ));
    }
    if highest >= 0 && segment.base_offset > highest + 1 {
        return fenced(format!(
            "offsets {} to {} of {tp} would be missing in the cold tier",
            highest + 1,
            segment.base_offset - 1
        ));
    }
    Ok(())
}
