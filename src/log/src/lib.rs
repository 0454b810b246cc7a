//! One partition's hot log in Kafka's on-disk format, on blocking `std::fs`.
//!
//! A [`PartitionLog`] has one owner, which appends, rolls, deletes and publishes; readers take the immutable
//! [`LogView`] that the owner published last and read files by position. The formats are Kafka's to the byte
//! (`docs/FORMATS.md`), so `kafka-dump-log.sh` reads what is written here.
//!
//! Not here: leadership, in-sync replicas, the cold tier. The owner decides how far the high watermark may advance and
//! which segments may be deleted.

mod checkpoint;
mod config;
mod directory_place;
mod epochs;
mod error;
mod flush;
mod header_walk;
mod index;
mod index_builder;
mod index_check;
mod log_dir;
mod log_start;
mod look_up;
mod partition_directory;
mod partition_log;
mod producer_state;
mod read;
mod recovery;
mod relocation;
pub mod retention;
mod segment;
mod tail;
mod time_search;
mod view;

pub use checkpoint::{
    OffsetCheckpoint, decode_leader_epochs, read_offset_checkpoint, write_offset_checkpoint,
};
pub use config::LogConfig;
pub use directory_place::DirectoryPlace;
pub use epochs::LeaderEpochs;
pub use error::{AppendError, FetchedError, LogError, ReadError};
pub use flush::flush_segments;
pub use index::{OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES};
pub use log_dir::{DiskSpace, LogDir, LogDirError, identify};
pub use partition_directory::{PartitionDirectories, PartitionDirectory};
pub use partition_log::{AppendInfo, OpenOptions, PartitionLog, write_leader_epochs};
pub use producer_state::{
    ActiveProducer, ProducerState, SequenceError, decode_snapshot, read_snapshot,
};
pub use read::LogSlice;
pub use relocation::Relocation;
pub use segment::{SealedSegment, Segment};
pub use time_search::FoundTimestamp;
pub use view::LogView;

#[cfg(test)]
mod border_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod index_tests;
#[cfg(test)]
mod producer_tests;
#[cfg(test)]
mod retention_tests;
#[cfg(test)]
mod scenario_tests;
#[cfg(test)]
mod time_tests;
