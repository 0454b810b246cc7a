//! Kafka's bytes: frames, headers, versioned messages, error codes, record batches. Knows no broker and does no I/O.
//!
//! Bytes from a client pass [`schema`] before `kafka-protocol` decodes them, because that crate allocates from counts
//! that it has not checked. Produce, Fetch and record batches are read and written here by hand, without copying
//! records. Nothing in this crate panics on input, and nothing allocates more than a small multiple of what it was given.

pub mod api;
pub mod batch;
pub mod by_topic_id;
pub mod compression;
pub mod error_code;
pub mod fetch;
pub mod frame;
pub mod primitive;
pub mod produce;
pub mod schema;
pub mod special_timestamp;

pub use error_code::ErrorCode;
pub use kafka_protocol::messages;
pub use kafka_protocol::messages::ApiKey;
pub use kafka_protocol::protocol::StrBytes;

/// A string for `kafka-protocol`.
pub fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}
