//! The coordinators of groups, on partitions of `__consumer_offsets`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strandline_coordinator::{
    CoordinatorRecord, GroupConfig, GroupCoordinator, Outcome, PendingAppend, Reply,
};
use strandline_metadata::config::BrokerConfig;
use strandline_types::{MonotonicMs, Now};
use strandline_wire::ErrorCode;

use super::machine::{KeyValue, Machine, Token, Turn};
use super::table::Coordinators;
use crate::clock::now_ms;
use crate::partition::Partition;

/// All group coordinators of this broker.
pub type Groups = Coordinators<GroupCoordinator>;

/// Kafka's choice of the partition that keeps a group: the absolute value of Java's string hash, modulo.
pub fn partition_for(group: &str, partitions: i32) -> i32 {
    let hash = group
        .encode_utf16()
        .fold(0i32, |h, c| h.wrapping_mul(31).wrapping_add(i32::from(c)));
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

pub fn group_config(broker: &BrokerConfig) -> GroupConfig {
    GroupConfig {
        min_session_timeout_ms: broker.number("group.min.session.timeout.ms") as i32,
        max_session_timeout_ms: broker.number("group.max.session.timeout.ms") as i32,
        initial_rebalance_delay_ms: broker.number("group.initial.rebalance.delay.ms"),
        max_size: broker.number("group.max.size").max(1) as usize,
        offset_metadata_max_bytes: broker.number("offset.metadata.max.bytes").max(0) as usize,
        offsets_retention_ms: broker.number("offsets.retention.minutes") * 60_000,
    }
}

impl Groups {
    /// Starts and ends coordinators for the partitions that the metadata gives this broker to lead. Does not wait.
    pub fn follow_partitions(&self, led: &[Arc<Partition>], broker: &BrokerConfig) {
        let interval = broker.number("offsets.retention.check.interval.ms").max(1);
        let config = group_config(broker);
        self.follow(led, Duration::from_millis(interval as u64), move || {
            GroupCoordinator::new(config)
        });
    }

    /// Runs a command on the coordinator of `partition` and waits for its answer, however long the group takes.
    pub async fn ask(
        &self,
        partition: i32,
        command: impl FnOnce(&mut GroupCoordinator, Token, Now) -> Outcome + Send + 'static,
    ) -> Result<Reply, ErrorCode> {
        let command = |groups: &mut GroupCoordinator, token, now| turn(command(groups, token, now));
        self.command(partition, command).await
    }
}

fn turn(outcome: Outcome) -> Turn<GroupCoordinator> {
    Turn {
        replies: outcome.replies,
        appends: outcome.appends,
    }
}

impl Machine for GroupCoordinator {
    type Reply = Reply;
    type Append = PendingAppend;

    fn load(&mut self, key: &Bytes, value: Option<&Bytes>, now: Now) -> Result<(), String> {
        let record = CoordinatorRecord::decode(key, value).map_err(|e| e.to_string())?;
        GroupCoordinator::load(self, record, now);
        Ok(())
    }

    fn finish_load(&mut self) {
        GroupCoordinator::finish_load(self);
    }

    fn records(append: &PendingAppend) -> Vec<KeyValue> {
        append
            .records
            .iter()
            .map(CoordinatorRecord::encode)
            .collect()
    }

    fn committed(&mut self, append: PendingAppend, now: Now) -> Turn<Self> {
        turn(GroupCoordinator::committed(self, append, now))
    }

    fn failed(&mut self, append: PendingAppend, error: ErrorCode, now: Now) -> Turn<Self> {
        turn(GroupCoordinator::failed(self, append, error, now))
    }

    fn next_deadline(&self) -> Option<MonotonicMs> {
        GroupCoordinator::next_deadline(self)
    }

    fn tick(&mut self, now: Now) -> Turn<Self> {
        turn(GroupCoordinator::tick(self, now))
    }

    fn upkeep(&mut self) -> Turn<Self> {
        turn(self.expire_offsets(now_ms()))
    }

    fn topic_deleted(&mut self, topic: &str) -> Turn<Self> {
        turn(self.forget_topic(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_spread_as_kafka_spreads_them() {
        // "g".hashCode() is 103; "zzzzzz".hashCode() is -685785664.
        assert_eq!(partition_for("g", 50), 3);
        assert_eq!(partition_for("", 50), 0);
        assert_eq!(partition_for("zzzzzz", 1000), 664);
    }
}
