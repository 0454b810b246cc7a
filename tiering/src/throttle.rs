//! A token bucket in bytes per second, shared by all copies or all reads (KIP-956's limits, but inside a segment, too).
//!
//! As in Kafka, what passes is paid for afterwards, and a request waits for what passed before it: a rate below one request a
//! second is slow, not dead. One request costs at most [`MAX_COST`], so at the lowest rate one passes each ten seconds.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// The most that one request can cost the requests behind it, about Kafka's window of eleven seconds.
const MAX_COST: Duration = Duration::from_secs(10);
/// Unused time is saved up to this.
const BURST: Duration = Duration::from_secs(1);

/// Lets `bytes_per_second` through on average, and at most one second's worth and one request at once.
#[derive(Debug)]
pub struct Throttle {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    bytes_per_second: u64,
    /// When everything that was granted so far has been paid for.
    paid_until: Instant,
}

impl Throttle {
    /// `u64::MAX` lets everything through.
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            state: Mutex::new(State {
                bytes_per_second,
                paid_until: Instant::now(),
            }),
        }
    }

    pub fn set_rate(&self, bytes_per_second: u64) {
        self.state
            .lock()
            .expect("no holder panics")
            .bytes_per_second = bytes_per_second;
    }

    /// Waits until `bytes` may pass.
    pub async fn acquire(&self, bytes: u64) {
        let wait = self.reserve(bytes);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn reserve(&self, bytes: u64) -> Duration {
        let mut state = self.state.lock().expect("no holder panics");
        if state.bytes_per_second == u64::MAX {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let cost = cost_of(bytes, state.bytes_per_second);
        let from = state.paid_until.max(now.checked_sub(BURST).unwrap_or(now));
        state.paid_until = from.checked_add(cost).unwrap_or(from);
        from.saturating_duration_since(now)
    }
}

fn cost_of(bytes: u64, bytes_per_second: u64) -> Duration {
    let seconds = bytes as f64 / bytes_per_second.max(1) as f64;
    Duration::try_from_secs_f64(seconds).map_or(MAX_COST, |cost| cost.min(MAX_COST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_at_the_rate_after_one_burst() {
        let throttle = Throttle::new(1000);
        tokio::time::advance(Duration::from_secs(60)).await;
        let start = Instant::now();
        throttle.acquire(1000).await;
        throttle.acquire(500).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        throttle.acquire(1500).await;
        throttle.acquire(1).await;
        let waited = start.elapsed().as_millis();
        assert!((1999..=2002).contains(&waited), "{waited}");
        throttle.set_rate(u64::MAX);
        throttle.acquire(1 << 40).await;
        assert!(start.elapsed().as_millis() <= 2002);
    }

    #[tokio::test(start_paused = true)]
    async fn the_lowest_rate_is_slow_and_not_dead() {
        for rate in [0, 1, 20_000] {
            let throttle = Throttle::new(rate);
            let start = Instant::now();
            for _ in 0..6 {
                throttle.acquire(4 << 20).await;
            }
            let waited = start.elapsed();
            assert!(waited <= 6 * MAX_COST, "{rate}: {waited:?}");
            assert!(waited >= 4 * MAX_COST, "{rate}: {waited:?}");
        }
        assert_eq!(cost_of(u64::MAX, 0), MAX_COST);
    }
}
