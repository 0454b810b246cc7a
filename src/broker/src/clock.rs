//! The two clocks of a broker, read nowhere else: the wall clock for records and for times that are compared with
//! records, the monotonic clock for every duration. No lease and no fencing depends on the wall clock.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use strandline_types::{MonotonicMs, Now, TimestampMs};

/// The process's first look at the clock: the zero of its [`MonotonicMs`].
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the Unix epoch. An administrator or NTP may set this clock at any moment.
pub fn now_ms() -> TimestampMs {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
}

/// The monotonic clock, for deadlines, time-outs, lags and back-off.
pub fn monotonic() -> MonotonicMs {
    MonotonicMs::new(BEGAN.elapsed().as_millis() as i64)
}

/// Both clocks, for state machines that keep deadlines and write records.
pub fn now() -> Now {
    Now {
        monotonic: monotonic(),
        wall_ms: now_ms(),
    }
}
