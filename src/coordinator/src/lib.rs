//! Consumer groups: `(state, command, now) -> (replies, records)`. Pure: no clock, no I/O, no randomness.
//!
//! A [`GroupCoordinator`] holds the groups of one partition of `__consumer_offsets`. A command changes the groups at
//! once only where Kafka keeps nothing durable (which members have joined the current rebalance). For state that a
//! restart must remember, the command returns records. Its effect, replies included, follows in
//! [`GroupCoordinator::committed`] once the records are in the log.
//!
//! [`coordinator`] is replay, commit and time; [`offsets`], [`expiry`] and [`forgetting`] are committed positions; [`classic`] is the
//! protocol of JoinGroup and SyncGroup.

mod classic;
mod config;
mod coordinator;
mod expiry;
mod forgetting;
mod offsets;
mod outcome;
mod record;
mod reply;

pub use classic::GroupState;
pub use config::GroupConfig;
pub use coordinator::GroupCoordinator;
pub use outcome::{Outcome, PendingAppend, Token};
pub use record::{CoordinatorRecord, OffsetAndMetadata, RecordDecodeError};
pub use reply::{
    CommitPartition, DescribedGroup, DescribedMember, JoinRequest, JoinedMember, LeaveMember,
    ListedGroup, MemberIdentity, Reply, SyncRequest,
};

#[cfg(test)]
mod tests;
