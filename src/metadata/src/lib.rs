//! The cluster's metadata: its records, the image they add up to, and the controller's decisions. Pure.
//!
//! `decide(image, command) -> records` in [`controller`]; `image.apply(record)` in [`image`]. The quorum makes records
//! durable between the two. Nothing here knows a clock, a socket or a random number: callers bring them.

pub mod config;
pub mod controller;
mod image;
pub mod quota;
mod record;

/// The name of the quorum's log: of its topic for Kafka's tools, and of its directory.
pub const METADATA_TOPIC: &str = "__cluster_metadata";

pub use image::{Addendum, BrokerImage, ClusterImage, PartitionImage, RemoteLogImage, TopicImage};
pub use record::{
    ConfigResource, Listener, MetadataRecord, RecordBatchError, decode_records, encode_records,
};
