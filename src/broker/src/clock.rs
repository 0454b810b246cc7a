//! The wall clock, where records and retention need it. Never for leases or fencing.

use std::time::{SystemTime, UNIX_EPOCH};

use strandline_types::TimestampMs;

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> TimestampMs {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
}
