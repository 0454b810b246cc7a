//! Chunks that were fetched ahead and not read yet, under a budget.

use std::collections::HashMap;
use std::sync::Mutex;

use super::ChunkKey;

/// The chunks that are being, or have been, fetched ahead and are not read yet.
#[derive(Debug)]
pub struct ReadAhead {
    limit_bytes: u64,
    unread: Mutex<Unread>,
}

#[derive(Debug, Default)]
struct Unread {
    chunks: HashMap<ChunkKey, u64>,
    bytes: u64,
}

impl ReadAhead {
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes,
            unread: Mutex::default(),
        }
    }

    /// Whether this chunk may be fetched ahead now; not if it is already, or if the budget is used up.
    pub fn begin(&self, key: ChunkKey, bytes: u64) -> bool {
        let mut unread = self.unread.lock().expect("no holder panics");
        if unread.bytes + bytes > self.limit_bytes || unread.chunks.contains_key(&key) {
            return false;
        }
        unread.chunks.insert(key, bytes);
        unread.bytes += bytes;
        true
    }

    /// The chunk was read, dropped, or could not be had.
    pub fn end(&self, key: &ChunkKey) {
        let mut unread = self.unread.lock().expect("no holder panics");
        if let Some(bytes) = unread.chunks.remove(key) {
            unread.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use strandline_types::RemoteLogSegmentId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_budget_is_kept_and_given_back() {
        let ahead = ReadAhead::new(10);
        let key = |chunk| (RemoteLogSegmentId(Uuid::nil()), chunk);
        assert!(ahead.begin(key(0), 4));
        assert!(!ahead.begin(key(0), 4), "is fetched already");
        assert!(ahead.begin(key(1), 4));
        assert!(!ahead.begin(key(2), 4), "no room");
        ahead.end(&key(1));
        ahead.end(&key(1));
        assert!(ahead.begin(key(2), 4));
    }
}
