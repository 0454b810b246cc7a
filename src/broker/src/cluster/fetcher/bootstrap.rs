//! A new beginning where the leader's log begins: earlier records are deleted, or in the cold tier.

use std::sync::Arc;

use kafka_protocol::messages as m;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use strandline_client::Connection;
use strandline_types::{EpochStart, Offset};
use strandline_wire::special_timestamp::EARLIEST_LOCAL;
use strandline_wire::{ApiKey, ErrorCode, text};

use super::answer::Asked;
use super::round::Fetcher;
use super::truncation::{Cut, Truncation};
use crate::partition::Partition;
use crate::tier::state_at;

/// First version that knows the special timestamp −4.
const LIST_OFFSETS_VERSION: i16 = 8;
/// First flexible version of `OffsetForLeaderEpoch`.
const OFFSET_FOR_LEADER_EPOCH_VERSION: i16 = 4;

impl Fetcher {
    /// Follows a leader whose log does not reach to where this one ends: that part of the leader's log is deleted or in the
    /// cold tier, or its log ends before this one does.
    pub(super) async fn begin_again(
        &self,
        one: &Asked,
        code: ErrorCode,
        answer: &PartitionData,
        open: &mut Connection,
    ) -> Result<(), String> {
        let log_start = answer.log_start_offset;
        let ends_before = one.partition.view().log_end_offset < log_start;
        if ends_before || code == ErrorCode::OffsetMovedToTieredStorage {
            let begun = self.begin_where_leader_begins(one, log_start, open).await;
            self.write_checkpoints().await;
            return begun;
        }
        // No epoch shows where the two logs diverge: the leader was elected uncleanly, on an empty disk, and has fewer
        // records than the others. Kafka truncates to the leader's end, too.
        let end = self.leaders_end(one, open).await?;
        let cut = Truncation {
            one: one.clone(),
            cut: Cut::Offset(end),
            leaders_log_start: log_start,
        };
        self.truncate(vec![cut], open).await;
        Ok(())
    }

    /// Begins again, empty, where the leader's local log begins. The records before are deleted, or in the cold tier;
    /// lineage and producer state then come from there. The caller writes the checkpoints.
    pub(super) async fn begin_where_leader_begins(
        &self,
        one: &Asked,
        log_start: Offset,
        open: &mut Connection,
    ) -> Result<(), String> {
        let partition = &one.partition;
        let start = self.leaders_local_start(one, open).await?;
        let (epochs, producers) = if start > log_start {
            self.cold_state(partition, start).await?
        } else {
            (Vec::new(), strandline_log::ProducerState::default())
        };
        let epoch = one.leader_epoch;
        let begun = partition
            .run(move |owned| {
                if owned.handle.leader_epoch() != epoch || owned.handle.is_leader() {
                    return Ok(());
                }
                owned.start_behind_cold_tier(start, log_start.min(start), epochs, producers)
            })
            .await;
        begun
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
        tracing::info!(partition = %partition.topic_partition, start, log_start, "the log begins again where the leader's log begins");
        Ok(())
    }

    /// The end of the leader's log: its current epoch ends there.
    async fn leaders_end(&self, one: &Asked, open: &mut Connection) -> Result<Offset, String> {
        let tp = &one.partition.topic_partition;
        let wanted = OffsetForLeaderPartition::default()
            .with_partition(tp.partition)
            .with_current_leader_epoch(one.leader_epoch.0)
            .with_leader_epoch(one.leader_epoch.0);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(m::TopicName(text(tp.topic.to_string())))
            .with_partitions(vec![wanted]);
        let request = m::OffsetForLeaderEpochRequest::default()
            .with_replica_id(m::BrokerId(self.context.node_id()))
            .with_topics(vec![topic]);
        let response: m::OffsetForLeaderEpochResponse = open
            .call(
                ApiKey::OffsetForLeaderEpoch,
                OFFSET_FOR_LEADER_EPOCH_VERSION,
                &request,
            )
            .await
            .map_err(|e| e.to_string())?;
        let answer = response.topics.iter().flat_map(|t| &t.partitions).next();
        match answer {
            Some(found) if found.error_code == 0 && found.end_offset >= 0 => Ok(found.end_offset),
            Some(found) => Err(format!(
                "end of the leader's log: error {}, offset {}",
                found.error_code, found.end_offset
            )),
            None => Err("end of the leader's log: no answer".into()),
        }
    }

    async fn leaders_local_start(
        &self,
        one: &Asked,
        open: &mut Connection,
    ) -> Result<Offset, String> {
        let tp = &one.partition.topic_partition;
        let wanted = ListOffsetsPartition::default()
            .with_partition_index(tp.partition)
            .with_current_leader_epoch(one.leader_epoch.0)
            .with_timestamp(EARLIEST_LOCAL);
        let topic = ListOffsetsTopic::default()
            .with_name(m::TopicName(text(tp.topic.to_string())))
            .with_partitions(vec![wanted]);
        let request = m::ListOffsetsRequest::default()
            .with_replica_id(m::BrokerId(self.context.node_id()))
            .with_topics(vec![topic]);
        let response: m::ListOffsetsResponse = open
            .call(ApiKey::ListOffsets, LIST_OFFSETS_VERSION, &request)
            .await
            .map_err(|e| e.to_string())?;
        let answer = response.topics.iter().flat_map(|t| &t.partitions).next();
        match answer {
            Some(found) if found.error_code == 0 => Ok(found.offset),
            Some(refused) => Err(format!("local start: error {}", refused.error_code)),
            None => Err("local start: no answer".into()),
        }
    }

    /// Lineage and producers as of `offset`, from the side object of the segment that holds the offset before.
    async fn cold_state(
        &self,
        partition: &Arc<Partition>,
        offset: Offset,
    ) -> Result<(Vec<EpochStart>, strandline_log::ProducerState), String> {
        let tier = self
            .context
            .tier
            .clone()
            .ok_or("this broker has no cold tier (remote.log.storage.system.enable)")?;
        let image = self.context.quorum.image();
        let log = image.remote_log(partition.id()).cloned();
        state_at(&tier, &log.unwrap_or_default(), offset).await
    }
}
