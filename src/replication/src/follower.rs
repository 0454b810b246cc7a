//! Where a follower's log and its leader's part.

use strandline_types::{LeaderEpoch, Offset};

/// Where to cut, given that the leader says that epoch `diverging.0` ends at `diverging.1` in its log.
///
/// `own_end` is this log's end for an epoch: the largest epoch at or below the one asked for, and where it ends. If that
/// is not the leader's epoch, the cut is at the end of what both may have, and the next fetch asks again from there.
pub fn truncation_offset(
    diverging: (LeaderEpoch, Offset),
    log_end_offset: Offset,
    own_end: impl Fn(LeaderEpoch) -> Option<(LeaderEpoch, Offset)>,
) -> Offset {
    let (epoch, leader_end) = diverging;
    match own_end(epoch) {
        Some((own_epoch, end)) if own_epoch == epoch => end.min(leader_end).min(log_end_offset),
        Some((_, end)) => end.min(log_end_offset),
        None => leader_end.min(log_end_offset),
    }
}
