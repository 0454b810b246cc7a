//! Partitions at run time: the owners of logs, the flushers, and the views that the rest of the broker reads.

mod acks;
mod by_name;
mod checkpoints;
mod deletions;
mod directories;
mod failed;
mod flusher;
mod gathered;
mod handle;
mod health;
mod leadership;
mod log_dirs;
mod opening;
mod owned;
mod read;
mod refusals;
mod relocate;
mod removal;
mod shard;
mod standing;
mod table;
mod takeover;
mod watch;

#[cfg(test)]
mod table_tests;

pub use handle::{
    Acks, AppendReply, FetchedRecords, Partition, PartitionError, ReplicaFetch, Role,
};
pub use leadership::IsrRequest;
pub use log_dirs::LogDirs;
pub use read::read_batches;
pub use standing::{Standing, Statement, statement};
pub use table::PartitionManager;
pub use watch::{Interest, Watch};
