//! Replication throttles (`leader.replication.throttled.rate` and its siblings): a move of replicas that would take all of
//! a network or a disk is slowed down, replicas in sync never are.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The longest wait before a caller asks again.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// A limit of bytes per second, with bursts of up to one second's worth. Bytes that are on their way may pass and are
/// paid for afterwards, so the rate holds on average, whatever the size of a piece.
#[derive(Debug)]
pub struct Throttle {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The configured rate; `None` is no limit.
    bytes_per_second: Option<i64>,
    /// Bytes that may pass now; negative after more than the limit has passed.
    available: f64,
    at: Instant,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                bytes_per_second: None,
                available: 0.0,
                at: Instant::now(),
            }),
        }
    }
}

impl Throttle {
    /// `i64::MAX` is no limit.
    pub fn set_rate(&self, bytes_per_second: i64) {
        let rate = Some(bytes_per_second.max(0)).filter(|rate| *rate != i64::MAX);
        let mut state = self.state.lock().expect("no holder panics");
        if state.bytes_per_second != rate {
            *state = State {
                bytes_per_second: rate,
                available: 0.0,
                at: Instant::now(),
            };
        }
    }

    /// How long to wait before anything may pass; `None`: nothing holds it up.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let mut state = self.state.lock().expect("no holder panics");
        let rate = state.bytes_per_second? as f64;
        let passed = now.saturating_duration_since(state.at).as_secs_f64();
        state.available = (state.available + passed * rate).min(rate);
        state.at = now;
        if state.available > 0.0 {
            return None;
        }
        let seconds = (1.0 - state.available) / rate;
        Some(Duration::try_from_secs_f64(seconds).map_or(MAX_WAIT, |d| d.min(MAX_WAIT)))
    }

    /// `bytes` have passed.
    pub fn spend(&self, bytes: usize) {
        let mut state = self.state.lock().expect("no holder panics");
        if state.bytes_per_second.is_some() {
            state.available -= bytes as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_on_average_and_no_rate_holds_nobody_up() {
        let throttle = Throttle::default();
        let began = Instant::now();
        throttle.spend(1 << 30);
        assert_eq!(throttle.wait(began), None);
        throttle.set_rate(1000);
        let (mut now, mut passed) = (began, 0);
        while now < began + Duration::from_secs(100) {
            match throttle.wait(now) {
                None => {
                    throttle.spend(350);
                    passed += 350;
                }
                Some(wait) => now += wait.max(Duration::from_millis(1)),
            }
        }
        assert!((99_000..=101_500).contains(&passed), "{passed}");
    }

    #[test]
    fn a_rate_of_zero_lets_nothing_pass() {
        let throttle = Throttle::default();
        throttle.set_rate(0);
        assert_eq!(throttle.wait(Instant::now() + MAX_WAIT), Some(MAX_WAIT));
    }
}
