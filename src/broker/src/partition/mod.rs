//! Partitions at run time: who owns a log, who flushes it, and what everybody else may see.

mod flusher;
mod handle;
mod manager;
mod refusals;
mod relocate;
mod shard;
mod watch;

pub use handle::{Acks, AppendReply, FetchedRecords, Partition, ReplicaFetch, Role};
pub use manager::{LogDirs, PartitionManager};
pub use shard::IsrRequest;
pub use watch::{Interest, Watch};
