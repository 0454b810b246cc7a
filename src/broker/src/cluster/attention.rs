//! When this process was late or paused last, as far as its looks at the clock tell.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A controller that looks at nothing for so long was paused, or its machine was.
const PAUSE: Duration = Duration::from_secs(1);
/// A look that is late by so much comes from a machine that is busy: signs of life may be waiting unread.
const LATE: Duration = Duration::from_millis(300);
/// How often the process looks at the clock.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug)]
struct Looks {
    awake_since: Instant,
    alert_since: Instant,
    looked_at: Instant,
}

impl Looks {
    fn look(self, now: Instant) -> Self {
        let gap = now.saturating_duration_since(self.looked_at);
        let since = |limit, before| if gap >= limit { now } else { before };
        Self {
            awake_since: since(PAUSE, self.awake_since),
            alert_since: since(LATE, self.alert_since),
            looked_at: now,
        }
    }
}

/// How long this process has not been paused, and not been late. Looks at the clock also while a decision is committed.
pub(super) struct Attention(Mutex<Looks>);

impl Attention {
    pub fn new() -> Self {
        let now = Instant::now();
        Self(Mutex::new(Looks {
            awake_since: now,
            alert_since: now,
            looked_at: now,
        }))
    }

    /// Time since the last pause, and since the last look that was late.
    pub fn times(&self) -> (Duration, Duration) {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        *looks = looks.look(now);
        let since = |moment| now.saturating_duration_since(moment);
        (since(looks.awake_since), since(looks.alert_since))
    }

    pub async fn keep_looking(&self) {
        loop {
            self.times();
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_look_and_a_pause_begin_anew() {
        let began = Instant::now();
        let looks = Looks {
            awake_since: began,
            alert_since: began,
            looked_at: began,
        };
        let soon = looks.look(began + LATE / 2);
        assert_eq!((soon.awake_since, soon.alert_since), (began, began));
        let late = soon.looked_at + LATE;
        let after = soon.look(late);
        assert_eq!((after.awake_since, after.alert_since), (began, late));
        let woken = late + PAUSE;
        let after = after.look(woken);
        assert_eq!((after.awake_since, after.alert_since), (woken, woken));
    }
}
