//! Kafka's classic group protocol: one file a request or phase. What only says which members take part in the current
//! rebalance changes at once, as in Kafka; what a restart must remember (assignments, who holds an instance id, that a group
//! is empty) is appended first and changes when it is committed. Until then requests that would change the group wait.

mod durable;
mod emptying;
mod group;
mod join;
mod leave;
mod member;
mod rebalance;
mod static_member;
mod sync;

pub(crate) use durable::{group_tombstones, restore, tombstone};
pub(crate) use emptying::{Emptying, fail_emptying, finish_emptying};
pub use group::GroupState;
pub(crate) use group::{Deferred, Group, check_member};
pub(crate) use rebalance::tick;
pub(crate) use static_member::{Replacement, finish_replacement};
pub(crate) use sync::{fail_sync, finish_sync};
