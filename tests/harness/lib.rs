//! What the test suites share: brokers in process on real sockets and files, and an S3 server that misbehaves on demand.

mod broker;
mod cluster;
pub mod golden;
mod s3;
mod wait;

pub use broker::TestBroker;
pub use cluster::{PartitionState, TestCluster};
pub use s3::{Fault, S3Server};
pub use wait::eventually;

/// What servers log is in the output of the test that fails; `RUST_LOG` says how much.
fn show_logs() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter =
        filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,openraft=warn"));
    // Of the tests of a process, the first one sets this for all.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_test_writer()
        .try_init();
}
