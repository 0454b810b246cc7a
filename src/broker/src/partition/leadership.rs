//! Leading and following: the role that the metadata gives a replica, the positions of followers, wishes for the ISR.

use std::sync::Arc;
use std::time::Instant;

use strandline_metadata::RemoteLogImage;
use strandline_replication::{IsrWish, LeaderState, Leadership};
use strandline_types::{BrokerId, LeaderEpoch, Mutant, Offset, is_mutant};
use strandline_wire::ErrorCode;
use tokio::sync::oneshot;

use super::handle::{Partition, ReplicaFetch, Role};
use super::owned::{OwnedPartition, not_leader};
use crate::clock::monotonic;

/// A leader's wish about its ISR, on its way to the controller.
#[derive(Debug)]
pub struct IsrRequest {
    pub partition: Arc<Partition>,
    pub wish: IsrWish,
}

/// The role that the metadata assigns to this replica.
#[derive(Clone, Debug)]
pub enum Assignment {
    /// The cold tier of the same image comes along. Its image has all copies of earlier leaders, because only the
    /// current leader epoch may finish a copy.
    Lead(Leadership, Option<Arc<RemoteLogImage>>),
    Follow {
        leader: Option<BrokerId>,
        leader_epoch: LeaderEpoch,
    },
}

/// The role of this replica and its state.
pub(super) enum ReplicaState {
    Leader(LeaderState),
    Follower(Followed),
}

/// The state of the leader as of its last answer.
#[derive(Clone, Copy)]
pub(super) struct Followed {
    pub high_watermark: Offset,
    /// Where the leader's log starts. This log follows as far as its own high watermark allows.
    pub log_start_offset: Offset,
    pub leader_epoch: LeaderEpoch,
}

impl Followed {
    /// Before any answer.
    pub fn nothing(high_watermark: Offset) -> Self {
        Self {
            high_watermark,
            log_start_offset: 0,
            leader_epoch: LeaderEpoch(-1),
        }
    }
}

impl OwnedPartition {
    fn min_insync_replicas(&self) -> usize {
        self.handle.config().min_insync_replicas.max(1) as usize
    }

    /// Takes over the role that the metadata assigns to this replica.
    pub fn assign(&mut self, assignment: Assignment) {
        let now = monotonic();
        let min = self.min_insync_replicas();
        match assignment {
            Assignment::Lead(leadership, remote) => match &mut self.state {
                ReplicaState::Leader(state) if state.leader_epoch() == leadership.leader_epoch => {
                    state.set_min_insync_replicas(min);
                    state.update(leadership, now);
                }
                _ => {
                    self.fail_waiting(&not_leader());
                    // A new leadership comes from a live controller.
                    self.aside = false;
                    self.take_over(leadership, remote.as_deref());
                }
            },
            Assignment::Follow {
                leader,
                leader_epoch,
            } => {
                self.fail_waiting(&not_leader());
                self.aside = false;
                self.forget_takeover();
                self.stop_leading();
                if is_mutant(Mutant::TruncateToHighWatermark)
                    && self.handle.leader_epoch() != leader_epoch
                {
                    let _ = self.change_log(|log| log.truncate(log.high_watermark()));
                }
                self.publish_role(Role {
                    leader,
                    leader_epoch,
                    is_leader: false,
                    enough_in_sync: false,
                });
            }
        }
    }

    /// Leads from the current end of the log on.
    pub(super) fn lead(&mut self, leadership: Leadership) {
        self.led_since = Instant::now();
        self.log.start_leader_epoch(leadership.leader_epoch);
        self.state = ReplicaState::Leader(LeaderState::new(
            self.node_id,
            leadership,
            self.min_insync_replicas(),
            self.log.log_end_offset(),
            self.log.high_watermark(),
            monotonic(),
        ));
    }

    pub(super) fn stop_leading(&mut self) {
        if matches!(self.state, ReplicaState::Leader(_)) {
            let high_watermark = self.log.high_watermark();
            self.state = ReplicaState::Follower(Followed::nothing(high_watermark));
        }
    }

    pub(super) fn publish_role(&self, role: Role) {
        if *self.handle.role() != role {
            self.handle.set_role(role);
        }
    }

    /// Readers must find a leader's log before they find the leader.
    pub(super) fn publish_leadership(&self) {
        if let ReplicaState::Leader(state) = &self.state
            && !self.aside
        {
            self.publish_role(Role {
                leader: Some(self.node_id),
                leader_epoch: state.leader_epoch(),
                is_leader: true,
                enough_in_sync: state.has_enough_replicas(),
            });
        }
    }

    pub(super) fn replica_fetched(&mut self, fetch: &ReplicaFetch) {
        let end = self.log.log_end_offset();
        let ReplicaState::Leader(state) = &mut self.state else {
            return;
        };
        if state.leader_epoch() != fetch.leader_epoch {
            return;
        }
        let (before, now) = (state.high_watermark(), monotonic());
        let after =
            state.follower_fetched(fetch.replica, fetch.broker_epoch, fetch.offset, end, now);
        state.follower_starts_at(fetch.replica, fetch.broker_epoch, fetch.log_start_offset);
        if after > before {
            self.advance();
        } else {
            self.answer_deletions();
        }
        // A replica that joins should not wait for the next look at lags.
        if !self.is_in_sync(fetch.replica) {
            self.review_isr(i64::MAX);
        }
    }

    /// Deletes records below `to`, durably here. The receiver gets a value when every in-sync replica has deleted them,
    /// too. The channel closes if this broker stops leading before.
    pub fn delete_records(&mut self, to: Offset) -> Result<oneshot::Receiver<Offset>, ErrorCode> {
        if self.aside || !matches!(self.state, ReplicaState::Leader(_)) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let handle = self.handle.clone();
        self.change_log(|log| log.advance_log_start(to)).map_err(|error| {
            tracing::error!(partition = %handle.topic_partition, %error, "records were not deleted");
            ErrorCode::KafkaStorageError
        })?;
        Ok(self.deletions.wait(to))
    }

    pub(super) fn answer_deletions(&mut self) {
        if let ReplicaState::Leader(state) = &self.state
            && !self.deletions.is_empty()
            && let Some(low_watermark) = state.low_watermark(self.log.log_start_offset())
        {
            self.deletions.reached(low_watermark);
        }
    }

    fn is_in_sync(&self, id: BrokerId) -> bool {
        matches!(&self.state, ReplicaState::Leader(state) if state.isr().contains(&id))
    }

    /// Asks the controller for another ISR where replicas have fallen behind by more than `max_lag_ms` or caught up.
    pub fn review_isr(&mut self, max_lag_ms: i64) {
        let ReplicaState::Leader(state) = &mut self.state else {
            return;
        };
        state.local_starts_at(self.log.log_start_offset());
        if let Some(wish) = state.wish(monotonic(), max_lag_ms) {
            let partition = self.handle.clone();
            let _ = self.isr_requests.send(IsrRequest { partition, wish });
        }
    }

    /// `min.insync.replicas` may have changed.
    pub fn configuration_changed(&mut self) {
        let min = self.min_insync_replicas();
        if let ReplicaState::Leader(state) = &mut self.state {
            state.set_min_insync_replicas(min);
        }
    }

    /// The controller refused a wish.
    pub fn isr_wish_refused(&mut self, partition_epoch: i32) {
        if let ReplicaState::Leader(state) = &mut self.state {
            state.wish_refused(partition_epoch);
        }
    }

    /// Whether a wish was granted is not known; it is made again.
    pub fn isr_wish_unanswered(&mut self, partition_epoch: i32) {
        if let ReplicaState::Leader(state) = &mut self.state {
            state.wish_unanswered(partition_epoch);
        }
        self.review_isr(i64::MAX);
    }

    /// Whether every in-sync follower has fetched within `max_silence_ms`; then no other broker can be leading.
    pub fn hears_from_followers(&self, max_silence_ms: i64) -> bool {
        match &self.state {
            ReplicaState::Leader(state) => state.hears_from_followers(monotonic(), max_silence_ms),
            ReplicaState::Follower(_) => true,
        }
    }

    /// Stops leading without waiting for the metadata, as long as `aside`: the controller has not answered for too
    /// long, and another broker may lead by now.
    pub fn step_aside(&mut self, aside: bool) {
        self.aside = aside;
        if aside {
            self.fail_waiting(&not_leader());
            let role = *self.handle.role();
            self.publish_role(Role {
                is_leader: false,
                enough_in_sync: false,
                ..role
            });
        }
    }
}
