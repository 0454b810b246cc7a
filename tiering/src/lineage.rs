//! Compares a replica's log with the segments that the cold tier holds of it, by leader epoch (KIP-101, KIP-405). Pure.
//!
//! Offsets alone do not identify records. After an unclean election, a lost disk or the power loss of an unflushed
//! topic, a leader's log can end below the cold tier's end, and its next records would get offsets that the tier has
//! assigned already. So every use of remote segments first asks where their epochs agree with the log's:
//!
//! * [`compare`]: the repair that a leader needs before it serves clients;
//! * [`agreed_end_offset`]: the offset up to which local segments count as copied;
//! * [`holder`]: the segment that may answer for an offset.
//!
//! An epoch has one leader, which assigns each offset once. So equal epochs at an offset mean equal records.

use strandline_types::{EpochStart, Offset, RemoteLogSegmentMetadata};

/// A replica's log, as the replica describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalLog<'a> {
    /// Ascending; may reach below `local_start_offset`.
    pub lineage: &'a [EpochStart],
    /// The first offset that clients may read, in either tier.
    pub log_start_offset: Offset,
    /// The first offset on this disk.
    pub local_start_offset: Offset,
    /// Exclusive.
    pub end_offset: Offset,
}

/// The repair that makes a leader's log and its cold tier one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// No repair is needed.
    Agrees,
    /// The log is a prefix of the tier's. The log must begin again, empty, at `end_offset`, so that the records behind
    /// its end stay readable and their offsets are not assigned again.
    TierIsAhead { end_offset: Offset },
    /// From `from` on, the tier does not hold this log's records. A committed record must end the tier's segments at
    /// `from`. The log continues at `resumes_at`; nobody has the records in between.
    Diverges { from: Offset, resumes_at: Offset },
}

/// Compares a leader's log with the readable segments of its partition.
pub fn compare<'a>(
    readable: impl IntoIterator<Item = &'a RemoteLogSegmentMetadata>,
    local: &LocalLog<'_>,
) -> Comparison {
    let (mut tier_end, mut from) = (None, None);
    for segment in readable {
        if segment.end_offset <= local.log_start_offset {
            continue;
        }
        tier_end = tier_end.max(Some(segment.end_offset));
        if let Some(differs) = first_difference(segment, local) {
            from = Some(from.map_or(differs, |offset: Offset| offset.min(differs)));
        }
    }
    let Some(tier_end) = tier_end else {
        return Comparison::Agrees;
    };
    match from {
        Some(from) => Comparison::Diverges {
            from,
            resumes_at: from.max(local.local_start_offset),
        },
        None if tier_end > local.end_offset => Comparison::TierIsAhead {
            end_offset: tier_end,
        },
        None if tier_end < local.local_start_offset => Comparison::Diverges {
            from: tier_end,
            resumes_at: local.local_start_offset,
        },
        None => Comparison::Agrees,
    }
}

/// The first offset of a log that agrees with its tier: where the last run of remote segments without a hole begins, or the
/// local start where the tier holds nothing above the log start. `readable` are sorted by base offset.
///
/// An earlier leader did not have the records below: its own log began there, or retention had deleted them. A replica
/// that has not learnt so may still hold some of these records. This leader drops them, too: otherwise the tier would have
/// a hole, which readers would meet as soon as local retention deletes the replica's records.
pub fn first_held_offset<'a>(
    readable: impl IntoIterator<Item = &'a RemoteLogSegmentMetadata>,
    local: &LocalLog<'_>,
) -> Offset {
    let mut run = None::<(Offset, Offset)>;
    for segment in readable {
        if segment.end_offset <= local.log_start_offset {
            continue;
        }
        run = match run {
            Some((first, end)) if segment.base_offset <= end => {
                Some((first, end.max(segment.end_offset)))
            }
            _ => Some((segment.base_offset, segment.end_offset)),
        };
    }
    run.map_or(local.local_start_offset, |(first, _)| first)
        .max(local.log_start_offset)
}

/// The first offset at which the records of a segment and of the log differ, if there is one below the log's end.
/// Records below the log start do not count.
fn first_difference(segment: &RemoteLogSegmentMetadata, local: &LocalLog<'_>) -> Option<Offset> {
    let from = segment.base_offset.max(local.log_start_offset);
    let end = segment.end_offset.min(local.end_offset);
    EpochStart::first_difference(&segment.segment_leader_epochs, local.lineage, from, end)
}

/// The end (exclusive) up to which the cold tier holds this log's records; 0 if it holds none. A local segment counts
/// as copied if it ends there or below.
pub fn agreed_end_offset<'a>(
    readable: impl IntoIterator<Item = &'a RemoteLogSegmentMetadata>,
    local: &LocalLog<'_>,
) -> Offset {
    let mut end = 0;
    let mut parted = Offset::MAX;
    for segment in readable {
        let differs = first_difference(segment, local);
        parted = parted.min(differs.unwrap_or(Offset::MAX));
        end = end.max(differs.unwrap_or(segment.end_offset));
    }
    // Segments behind the first difference do not count: a later segment may be older and agree by accident.
    end.min(parted)
}

/// The segment that may answer for `offset`, and up to where (exclusive) it may: the newest copy whose epoch there is the
/// log's. `segments` are readable and sorted by base offset.
pub fn holder<'a>(
    readable: impl DoubleEndedIterator<Item = &'a RemoteLogSegmentMetadata>,
    offset: Offset,
    lineage: &[EpochStart],
) -> Option<(&'a RemoteLogSegmentMetadata, Offset)> {
    let holds = |s: &&RemoteLogSegmentMetadata| (s.base_offset..s.end_offset).contains(&offset);
    readable.rev().filter(holds).find_map(|segment| {
        let epochs = &segment.segment_leader_epochs;
        let end = segment.end_offset;
        let differs = EpochStart::first_difference(epochs, lineage, offset, end);
        let until = differs.unwrap_or(end);
        (until > offset).then_some((segment, until))
    })
}

/// The lineage of the readable segments, sorted by base offset: for a log that begins behind them where no side object
/// tells it. Where two segments contradict each other, the later one counts: below the log start, the tier may still have
/// segments of another history.
pub fn lineage_of<'a, S>(readable: S) -> Vec<EpochStart>
where
    S: IntoIterator<Item = &'a RemoteLogSegmentMetadata>,
    S::IntoIter: DoubleEndedIterator,
{
    let mut lineage: Vec<EpochStart> = Vec::new();
    let newest_first = readable.into_iter().rev();
    for entry in newest_first.flat_map(|s| s.segment_leader_epochs.iter().rev()) {
        match lineage.last_mut() {
            Some(next) if entry.epoch == next.epoch => {
                next.start_offset = next.start_offset.min(entry.start_offset);
            }
            Some(next) if entry.epoch > next.epoch || entry.start_offset >= next.start_offset => {}
            _ => lineage.push(*entry),
        }
    }
    lineage.reverse();
    lineage
}

#[cfg(test)]
mod tests;
