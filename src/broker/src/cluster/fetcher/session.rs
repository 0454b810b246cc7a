//! A fetch session (KIP-227) from the follower's side: the positions that the leader knows.

use std::collections::{HashMap, HashSet};

use strandline_types::{LeaderEpoch, Offset, TopicIdPartition};

/// The state of this fetch session, as the leader knows it.
#[derive(Default)]
pub(super) struct Session {
    pub id: i32,
    /// 0 begins a session.
    pub epoch: i32,
    pub told: HashMap<TopicIdPartition, Position>,
    /// Partitions whose positions may have changed since.
    pub changed: HashSet<TopicIdPartition>,
    /// All positions may have changed.
    pub all_changed: bool,
}

/// Where this replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub leader_epoch: LeaderEpoch,
    pub offset: Offset,
    pub last_epoch: Option<LeaderEpoch>,
    pub log_start: Offset,
}

/// The changes that one request tells the leader.
#[derive(Default)]
pub(super) struct Telling {
    pub positions: Vec<(TopicIdPartition, Position)>,
    pub forgotten: Vec<TopicIdPartition>,
}

impl Session {
    /// Notes that the leader has answered a request.
    pub(super) fn note(&mut self, telling: Telling, id: i32) {
        if self.epoch == 0 {
            self.id = id;
        }
        if self.id == 0 {
            // The leader keeps no session for this follower: every request names all positions.
            self.all_changed = true;
            self.told.clear();
            self.told.extend(telling.positions);
            return;
        }
        self.epoch = if self.epoch == i32::MAX {
            1
        } else {
            self.epoch + 1
        };
        for id in telling.forgotten {
            self.told.remove(&id);
        }
        self.told.extend(telling.positions);
    }
}
