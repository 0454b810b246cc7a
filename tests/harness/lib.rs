//! Shared parts of the test suites: brokers in process on real sockets and files, and an S3 server that misbehaves on
//! demand.

mod broker;
mod cluster;
pub mod golden;
mod kill;
mod logs;
mod s3;
mod wait;

pub use broker::{TestBroker, http_get};
pub use cluster::{PartitionState, TestCluster};
pub use logs::logged;
pub use s3::{Fault, S3Server};
pub use wait::eventually;
