//! How long calls to the store may take.

use std::time::Duration;

use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use crate::upload::PART_BYTES;

/// A call that moves bytes has this long, and a second for each [`SLOWEST_BYTES_PER_SECOND`] on top. A slower
/// call does not move.
const CALL: Duration = Duration::from_secs(6);
/// An upload below this rate counts as stuck: at 512 KiB/s a part of 24 MiB takes 48 s.
const SLOWEST_BYTES_PER_SECOND: u64 = 512 << 10;

/// Within what a call that carries `bytes` must be over.
pub(crate) fn limit_of(bytes: u64) -> Duration {
    CALL + Duration::from_millis(bytes.saturating_mul(1000) / SLOWEST_BYTES_PER_SECOND)
}

pub(super) struct Timeouts {
    request: Duration,
    retries: usize,
    retry_for: Duration,
}

impl Timeouts {
    /// Of uploads. An attempt has the time of the largest part; what fails for long is the caller's to try again.
    pub(super) fn uploads() -> Self {
        Self {
            request: limit_of(PART_BYTES as u64),
            retries: 6,
            retry_for: Duration::from_secs(60),
        }
    }

    /// Of reads, where a consumer waits, and of whatever carries no bytes. A body that is cut off by it goes on where it ended.
    pub(super) fn reads() -> Self {
        Self {
            request: CALL,
            retries: 3,
            retry_for: Duration::from_secs(10),
        }
    }

    pub(super) fn retry(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: self.retries,
            retry_timeout: self.retry_for,
        }
    }

    pub(super) fn client(&self, allow_http: bool) -> ClientOptions {
        ClientOptions::new()
            .with_timeout(self.request)
            .with_connect_timeout(Duration::from_secs(5))
            .with_allow_http(allow_http)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_time_in_proportion_to_its_bytes() {
        for (bytes, seconds) in [(0, 6), (1 << 20, 8), (24 << 20, 54)] {
            assert_eq!(limit_of(bytes).as_secs(), seconds);
        }
        assert!(limit_of(u64::MAX) > CALL, "no overflow");
    }
}
