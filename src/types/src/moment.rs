//! Two clocks that the compiler keeps apart. A duration is measured between two [`MonotonicMs`]; a
//! [`TimestampMs`](crate::TimestampMs) goes into a record, or is compared with one.
//!
//! An administrator, NTP or a resumed virtual machine may set the wall clock by hours at any moment. A deadline on the
//! wall clock then expires at once, or for hours never. The broker reads both clocks in one file, `broker/src/clock.rs`.

use crate::TimestampMs;

/// A moment on the monotonic clock, which cannot be set, in milliseconds. Moments of one process are comparable with
/// each other; the number means nothing to another process, and nothing after a restart: never write it to a disk or a
/// socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonotonicMs(i64);

impl MonotonicMs {
    /// Only for the file that reads the clock, for atomics, and for simulations.
    pub const fn new(ms: i64) -> Self {
        Self(ms)
    }

    pub const fn get(self) -> i64 {
        self.0
    }

    /// The moment `ms` later. Settings may be as large as `i64::MAX`: the result is then the last moment that exists.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; 0 if `earlier` is not earlier.
    pub const fn ms_since(self, earlier: Self) -> i64 {
        let passed = self.0.saturating_sub(earlier.0);
        if passed < 0 { 0 } else { passed }
    }
}

/// This moment on both clocks, for state machines that keep deadlines and write records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock, for sessions, time-outs and lags.
    pub monotonic: MonotonicMs,
    /// The wall clock, for times that are written into records or compared with records.
    pub wall_ms: TimestampMs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_never_negative_and_never_overflow() {
        for (later, earlier, passed) in [
            (7, 5, 2),
            (5, 7, 0),
            (5, 5, 0),
            (i64::MAX, i64::MIN, i64::MAX),
            (i64::MIN, i64::MAX, 0),
        ] {
            let since = MonotonicMs::new(later).ms_since(MonotonicMs::new(earlier));
            assert_eq!(since, passed, "from {earlier} to {later}");
        }
        let end = MonotonicMs::new(i64::MAX);
        assert_eq!(MonotonicMs::new(1).plus_ms(i64::MAX), end);
        assert_eq!(end.plus_ms(1), end);
    }
}
