//! The fetch request of a round.

use std::collections::BTreeMap;

use kafka_protocol::messages as m;
use kafka_protocol::messages::fetch_request::{
    FetchPartition, FetchTopic, ForgottenTopic, ReplicaState,
};
use strandline_types::TopicId;

use super::round::{BACKOFF, Fetcher};
use super::session::Telling;

impl Fetcher {
    pub(super) fn request(&self, telling: &Telling) -> m::FetchRequest {
        let config = self.context.config();
        let max_bytes = config.number("replica.fetch.max.bytes") as i32;
        let mut topics: BTreeMap<TopicId, Vec<FetchPartition>> = BTreeMap::new();
        for (id, position) in &telling.positions {
            let wanted = FetchPartition::default()
                .with_partition(id.partition)
                .with_current_leader_epoch(position.leader_epoch.0)
                .with_fetch_offset(position.offset)
                .with_last_fetched_epoch(position.last_epoch.map_or(-1, |e| e.0))
                .with_log_start_offset(position.log_start)
                .with_partition_max_bytes(max_bytes);
            topics.entry(id.topic_id).or_default().push(wanted);
        }
        let topics = topics.into_iter().map(|(id, partitions)| {
            FetchTopic::default()
                .with_topic_id(id.0)
                .with_partitions(partitions)
        });
        let mut forgotten: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for id in &telling.forgotten {
            forgotten.entry(id.topic_id).or_default().push(id.partition);
        }
        let forgotten = forgotten.into_iter().map(|(id, partitions)| {
            ForgottenTopic::default()
                .with_topic_id(id.0)
                .with_partitions(partitions)
        });
        let replica = ReplicaState::default()
            .with_replica_id(m::BrokerId(self.context.node_id()))
            .with_replica_epoch(self.context.broker_epoch().0);
        // Partitions that are left alone, or wait for the disk, are looked at again soon.
        let waits_for_nobody = self.backoff.is_empty() && self.session.changed.is_empty();
        let max_wait = config.number("replica.fetch.wait.max.ms");
        let max_wait = if waits_for_nobody {
            max_wait
        } else {
            max_wait.min(BACKOFF.as_millis() as i64)
        };
        m::FetchRequest::default()
            .with_replica_state(replica)
            .with_max_wait_ms(max_wait as i32)
            .with_min_bytes(config.number("replica.fetch.min.bytes") as i32)
            .with_max_bytes(config.number("replica.fetch.response.max.bytes") as i32)
            .with_session_id(self.session.id)
            .with_session_epoch(self.session.epoch)
            .with_topics(topics.collect())
            .with_forgotten_topics_data(forgotten.collect())
    }
}
