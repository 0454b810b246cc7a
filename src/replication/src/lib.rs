//! Replication as pure state: what a leader knows of its followers, and where a follower must cut its log.
//!
//! [`LeaderState`] turns the positions that followers fetch from into the high watermark and into wishes about the ISR;
//! the controller decides about those, and the answer comes back with the metadata. [`truncation_offset`] is KIP-101's
//! and KIP-320's rule: by leader epoch, never by high watermark. Offsets, epochs and times come in; nothing here acts.

mod follower;
mod leader;
#[cfg(test)]
mod tests;

pub use follower::truncation_offset;
pub use leader::{IsrWish, LeaderState, Leadership, Replica, end_is_known};
