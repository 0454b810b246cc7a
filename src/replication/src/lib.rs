//! Replication as pure state: what a leader knows of its followers, where a follower must cut its log, and which directory
//! of a disk belongs to a replica ([`directories`]).
//!
//! [`LeaderState`] turns the positions that followers fetch from into the high watermark and into wishes about the ISR;
//! the controller decides about those, and the answer comes back with the metadata. [`truncation_offset`] is KIP-101's
//! and KIP-320's rule: by leader epoch, never by high watermark. Offsets, epochs and times come in; nothing here acts.

pub mod directories;
mod follower;
mod leader;
#[cfg(test)]
mod tests;

pub use follower::truncation_offset;
pub use leader::{IsrWish, LeaderState, Leadership, Replica, end_is_known};
