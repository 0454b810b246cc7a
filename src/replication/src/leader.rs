//! A leader's knowledge of its followers: the high watermark, and who should be in sync.

use std::collections::BTreeMap;

use strandline_types::{BrokerEpoch, BrokerId, LeaderEpoch, MonotonicMs, Offset};

/// A replica as the metadata describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    pub id: BrokerId,
    /// The epoch of the broker's registered incarnation.
    pub broker_epoch: BrokerEpoch,
    /// Whether the replica may join the ISR: its broker is neither fenced nor shutting down, and its disk has not
    /// failed.
    pub is_eligible: bool,
}

/// A partition as the metadata gives it to its leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub isr: Vec<BrokerId>,
    /// All replicas, the leader included.
    pub replicas: Vec<Replica>,
    /// Elected uncleanly, and not yet reported as recovered.
    pub recovering: bool,
}

/// An in-sync set that the leader asks the controller for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrWish {
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub new_isr: Vec<(BrokerId, BrokerEpoch)>,
    pub recovered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Follower {
    /// End of its log as far as it vouches for it; −1 before its first fetch.
    end_offset: Offset,
    /// Where the follower's log starts, durably; −1 before the follower has reported it.
    log_start_offset: Offset,
    /// The broker epoch of the incarnation that fetched last.
    broker_epoch: BrokerEpoch,
    /// `None` before its first fetch.
    last_fetch: Option<MonotonicMs>,
    /// End of the leader's log at that fetch.
    leader_end_at_fetch: Offset,
    /// Never `None` for a member of the ISR.
    last_caught_up: Option<MonotonicMs>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pending {
    wish: IsrWish,
    /// The answer was lost: ask the same again.
    again: bool,
}

/// Where the replicas of a partition stand, as its leader knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderState {
    local: BrokerId,
    leadership: Leadership,
    /// End of the log when this leader epoch began.
    epoch_start_offset: Offset,
    /// End of the local log as far as this replica vouches for it: flushed where the topic flushes before it
    /// acknowledges.
    vouched: Offset,
    followers: BTreeMap<BrokerId, Follower>,
    /// The wish that the controller has not answered yet.
    pending: Option<Pending>,
    min_insync_replicas: usize,
    high_watermark: Offset,
    /// Where the leader's own log starts.
    log_start_offset: Offset,
}

impl LeaderState {
    /// Begins to lead. Members of the ISR count as caught up now, so that a new leader gives each the full time.
    pub fn new(
        local: BrokerId,
        leadership: Leadership,
        min_insync_replicas: usize,
        log_end_offset: Offset,
        high_watermark: Offset,
        now: MonotonicMs,
    ) -> Self {
        let mut state = Self {
            local,
            leadership,
            epoch_start_offset: log_end_offset,
            vouched: high_watermark,
            followers: BTreeMap::new(),
            pending: None,
            min_insync_replicas,
            high_watermark,
            log_start_offset: 0,
        };
        state.keep_followers(now);
        state
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leadership.leader_epoch
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// The committed ISR.
    pub fn isr(&self) -> &[BrokerId] {
        &self.leadership.isr
    }

    pub fn set_min_insync_replicas(&mut self, min: usize) {
        self.min_insync_replicas = min;
    }

    /// Effective `min.insync.replicas`: never more than there are replicas.
    pub fn min_isr(&self) -> usize {
        self.min_insync_replicas
            .min(self.leadership.replicas.len())
            .max(1)
    }

    /// Whether an `acks=all` batch may be appended at all (else `NOT_ENOUGH_REPLICAS`).
    pub fn has_enough_replicas(&self) -> bool {
        self.leadership.isr.len() >= self.min_isr()
    }

    /// Whether a batch that the high watermark has passed may be acknowledged (else
    /// `NOT_ENOUGH_REPLICAS_AFTER_APPEND`).
    pub fn has_enough_acknowledgements(&self) -> bool {
        self.maximal_isr().count() >= self.min_isr()
    }

    /// Takes over a newer state of the same leadership: a wish was granted, or a broker was fenced.
    pub fn update(&mut self, leadership: Leadership, now: MonotonicMs) {
        if leadership.partition_epoch > self.leadership.partition_epoch {
            self.pending = None;
        }
        self.leadership = leadership;
        self.keep_followers(now);
    }

    fn keep_followers(&mut self, now: MonotonicMs) {
        let replicas = &self.leadership.replicas;
        self.followers
            .retain(|id, _| replicas.iter().any(|r| r.id == *id));
        for replica in replicas.iter().filter(|r| r.id != self.local) {
            let in_sync = self.leadership.isr.contains(&replica.id);
            let follower = self.followers.entry(replica.id).or_insert(Follower {
                end_offset: -1,
                log_start_offset: -1,
                broker_epoch: BrokerEpoch(-1),
                last_fetch: None,
                leader_end_at_fetch: Offset::MAX,
                last_caught_up: None,
            });
            if in_sync {
                // A member of the ISR has the full time from the moment it became one.
                follower.last_caught_up.get_or_insert(now);
            }
        }
    }

    /// The committed ISR and the replicas that a pending wish adds: the high watermark waits for all of them, because
    /// the controller may have added them already.
    fn maximal_isr(&self) -> impl Iterator<Item = BrokerId> + '_ {
        let wished = self.pending.iter().flat_map(|p| &p.wish.new_isr);
        let added = wished.map(|(id, _)| id);
        let added = added.filter(|id| !self.leadership.isr.contains(id));
        self.leadership.isr.iter().chain(added).copied()
    }

    /// Notes how far the local log is vouched for; returns the high watermark.
    pub fn local_reached(&mut self, vouched: Offset) -> Offset {
        self.vouched = self.vouched.max(vouched);
        self.advance();
        self.high_watermark
    }

    /// Notes a follower's fetch from `offset`, which vouches for everything below; returns the high watermark.
    pub fn follower_fetched(
        &mut self,
        id: BrokerId,
        broker_epoch: BrokerEpoch,
        offset: Offset,
        log_end_offset: Offset,
        now: MonotonicMs,
    ) -> Offset {
        let Some(follower) = self.followers.get_mut(&id) else {
            return self.high_watermark;
        };
        if broker_epoch < follower.broker_epoch {
            return self.high_watermark;
        }
        if offset >= log_end_offset {
            follower.last_caught_up = Some(now);
        } else if offset >= follower.leader_end_at_fetch {
            // The follower has every record that the leader had at the previous fetch, so it was caught up at that
            // time.
            follower.last_caught_up = follower.last_caught_up.max(follower.last_fetch);
        }
        follower.end_offset = offset;
        follower.broker_epoch = broker_epoch;
        follower.last_fetch = Some(now);
        follower.leader_end_at_fetch = log_end_offset;
        self.advance();
        self.high_watermark
    }

    /// Notes where a follower says that its log starts.
    pub fn follower_starts_at(
        &mut self,
        id: BrokerId,
        broker_epoch: BrokerEpoch,
        log_start_offset: Offset,
    ) {
        if let Some(follower) = self.followers.get_mut(&id)
            && broker_epoch >= follower.broker_epoch
        {
            follower.log_start_offset = log_start_offset;
        }
    }

    /// Notes where the leader's own log starts.
    pub fn local_starts_at(&mut self, log_start_offset: Offset) {
        self.log_start_offset = log_start_offset;
    }

    /// The smallest log start of the replicas that may lead next; `local` is the log start of this replica. Records
    /// below the low watermark are deleted for good. `None` while fewer than `min.insync.replicas` are in sync: a replica
    /// that has left the ISR may then lead next (KIP-966), and its log may start lower.
    pub fn low_watermark(&self, local: Offset) -> Option<Offset> {
        if !self.has_enough_replicas() {
            return None;
        }
        let starts = self.maximal_isr().map(|id| {
            if id == self.local {
                local
            } else {
                self.followers.get(&id).map_or(-1, |f| f.log_start_offset)
            }
        });
        Some(starts.min().unwrap_or(local).min(local))
    }

    /// Advances the high watermark to the smallest end offset of the in-sync replicas. The high watermark never moves
    /// back, and stays where it is while fewer than `min.insync.replicas` are in sync (KIP-966).
    fn advance(&mut self) {
        if !self.has_enough_replicas() {
            return;
        }
        let end = |id: BrokerId| {
            if id == self.local {
                self.vouched
            } else {
                self.followers.get(&id).map_or(-1, |f| f.end_offset)
            }
        };
        if let Some(smallest) = self.maximal_isr().map(end).min() {
            self.high_watermark = self.high_watermark.max(smallest);
        }
    }

    /// Whether replica `id` may join the ISR: the metadata knows its incarnation, it may lead, and it has every
    /// committed record and every record from before this leader (KIP-841, KIP-903). Its log starts no lower than this
    /// one: leading next, it would bring deleted records back.
    fn may_join(&self, id: BrokerId) -> bool {
        let Some(replica) = self.leadership.replicas.iter().find(|r| r.id == id) else {
            return false;
        };
        let Some(follower) = self.followers.get(&id) else {
            return false;
        };
        replica.is_eligible
            && follower.broker_epoch == replica.broker_epoch
            && follower.end_offset >= self.high_watermark
            && follower.end_offset >= self.epoch_start_offset
            // A follower that has not told it yet may start at 0.
            && follower.log_start_offset.max(0) >= self.log_start_offset
    }

    /// The in-sync set to ask the controller for, if it is another than now; nothing while an answer is outstanding.
    pub fn wish(&mut self, now: MonotonicMs, max_lag_ms: i64) -> Option<IsrWish> {
        if let Some(pending) = &mut self.pending {
            let again = std::mem::replace(&mut pending.again, false);
            return again.then(|| pending.wish.clone());
        }
        let recovered = self.leadership.recovering;
        let lags = |id: BrokerId| {
            let caught_up = self.followers.get(&id).and_then(|f| f.last_caught_up);
            caught_up.is_none_or(|at| now.ms_since(at) > max_lag_ms)
        };
        let mut isr: Vec<BrokerId> = self
            .leadership
            .isr
            .iter()
            .filter(|id| **id == self.local || !lags(**id))
            .copied()
            .collect();
        let joining = self.leadership.replicas.iter().map(|r| r.id);
        // A leader that is still recovering reports its recovery first; others join with the next wish.
        let joining = joining.filter(|id| !recovered && !self.leadership.isr.contains(id));
        isr.extend(joining.filter(|id| *id != self.local && self.may_join(*id)));
        if isr == self.leadership.isr && !recovered {
            return None;
        }
        let epoch_of = |id: BrokerId| {
            let replica = self.leadership.replicas.iter().find(|r| r.id == id);
            replica.map_or(BrokerEpoch(-1), |r| r.broker_epoch)
        };
        let wish = IsrWish {
            leader_epoch: self.leadership.leader_epoch,
            partition_epoch: self.leadership.partition_epoch,
            new_isr: isr.iter().map(|id| (*id, epoch_of(*id))).collect(),
            recovered,
        };
        self.pending = Some(Pending {
            wish: wish.clone(),
            again: false,
        });
        Some(wish)
    }

    /// The controller refused a wish, knowing the same state as this leader: the committed set holds.
    pub fn wish_refused(&mut self, partition_epoch: i32) {
        if self.leadership.partition_epoch == partition_epoch {
            self.pending = None;
        }
    }

    /// The answer to a wish was lost. The wish may have been granted, so a replica that it adds counts as in sync until
    /// the controller has answered again.
    pub fn wish_unanswered(&mut self, partition_epoch: i32) {
        if self.leadership.partition_epoch == partition_epoch
            && let Some(pending) = &mut self.pending
        {
            pending.again = true;
        }
    }

    /// Whether every other member of the ISR has fetched within `max_silence_ms`: as long as they fetch here, none of
    /// them knows another leader.
    pub fn hears_from_followers(&self, now: MonotonicMs, max_silence_ms: i64) -> bool {
        self.leadership
            .isr
            .iter()
            .filter(|id| **id != self.local)
            .all(|id| {
                self.followers
                    .get(id)
                    .and_then(|f| f.last_fetch)
                    .is_some_and(|at| now.ms_since(at) <= max_silence_ms)
            })
    }
}

/// Whether clients may learn where the log ends. A new leader's high watermark may be lower than one that clients have
/// seen, until it has passed the beginning of the leader's epoch: `last_epoch` of the log and where it begins
/// (KIP-207).
pub fn end_is_known(
    leader_epoch: LeaderEpoch,
    last_epoch: Option<(LeaderEpoch, Offset)>,
    high_watermark: Offset,
) -> bool {
    let began = last_epoch.filter(|(epoch, _)| *epoch == leader_epoch);
    began.is_none_or(|(_, start)| high_watermark >= start)
}
