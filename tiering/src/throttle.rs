//! A token bucket in bytes per second, shared by all copies or all reads (KIP-956's limits, but inside a segment, too).

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Lets `bytes_per_second` through on average and at most one second's worth at once.
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
        const BURST: Duration = Duration::from_secs(1);
        let mut state = self.state.lock().expect("no holder panics");
        if state.bytes_per_second == u64::MAX {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let cost = Duration::from_secs_f64(bytes as f64 / state.bytes_per_second.max(1) as f64);
        // Unused time is saved up to one burst.
        state.paid_until = state.paid_until.max(now.checked_sub(BURST).unwrap_or(now)) + cost;
        state.paid_until.saturating_duration_since(now)
    }
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
        assert_eq!(start.elapsed(), Duration::ZERO);
        throttle.acquire(500).await;
        throttle.acquire(1500).await;
        let waited = start.elapsed().as_millis();
        assert!((1999..=2002).contains(&waited), "{waited}");
        throttle.set_rate(u64::MAX);
        throttle.acquire(1 << 40).await;
        assert!(start.elapsed().as_millis() <= 2002);
    }
}
