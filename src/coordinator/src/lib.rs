//! Consumer groups: `(state, command, now) -> (replies, records)`. Pure: no clock, no I/O, no randomness.
//!
//! A [`GroupCoordinator`] holds the groups of one partition of `__consumer_offsets`. Commands change it at once only where
//! Kafka keeps nothing durable (who has joined); whatever a restart must remember comes back as records, and takes
//! effect through [`GroupCoordinator::committed`] once they are in the log.

mod coordinator;
mod group;
mod member;
mod record;
mod reply;

pub use coordinator::{GroupConfig, GroupCoordinator, Outcome, PendingAppend, Token};
pub use group::GroupState;
pub use record::{CoordinatorRecord, OffsetAndMetadata, RecordDecodeError};
pub use reply::{
    CommitPartition, DescribedGroup, DescribedMember, JoinRequest, JoinedMember, LeaveMember,
    ListedGroup, MemberIdentity, Reply, SyncRequest,
};

#[cfg(test)]
mod tests;
