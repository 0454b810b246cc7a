//! Replication as pure state: a leader's knowledge of its followers, the offset at which a follower must truncate its
//! log, and the claim of directories ([`directories`]).
//!
//! [`LeaderState`] turns the positions that followers fetch from into the high watermark and into wishes about the ISR;
//! the controller decides about the wishes, and the metadata brings the answer. [`truncation_offset`] is KIP-101's and
//! KIP-320's rule: by leader epoch, never by high watermark. Offsets, epochs and times come in; nothing here acts.

pub mod directories;
mod follower;
mod leader;
#[cfg(test)]
mod tests;

pub use follower::truncation_offset;
pub use leader::{IsrWish, LeaderState, Leadership, Replica, end_is_known};
