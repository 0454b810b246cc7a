//! How long something took, each time: requests of one API, flushes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A log-scale histogram, two buckets an octave, from 16 µs.
pub(crate) struct Latencies {
    buckets: [AtomicU64; 48],
    sum_micros: AtomicU64,
    count: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum_micros: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }
}

impl Latencies {
    pub fn record(&self, elapsed: Duration) {
        let micros = elapsed.as_micros() as u64;
        let bucket = Self::bucket(micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub fn sum_ms(&self) -> f64 {
        self.sum_micros.load(Ordering::Relaxed) as f64 / 1000.0
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn bucket(micros: u64) -> usize {
        let scaled = (micros / 16).max(1);
        let octave = scaled.ilog2() as usize;
        let half = usize::from(octave > 0 && scaled >> (octave - 1) & 1 == 1);
        (octave * 2 + half).min(47)
    }

    /// Upper end of a bucket in milliseconds.
    fn upper_ms(bucket: usize) -> f64 {
        let base = 16.0 * 2f64.powi((bucket / 2) as i32);
        base * if bucket % 2 == 1 { 2.0 } else { 1.5 } / 1000.0
    }

    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        let total = self.count.load(Ordering::Relaxed);
        let wanted = (total as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count.load(Ordering::Relaxed);
            if seen >= wanted && total > 0 {
                return Self::upper_ms(bucket);
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_in_the_bucket_of_the_value() {
        let latencies = Latencies::default();
        for _ in 0..99 {
            latencies.record(Duration::from_millis(1));
        }
        latencies.record(Duration::from_millis(100));
        let (median, last) = (latencies.quantile_ms(0.5), latencies.quantile_ms(0.999));
        assert!((1.0..=1.6).contains(&median), "{median}");
        assert!((100.0..=160.0).contains(&last), "{last}");
    }
}
