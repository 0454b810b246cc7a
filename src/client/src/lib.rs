//! A Kafka client on `wire`.
//!
//! [`Connection`] and [`Client`] are one request at a time to one broker: replica fetchers and tests use them. [`Cluster`]
//! knows the brokers and has a [`Channel`] to each; on it stand the [`Producer`] and the [`Consumer`], and with them
//! Kafka's tools.

mod aborted;
mod channel;
mod client;
mod cluster;
mod connection;
mod consumer;
mod error;
mod framing;
mod group_protocol;
mod membership;
mod mirrored;
mod offsets;
mod partitioner;
mod producer;

pub use channel::Channel;
pub use client::Client;
pub use cluster::{ClientOptions, Cluster, Node};
pub use connection::Connection;
pub use consumer::{Consumed, Consumer, ConsumerOptions, OffsetReset};
pub use error::{ClientError, check};
pub use group_protocol::decode_assignment;
pub use mirrored::{Mirrored, mirrored_position};
pub use offsets::{CommittedOffset, Key, commit_offsets, committed, list_offsets};
pub use partitioner::{murmur2, partition_of_key};
pub use producer::{Acks, Delivery, Producer, ProducerOptions};
