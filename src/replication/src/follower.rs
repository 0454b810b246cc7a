//! The offset at which a follower's log diverges from its leader's.

use strandline_types::{LeaderEpoch, Offset};

/// Where to truncate, given that epoch `diverging.0` ends at `diverging.1` in the leader's log.
///
/// `own_end` is this log's end for an epoch: the largest epoch at or below the one asked for, and where it ends. If
/// this epoch is not the leader's, the log is truncated at the end of the records that both may have, and the next
/// fetch asks again from there.
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
