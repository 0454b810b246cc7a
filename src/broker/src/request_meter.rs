//! Measures how long a request keeps threads busy, for the quota `request_percentage` (KIP-124).

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The time that threads have worked on one request. Time in which the request waits is not counted.
#[derive(Debug, Default)]
pub struct RequestMeter(Mutex<Busy>);

#[derive(Debug, Default)]
struct Busy {
    before: Duration,
    since: Option<Instant>,
}

impl RequestMeter {
    /// Drives a future and counts the time that it runs.
    pub async fn count<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            self.lock().since = Some(Instant::now());
            let polled = future.as_mut().poll(context);
            let mut busy = self.lock();
            busy.before = busy.total();
            busy.since = None;
            polled
        })
        .await
    }

    /// The time so far. The future itself may call this, too.
    pub fn spent(&self) -> Duration {
        self.lock().total()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Busy> {
        self.0.lock().expect("no holder panics")
    }
}

impl Busy {
    fn total(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_counts_and_waiting_does_not() {
        const WAIT: Duration = Duration::from_millis(100);
        let meter = RequestMeter::default();
        let work = || {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(5) {}
        };
        let began = Instant::now();
        let within = meter.count(async {
            work();
            tokio::time::sleep(WAIT).await;
            work();
            meter.spent()
        });
        let within = within.await;
        assert!(within >= Duration::from_millis(10), "{within:?}");
        assert!(began.elapsed() >= within + WAIT, "{within:?}");
        assert!(meter.spent() >= within);
    }
}
