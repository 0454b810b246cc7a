//! Shared parts of the test suites: brokers in process on real sockets and files, and an S3 server that misbehaves on
//! demand.

mod broker;
mod cluster;
pub mod golden;
mod kill;
mod logs;
mod requests;
mod s3;
mod shared_tier;
mod wait;

pub use broker::{TestBroker, http_get};
pub use cluster::{PartitionState, TestCluster};
pub use logs::logged;
pub use requests::{commit_of, frame, produce_of, topic_name, unlimited_fetch};
pub use s3::{Fault, S3Server};
pub use shared_tier::SharedTier;
pub use wait::eventually;
