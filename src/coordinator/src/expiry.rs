//! Decides which committed positions have expired (`offsets.retention.minutes`, KIP-211): Kafka's rules as a pure
//! function of the log, so a coordinator that has just loaded decides as the previous one did.
//!
//! | group | a position counts from |
//! |---|---|
//! | without a protocol type (a simple consumer) | its commit |
//! | empty | the later of its commit and the moment the last member left |
//! | stable, consumer protocol, topic not subscribed | its commit |
//! | anything else | never expires |
//!
//! A commit with a retention of its own (OffsetCommit 2 to 4) expires at the time that it named. Kafka counts the positions
//! of an empty group from the last member's leave alone; a position that was committed after that is kept longer here.

use strandline_types::TimestampMs;

use crate::classic::{Group, GroupState, group_tombstones, tombstone};
use crate::coordinator::GroupCoordinator;
use crate::outcome::Outcome;
use crate::record::OffsetAndMetadata;

/// The start of the age of a group's positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Basis {
    Commit,
    /// The group has been empty since then.
    Emptied(TimestampMs),
    /// The positions are in use.
    Never,
}

fn basis(group: &Group) -> Basis {
    if group.protocol_type.is_none() {
        return Basis::Commit;
    }
    match group.state {
        // Records of old versions do not say when the group became empty.
        GroupState::Empty => group.state_since_ms.map_or(Basis::Commit, Basis::Emptied),
        GroupState::Stable if group.uses_consumer_protocol() => Basis::Commit,
        _ => Basis::Never,
    }
}

fn has_expired(
    basis: Basis,
    position: &OffsetAndMetadata,
    retention_ms: i64,
    now_ms: TimestampMs,
) -> bool {
    let since = match basis {
        Basis::Never => return false,
        Basis::Commit => position.commit_timestamp_ms,
        Basis::Emptied(at) => position.commit_timestamp_ms.max(at),
    };
    match position.expire_timestamp_ms {
        Some(at) => now_ms >= at,
        None => now_ms.saturating_sub(since) >= retention_ms,
    }
}

impl GroupCoordinator {
    /// Tombstones for positions that have expired, and for groups that nothing is left of.
    pub fn expire_offsets(&mut self, now_ms: TimestampMs) -> Outcome {
        let retention_ms = self.config.offsets_retention_ms;
        let mut out = Outcome::default();
        for group in self.groups.values() {
            let basis = basis(group);
            let subscription = group.subscription();
            let expired = group.offsets.iter().filter(|(partition, position)| {
                !subscription.may_contain(&partition.topic)
                    && has_expired(basis, position, retention_ms, now_ms)
            });
            let mut records: Vec<_> = expired.map(|(p, _)| tombstone(&group.id, p)).collect();
            if records.len() == group.offsets.len() && group.is_unused() {
                records = group_tombstones(group);
            }
            out.append_upkeep(records);
        }
        out
    }
}
