//! The vocabulary that every crate shares: identifiers, epochs, offsets and the description of a segment in the
//! cold tier; a secret, a pool of buffers, a bound on log lines. No I/O, no clock, no behaviour beyond conversions and checks of form.
//!
//! Conventions: `end_offset` is exclusive, `last_offset` inclusive; units come last in a name (`retention_ms`).

mod base64_id;
mod buffers;
mod ids;
mod internal_topic;
mod log_window;
mod moment;
mod mutant;
mod record_age;
mod remote;
mod secret;
mod topic_name;

pub use base64_id::{base64_id, parse_base64_id};
pub use buffers::{BufferPool, PooledBuffer};
pub use ids::{
    BrokerEpoch, BrokerId, LeaderEpoch, PartitionId, TopicId, TopicIdPartition, TopicPartition,
};
pub use internal_topic::{OFFSETS_TOPIC, is_internal_topic};
pub use log_window::{AdmittedLine, LogWindow};
pub use moment::{MonotonicMs, Now};
pub use mutant::{Mutant, is_mutant};
pub use record_age::{is_expired, newest_record_ms};
pub use remote::{EpochStart, RemoteLogSegmentId, RemoteLogSegmentMetadata, RemoteLogSegmentState};
pub use secret::Secret;
pub use topic_name::{TopicNameError, validate_topic_name};

/// A record's position in its partition.
pub type Offset = i64;

/// Milliseconds since the Unix epoch, as Kafka's record timestamps.
pub type TimestampMs = i64;

/// "No timestamp", as Kafka writes it.
pub const NO_TIMESTAMP: TimestampMs = -1;
