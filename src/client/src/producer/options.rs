//! A producer's options, under the names of Kafka's configuration keys.

use std::time::Duration;

use strandline_wire::compression::Compression;

/// `acks`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    None,
    Leader,
    All,
}

#[derive(Clone, Debug)]
pub struct ProducerOptions {
    pub acks: Acks,
    pub compression: Compression,
    /// `linger.ms`
    pub linger: Duration,
    /// `batch.size`
    pub batch_bytes: usize,
    /// `buffer.memory`
    pub buffer_bytes: usize,
    /// `max.request.size`
    pub max_request_bytes: usize,
    /// `max.block.ms`
    pub max_block: Duration,
    /// `delivery.timeout.ms`
    pub delivery_timeout: Duration,
    /// `retry.backoff.ms`
    pub retry_backoff: Duration,
    /// `max.in.flight.requests.per.connection`
    pub max_in_flight: usize,
    /// `enable.idempotence`
    pub idempotent: bool,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Compression::None,
            linger: Duration::from_millis(5),
            batch_bytes: 16 << 10,
            buffer_bytes: 32 << 20,
            max_request_bytes: 1 << 20,
            max_block: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            retry_backoff: Duration::from_millis(100),
            max_in_flight: 5,
            idempotent: true,
        }
    }
}
