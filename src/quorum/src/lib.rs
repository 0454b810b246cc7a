//! The metadata quorum: `openraft` behind an API of our own. No openraft type leaves this crate.
//!
//! [`Quorum::submit`] brings a command to the leader, which decides about it against the applied image and makes the
//! records durable on a majority; [`Quorum::image`] is the applied image of this process, and brokers act on nothing
//! else.
//!
//! At first, the voters are the processes named by `controller.quorum.voters`. Later, they are those that an operator
//! has added and not removed; all other processes follow as learners. `link` carries the messages between members,
//! `peers` and `presence` know which of them are connected, `node` forms the quorum, joins it and answers, `voters` changes it.

mod alive;
#[cfg(test)]
mod damage_tests;
mod door;
mod link;
mod log_store;
mod network;
mod node;
mod peers;
mod presence;
mod quorum;
mod rpc;
mod state_machine;
mod storage_file;
#[cfg(test)]
mod tests;
mod types;
mod voters;

pub use presence::{Presence, Presences};
pub use quorum::{
    Change, ControllerListener, Quorum, QuorumError, QuorumOptions, SIGN_OF_LIFE, SubmitError,
    is_new,
};
pub use rpc::{MemberProgress, QuorumDescription, VoterChange, VoterRefusal};
