//! The topic properties that a log obeys, already resolved from topic, broker and default.

/// Names are Kafka's topic properties with `.` as `_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub segment_bytes: u64,
    pub segment_ms: i64,
    pub segment_index_bytes: u32,
    pub index_interval_bytes: u32,
    /// Flush at the latest after so many records; 1 is strandline's default, `i64::MAX` is Kafka's.
    pub flush_messages: i64,
    /// Flush at the latest after so long.
    pub flush_ms: i64,
    /// How long a producer's sequence state is kept after its last batch (`producer.id.expiration.ms`).
    pub producer_id_expiration_ms: i64,
}

impl LogConfig {
    /// Whether an `acks=all` answer waits for the flush.
    pub fn flushes_every_append(&self) -> bool {
        self.flush_messages <= 1
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            flush_messages: 1,
            flush_ms: i64::MAX,
            producer_id_expiration_ms: 24 * 3600 * 1000,
        }
    }
}
