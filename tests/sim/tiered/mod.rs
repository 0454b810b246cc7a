//! One tiered partition on three brokers: logs that are replicated, truncated and lost, leaders that copy, elections of
//! replicas that are not in sync. The controller, the planners, the comparison of log and tier, and the rules of
//! truncation are the real ones; disks, bucket and network are simulated.

pub mod cluster;
pub mod disk;
pub mod leader;
pub mod oracle;

/// The rule that decides whether a remote segment belongs to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Compare leader epochs before a leader serves.
    Epochs,
    /// Compare offsets alone, as the broker did before it compared epochs.
    Offsets,
}

/// A record as the oracle tells it from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: u64,
    pub epoch: i32,
    /// The record before it in the log that it was first appended to; 0 for none.
    pub previous: u64,
}
