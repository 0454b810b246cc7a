//! A segment in the cold tier, as the quorum records it (KIP-405's four-state life cycle).

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{BrokerId, LeaderEpoch, Offset, TimestampMs, TopicIdPartition};

/// Names one *attempt* to copy a segment. A retry gets a new id, so a key in the bucket is never written twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RemoteLogSegmentId(pub Uuid);

impl fmt::Display for RemoteLogSegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// Where a remote segment stands in its life. Readers see `CopySegmentFinished` and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemoteLogSegmentState {
    /// The upload may be under way; its objects may or may not exist.
    CopySegmentStarted,
    /// The log object and the side object exist with the recorded lengths and checksums.
    CopySegmentFinished,
    /// No longer readable; its objects are being removed.
    DeleteSegmentStarted,
    /// Its objects are gone; the record itself is dropped from the image.
    DeleteSegmentFinished,
}

impl RemoteLogSegmentState {
    /// Whether a segment in state `self` may move to `next`. A state may repeat itself, so that a retry is harmless.
    pub fn can_become(self, next: Self) -> bool {
        use RemoteLogSegmentState::{
            CopySegmentFinished as Finished, CopySegmentStarted as Started,
            DeleteSegmentFinished as Deleted, DeleteSegmentStarted as Deleting,
        };
        self == next
            || matches!(
                (self, next),
                (Started, Finished | Deleting) | (Finished, Deleting) | (Deleting, Deleted)
            )
    }
}

/// One step of a leader-epoch lineage: from `start_offset` on, batches carry `epoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochStart {
    pub epoch: LeaderEpoch,
    pub start_offset: Offset,
}

impl EpochStart {
    /// The epoch that wrote `offset`, in a lineage of ascending entries; `None` below the first of them.
    pub fn epoch_at(lineage: &[Self], offset: Offset) -> Option<LeaderEpoch> {
        let entries = lineage.iter().rev();
        let mut reached = entries.skip_while(|entry| entry.start_offset > offset);
        reached.next().map(|entry| entry.epoch)
    }

    /// The first offset in `[from, end)` that the two lineages ascribe to different epochs. Where one of them does not
    /// know the epoch, nothing contradicts the other.
    pub fn first_difference(
        one: &[Self],
        other: &[Self],
        from: Offset,
        end: Offset,
    ) -> Option<Offset> {
        let starts = one.iter().chain(other).map(|entry| entry.start_offset);
        let steps = starts.chain([from]);
        let steps = steps.filter(|offset| (from..end).contains(offset));
        let differs = |offset: &Offset| {
            let epochs = (Self::epoch_at(one, *offset), Self::epoch_at(other, *offset));
            matches!(epochs, (Some(a), Some(b)) if a != b)
        };
        steps.filter(differs).min()
    }
}

/// One segment in the cold tier: which offsets it holds, where its bytes are and how to check them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteLogSegmentMetadata {
    pub id: RemoteLogSegmentId,
    pub partition: TopicIdPartition,
    pub base_offset: Offset,
    /// Exclusive.
    pub end_offset: Offset,
    /// Largest record timestamp in the segment.
    pub max_timestamp_ms: TimestampMs,
    /// The leader that copied the segment.
    pub broker_id: BrokerId,
    /// The epoch of the leader that copied the segment. The quorum refuses a stale epoch.
    pub leader_epoch: LeaderEpoch,
    /// Wall clock of the last state change.
    pub event_timestamp_ms: TimestampMs,
    /// Lineage of the segment's batches, first entry at or below `base_offset`.
    pub segment_leader_epochs: Vec<EpochStart>,
    /// Length and CRC-32C of the object that holds the segment's bytes.
    pub log_bytes: u64,
    pub log_crc32c: u32,
    /// Length and CRC-32C of the side object; zero until the copy has finished.
    pub side_bytes: u64,
    pub side_crc32c: u32,
    pub state: RemoteLogSegmentState,
}

impl RemoteLogSegmentMetadata {
    /// Inclusive last offset.
    pub fn last_offset(&self) -> Offset {
        self.end_offset - 1
    }

    /// Whether the segment marks a gap: it holds no records and has no objects, and says only that no replica has the
    /// records of these offsets any more.
    pub fn is_gap(&self) -> bool {
        self.log_bytes == 0
    }

    /// Whether readers may read the segment.
    pub fn is_readable(&self) -> bool {
        self.state == RemoteLogSegmentState::CopySegmentFinished
    }
}

#[cfg(test)]
mod tests {
    use super::RemoteLogSegmentState::{self, *};

    #[test]
    fn only_the_transitions_of_kip_405_are_legal() {
        let all = [
            CopySegmentStarted,
            CopySegmentFinished,
            DeleteSegmentStarted,
            DeleteSegmentFinished,
        ];
        let legal = |from: RemoteLogSegmentState| {
            all.into_iter()
                .filter(|to| from.can_become(*to))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            legal(CopySegmentStarted),
            [
                CopySegmentStarted,
                CopySegmentFinished,
                DeleteSegmentStarted
            ]
        );
        assert_eq!(
            legal(CopySegmentFinished),
            [CopySegmentFinished, DeleteSegmentStarted]
        );
        assert_eq!(
            legal(DeleteSegmentStarted),
            [DeleteSegmentStarted, DeleteSegmentFinished]
        );
        assert_eq!(legal(DeleteSegmentFinished), [DeleteSegmentFinished]);
    }
}
