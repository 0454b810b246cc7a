//! Timestamps that ListOffsets takes for a place in the log rather than for a time.

/// The end: the high watermark, or the last stable offset (KIP-79).
pub const LATEST: i64 = -1;
/// The first record of either tier (KIP-79).
pub const EARLIEST: i64 = -2;
/// The record with the largest timestamp (KIP-734).
pub const MAX_TIMESTAMP: i64 = -3;
/// The first record on the leader's disk (KIP-405).
pub const EARLIEST_LOCAL: i64 = -4;
/// The last record in the cold tier (KIP-1005).
pub const LATEST_TIERED: i64 = -5;
/// The first record that is not in the cold tier yet (KIP-1023).
pub const EARLIEST_PENDING_UPLOAD: i64 = -6;
