//! The metadata quorum: `openraft` behind an API of our own. No openraft type leaves this crate.
//!
//! [`Quorum::decide`] runs a decision against the applied image, makes its records durable on a majority and returns
//! the image they led to. [`Quorum::image`] is what has been applied; brokers act on nothing else.
//!
//! Today the only voter is this process. The transport that lets others vote comes with replication.

mod log_store;
mod network;
mod quorum;
mod state_machine;
mod storage_file;
mod types;

pub use quorum::{DecideError, Quorum, QuorumError};
