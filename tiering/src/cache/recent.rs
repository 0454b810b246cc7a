//! Which chunks were fetched from the bucket lately: a bounded set that forgets the oldest.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use super::ChunkKey;

pub(super) struct RecentKeys {
    limit: usize,
    state: Mutex<(HashSet<ChunkKey>, VecDeque<ChunkKey>)>,
}

impl RecentKeys {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            state: Mutex::default(),
        }
    }

    /// Notes a fetch; returns whether the key was there before.
    pub fn insert(&self, key: ChunkKey) -> bool {
        let mut state = self.state.lock().expect("no holder panics");
        let (set, order) = &mut *state;
        if !set.insert(key) {
            return true;
        }
        order.push_back(key);
        if order.len() > self.limit
            && let Some(oldest) = order.pop_front()
        {
            set.remove(&oldest);
        }
        false
    }
}
