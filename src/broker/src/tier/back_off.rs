//! The back-off after failures: the delay doubles with each failure in a row. Pure.

use std::collections::HashMap;
use std::hash::Hash;

use strandline_types::MonotonicMs;

/// Above this the delay does not double any more.
const MAX_DOUBLINGS: u32 = 16;

#[derive(Debug)]
pub struct BackOff<K> {
    /// Failures in a row, and when the next attempt is due.
    failed: HashMap<K, (u32, MonotonicMs)>,
}

impl<K> Default for BackOff<K> {
    fn default() -> Self {
        Self {
            failed: HashMap::new(),
        }
    }
}

impl<K: Hash + Eq + Clone> BackOff<K> {
    pub fn is_due(&self, key: &K, now: MonotonicMs) -> bool {
        self.failed.get(key).is_none_or(|(_, at)| *at <= now)
    }

    /// Whether it failed, and may be tried again.
    pub fn is_waited_for(&self, key: &K, now: MonotonicMs) -> bool {
        self.failed.get(key).is_some_and(|(_, at)| *at <= now)
    }

    /// When the next of those that failed is due; not those that were due at `since`.
    pub fn next_due(&self, since: MonotonicMs) -> Option<MonotonicMs> {
        let later = self.failed.values().map(|(_, at)| *at);
        later.filter(|at| *at > since).min()
    }

    /// Whether one of these is due by then.
    pub fn is_any_due(&self, which: impl Fn(&K) -> bool, by: MonotonicMs) -> bool {
        let mut failed = self.failed.iter();
        failed.any(|(key, (_, at))| which(key) && *at <= by)
    }

    /// Has these tried again by then at the latest.
    pub fn hasten(&mut self, which: impl Fn(&K) -> bool, by: MonotonicMs) {
        for (key, (_, at)) in &mut self.failed {
            if which(key) {
                *at = (*at).min(by);
            }
        }
    }

    pub fn retain(&mut self, keep: impl Fn(&K) -> bool) {
        self.failed.retain(|key, _| keep(key));
    }

    /// Returns whether it had failed.
    pub fn forget(&mut self, key: &K) -> bool {
        self.failed.remove(key).is_some()
    }

    /// Notes a failure; returns the delay in milliseconds. `bounds_ms` are the shortest and the longest one; `jitter` is
    /// a factor around 1.
    pub fn failed(&mut self, key: &K, bounds_ms: (i64, i64), jitter: f64, now: MonotonicMs) -> i64 {
        let base = bounds_ms.0.max(1);
        let most = bounds_ms.1.max(base);
        let (failures, at) = self.failed.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        let doubled = base.saturating_mul(1 << (*failures).min(MAX_DOUBLINGS));
        let delay = (doubled.min(most) as f64 * jitter) as i64;
        *at = now.plus_ms(delay);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_its_bound_and_ends_with_a_success() {
        let mut back_off = BackOff::default();
        let start = MonotonicMs::default();
        assert!(back_off.is_due(&"p", start));
        let delays = [200, 400, 800, 1000, 1000];
        for delay in delays {
            assert_eq!(back_off.failed(&"p", (100, 1000), 1.0, start), delay);
        }
        assert!(!back_off.is_due(&"p", start.plus_ms(999)));
        assert!(back_off.is_due(&"p", start.plus_ms(1000)));
        assert!(back_off.is_due(&"q", start));
        assert_eq!(back_off.next_due(start), Some(start.plus_ms(1000)));
        assert_eq!(back_off.next_due(start.plus_ms(1000)), None);
        assert!(back_off.is_waited_for(&"p", start.plus_ms(1000)));
        assert!(!back_off.is_waited_for(&"q", start.plus_ms(1000)));
        assert!(!back_off.is_any_due(|_| true, start.plus_ms(999)));
        back_off.hasten(|key| *key == "p", start.plus_ms(5));
        assert!(back_off.is_any_due(|_| true, start.plus_ms(5)));
        assert!(back_off.forget(&"p"));
        assert!(!back_off.forget(&"p"));
        assert_eq!(back_off.failed(&"p", (100, 1000), 1.0, start), 200);
        for _ in 0..100 {
            back_off.failed(&"p", (i64::MAX, i64::MAX), 1.2, start);
        }
    }
}
