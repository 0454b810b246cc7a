//! One replica's state as a leader sees it. Pure: offsets in, high watermark out.
//!
//! Followers, in-sync sets that change and divergence come with replication between brokers; the rule that they must
//! obey is here already, and the broker acts on nothing else.

use std::collections::BTreeMap;

use strandline_types::{BrokerId, Offset};

/// Where the replicas of a partition stand, as its leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderState {
    /// End of each in-sync replica's log, as far as that replica vouches for it: flushed where the topic flushes
    /// before it acknowledges. The leader is one of them.
    in_sync: BTreeMap<BrokerId, Offset>,
    min_insync_replicas: usize,
    high_watermark: Offset,
}

impl LeaderState {
    pub fn new(
        in_sync: impl IntoIterator<Item = BrokerId>,
        min_insync_replicas: usize,
        high_watermark: Offset,
    ) -> Self {
        let in_sync = in_sync.into_iter().map(|id| (id, high_watermark)).collect();
        Self {
            in_sync,
            min_insync_replicas,
            high_watermark,
        }
    }

    /// Effective `min.insync.replicas`; never more than there are replicas.
    pub fn set_min_insync_replicas(&mut self, min: usize) {
        self.min_insync_replicas = min;
    }

    /// Whether an `acks=all` batch may be appended at all (else `NOT_ENOUGH_REPLICAS`).
    pub fn has_enough_replicas(&self) -> bool {
        self.in_sync.len() >= self.min_insync_replicas
    }

    /// Notes how far a replica vouches and returns the high watermark: the smallest of the in-sync replicas' ends. It
    /// never moves back, and does not move while fewer than `min.insync.replicas` are in sync (KIP-966).
    pub fn replica_reached(&mut self, replica: BrokerId, end_offset: Offset) -> Offset {
        if let Some(known) = self.in_sync.get_mut(&replica) {
            *known = (*known).max(end_offset);
        }
        if self.has_enough_replicas()
            && let Some(smallest) = self.in_sync.values().min()
        {
            self.high_watermark = self.high_watermark.max(*smallest);
        }
        self.high_watermark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_watermark_is_the_smallest_end_of_the_in_sync_replicas_and_never_moves_back() {
        let mut state = LeaderState::new([BrokerId(1), BrokerId(2)], 1, 5);
        assert_eq!(state.replica_reached(BrokerId(1), 10), 5);
        assert_eq!(state.replica_reached(BrokerId(2), 8), 8);
        assert_eq!(state.replica_reached(BrokerId(2), 7), 8);
        assert_eq!(
            state.replica_reached(BrokerId(9), 99),
            8,
            "a stranger does not count"
        );
    }

    #[test]
    fn it_stands_still_while_too_few_replicas_are_in_sync() {
        let mut state = LeaderState::new([BrokerId(1)], 2, 0);
        assert!(!state.has_enough_replicas());
        assert_eq!(state.replica_reached(BrokerId(1), 10), 0);
        state.set_min_insync_replicas(1);
        assert_eq!(state.replica_reached(BrokerId(1), 10), 10);
    }
}
