//! Chooses the partitions of the next request to the leader: positions that have changed, and partitions to leave out.

use std::time::{Duration, Instant};

use strandline_types::{BrokerId, TopicIdPartition};

use super::round::Fetcher;
use super::session::{Position, Telling};
use crate::context::BrokerContext;
use crate::partition::Partition;

/// Before a partition is asked for again whose disk is full.
const FULL_BACKOFF: Duration = Duration::from_millis(250);

impl Fetcher {
    /// Positions that the leader does not know yet, and partitions that the leader must leave out for now.
    pub(super) fn what_to_tell(&mut self) -> Telling {
        let now = Instant::now();
        let session = &mut self.session;
        self.backoff.retain(|id, until| {
            let waits = *until > now;
            if !waits {
                session.changed.insert(*id);
            }
            waits
        });
        let mut telling = Telling::default();
        let candidates: Vec<TopicIdPartition> = if session.all_changed {
            let known = session
                .told
                .keys()
                .filter(|id| !self.followed.contains_key(id));
            telling.forgotten.extend(known);
            self.followed.keys().copied().collect()
        } else {
            session.changed.iter().copied().collect()
        };
        session.all_changed = false;
        session.changed.clear();
        for id in candidates {
            let partition = self.followed.get(&id).filter(|p| !p.is_offline());
            let Some(partition) = partition.filter(|_| !self.backoff.contains_key(&id)) else {
                if session.told.contains_key(&id) {
                    telling.forgotten.push(id);
                }
                continue;
            };
            if !partition.has_room() {
                self.backoff.insert(id, now + FULL_BACKOFF);
                if session.told.contains_key(&id) {
                    telling.forgotten.push(id);
                }
                continue;
            }
            let throttle = &self.context.follower_throttle;
            if is_throttled(&self.context, partition)
                && let Some(wait) = throttle.wait(now)
            {
                self.backoff.insert(id, now + wait);
                if session.told.contains_key(&id) {
                    telling.forgotten.push(id);
                }
                continue;
            }
            match position(partition, self.leader) {
                Some(position) if session.told.get(&id) != Some(&position) => {
                    telling.positions.push((id, position));
                }
                Some(_) => {}
                None => {
                    session.changed.insert(id);
                }
            }
        }
        telling
    }
}

/// Named by `follower.replication.throttled.replicas`, and not in sync.
pub(super) fn is_throttled(context: &BrokerContext, partition: &Partition) -> bool {
    let own = BrokerId(context.node_id());
    let number = partition.topic_partition.partition;
    let config = partition.config();
    let named = &config.follower_replication_throttled_replicas;
    named.contains(number, own) && !context.is_in_sync(partition.id(), own)
}

/// The replica's position. `None` while its end is not yet on disk, or another broker leads.
fn position(partition: &Partition, leader: BrokerId) -> Option<Position> {
    let role = partition.role();
    let view = partition.view();
    let flushes = partition.config().flush_messages == 1;
    let durable = !flushes || view.flushed_offset >= view.log_end_offset;
    (role.leader == Some(leader) && durable).then(|| Position {
        leader_epoch: role.leader_epoch,
        offset: view.log_end_offset,
        last_epoch: view.epochs.epoch_of(view.log_end_offset - 1),
        log_start: view.log_start_offset,
    })
}
