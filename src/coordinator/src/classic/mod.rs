//! Kafka's classic group protocol: one file a request or phase. Changes of which members take part in the current
//! rebalance apply at once, as in Kafka. State that must survive a restart (assignments, the holder of an instance id,
//! an empty group) is appended first and changes when the record is committed. Until then requests that would change
//! the group wait.

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
