//! The metadata quorum: `openraft` behind an API of our own. No openraft type leaves this crate.
//!
//! [`Quorum::submit`] brings a command to whoever leads, which decides about it against the applied image and makes the
//! records durable on a majority; [`Quorum::image`] is what has been applied here, and brokers act on nothing else.
//!
//! Voters are at first the processes named by `controller.quorum.voters`, later those that an operator has added and not
//! removed; everybody else follows as a learner. `link` carries what they say to each other, `peers` knows who is there,
//! `node` forms the quorum, joins it and answers, `voters` changes it.

#[cfg(test)]
mod damage_tests;
mod link;
mod log_store;
mod network;
mod node;
mod peers;
mod quorum;
mod rpc;
mod state_machine;
mod storage_file;
#[cfg(test)]
mod tests;
mod types;
mod voters;

pub use peers::Presence;
pub use quorum::{Change, ControllerListener, Quorum, QuorumError, QuorumOptions, SubmitError};
pub use rpc::{MemberProgress, QuorumDescription, VoterChange, VoterRefusal};
