//! The account of one client: what it may still use.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    rate: f64,
    /// The amount that may still be used, in the kind's own measure; negative where the client has overdrawn.
    balance: f64,
    as_of: Instant,
}

impl Account {
    pub fn new(rate: f64, window: Duration, now: Instant) -> Self {
        Self {
            rate,
            balance: rate * window.as_secs_f64(),
            as_of: now,
        }
    }

    pub fn settle(&mut self, rate: f64, window: Duration, now: Instant) {
        let passed = now.saturating_duration_since(self.as_of).as_secs_f64();
        self.rate = rate;
        self.balance = (self.balance + passed * rate).min(rate * window.as_secs_f64());
        self.as_of = now;
    }

    pub fn spend(&mut self, amount: f64) {
        self.balance -= amount;
    }

    /// When the account was used last.
    pub fn as_of(&self) -> Instant {
        self.as_of
    }

    pub fn wait(&self, longest: Duration) -> Duration {
        if self.balance >= 0.0 {
            return Duration::ZERO;
        }
        // A rate of nothing, or of minus nothing, is no divisor: the wait is the longest.
        let seconds = (-self.balance / self.rate).min(longest.as_secs_f64());
        Duration::try_from_secs_f64(seconds).unwrap_or(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rate of -0.0 ended the broker: the kind of a float that is no length of time.
    #[test]
    fn no_rate_panics() {
        let now = Instant::now();
        let rates = [
            0.0,
            -0.0,
            f64::MIN_POSITIVE,
            -1.0,
            f64::MAX,
            f64::INFINITY,
            f64::NAN,
        ];
        for rate in rates {
            for used in [0.0, 1.0, f64::MAX] {
                let mut account = Account::new(rate, Duration::from_secs(1), now);
                account.balance -= used;
                assert!(
                    account.wait(Duration::from_secs(5)) <= Duration::from_secs(5),
                    "{rate}"
                );
                account.settle(rate, Duration::from_secs(1), now + Duration::from_secs(1));
                assert!(
                    account.wait(Duration::from_secs(5)) <= Duration::from_secs(5),
                    "{rate}"
                );
            }
        }
    }
}
