//! The bytes of requests that have been read: `queued.max.request.bytes`.
//!
//! A connection has an allowance of its own for small requests, so heartbeats and commits never wait for memory.
//! Larger requests count against the process, in two lanes: the memory that one request of a hundred megabytes waits
//! for is not taken from producers of ordinary batches. A request's bytes are held until its last slice is dropped;
//! for a batch, that is when the batch is in the log.

use super::budget::{Budget, Held};

/// The default of `queued.max.request.bytes`. Kafka has no limit there.
const DEFAULT_BYTES: usize = 160 << 20;
/// Requests above this size use the lane of large ones.
const LARGE_BYTES: usize = 1 << 20;
/// The room for small requests that each connection has. Also the size of a connection's read buffer.
pub const READ_BYTES: usize = 16 << 10;
/// The rate at which a request must arrive while others wait for its lane.
const CONTENDED_BYTES_PER_SECOND: u64 = 1 << 20;

/// The memory of one connection for its small requests.
pub struct Allowance(Budget);

impl Default for Allowance {
    fn default() -> Self {
        Self(Budget::new(READ_BYTES))
    }
}

/// The memory of all connections for requests.
pub struct RequestMemory {
    ordinary: Budget,
    large: Budget,
}

impl RequestMemory {
    /// A `limit` of 0 or less is the default.
    pub fn new(limit: i64) -> Self {
        let bytes = usize::try_from(limit).unwrap_or(0);
        let bytes = if bytes == 0 { DEFAULT_BYTES } else { bytes };
        Self {
            ordinary: Budget::new(bytes / 4),
            large: Budget::new(bytes - bytes / 4),
        }
    }

    fn lane(&self, bytes: usize) -> &Budget {
        if bytes > LARGE_BYTES {
            &self.large
        } else {
            &self.ordinary
        }
    }

    /// Waits for the memory of a request of this size.
    pub async fn take(&self, allowance: &Allowance, bytes: usize) -> Held {
        match allowance.0.try_take(bytes) {
            Some(held) => held,
            None => self.lane(bytes).take(bytes).await,
        }
    }

    /// Whether a request keeps others waiting that has brought `arrived` of its `bytes` in `ms` milliseconds.
    pub fn is_too_slow(&self, bytes: usize, arrived: usize, ms: u64) -> bool {
        let due = CONTENDED_BYTES_PER_SECOND.saturating_mul(ms) / 1000;
        bytes > READ_BYTES && self.lane(bytes).is_contended() && (arrived as u64) < due
    }

    /// Bytes of requests that are held now, and the limit.
    pub fn usage(&self) -> (usize, usize) {
        let lanes = [&self.ordinary, &self.large];
        (
            lanes.iter().map(|lane| lane.used_bytes()).sum(),
            lanes.iter().map(|lane| lane.capacity_bytes()).sum(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn is_free(memory: &RequestMemory, allowance: &Allowance, bytes: usize) -> Option<Held> {
        tokio::time::timeout(Duration::from_secs(1), memory.take(allowance, bytes))
            .await
            .ok()
    }

    #[tokio::test(start_paused = true)]
    async fn small_and_ordinary_requests_pass_large_ones() {
        let memory = RequestMemory::new(-1);
        let one = Allowance::default();
        let hundred = is_free(&memory, &one, 100 << 20).await;
        assert!(hundred.is_some(), "one request of 100 MB fits the default");
        assert!(is_free(&memory, &one, 100 << 20).await.is_none());
        assert!(is_free(&memory, &one, 1 << 20).await.is_some());
        // Ordinary requests have a limit, too.
        let mut held = Vec::new();
        while let Some(one_more) = is_free(&memory, &one, 1 << 20).await {
            held.push(one_more);
        }
        assert_eq!(held.len(), 40);
        let (used, limit) = memory.usage();
        assert_eq!((used, limit), (140 << 20, 160 << 20));
        // A heartbeat needs none of them, until its connection has its allowance.
        let small = is_free(&memory, &one, 10 << 10).await;
        assert!(small.is_some());
        assert!(is_free(&memory, &one, 10 << 10).await.is_none());
        assert!(
            is_free(&memory, &Allowance::default(), 10 << 10)
                .await
                .is_some()
        );
        drop(small);
        assert!(is_free(&memory, &one, 10 << 10).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_above_the_limit_passes_alone() {
        let memory = RequestMemory::new(4 << 20);
        let one = Allowance::default();
        let first = is_free(&memory, &one, 100 << 20).await;
        assert!(first.is_some());
        assert!(is_free(&memory, &one, 2 << 20).await.is_none());
        drop(first);
        assert!(is_free(&memory, &one, 2 << 20).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_request_may_go_on_while_nobody_waits() {
        let memory = RequestMemory::new(4 << 20);
        let one = Allowance::default();
        let _first = memory.take(&one, 3 << 20).await;
        let slow = |arrived, ms| memory.is_too_slow(3 << 20, arrived, ms);
        assert!(!slow(0, 60_000));
        let mut next = std::pin::pin!(memory.take(&one, 2 << 20));
        let waited = tokio::time::timeout(Duration::from_secs(1), &mut next).await;
        assert!(waited.is_err());
        let cases = [
            (0, 1_000, true),
            (1 << 20, 1_000, false),
            (2 << 20, 1_999, false),
            (2 << 20, 2_001, true),
        ];
        for (arrived, ms, wanted) in cases {
            assert_eq!(slow(arrived, ms), wanted, "{arrived} bytes in {ms} ms");
        }
    }
}
