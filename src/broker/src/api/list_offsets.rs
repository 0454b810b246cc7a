//! `ListOffsets` with every special timestamp, and `OffsetForLeaderEpoch`, over both tiers.

use std::sync::Arc;

use kafka_protocol::messages as m;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use strandline_types::LeaderEpoch;
use strandline_wire::ErrorCode;
use strandline_wire::produce::TopicKey;
use strandline_wire::special_timestamp::{
    EARLIEST, EARLIEST_LOCAL, EARLIEST_PENDING_UPLOAD, LATEST, LATEST_TIERED, MAX_TIMESTAMP,
};

use super::Call;
use super::by_timestamp::{Found, NOTHING, find_max_timestamp, find_timestamp};
use super::fetch::check_epoch;
use super::look_up::find_led;
use crate::partition::Partition;
use crate::tier::last_copied_offset;

const READ_COMMITTED: i8 = 1;

fn topic_key(name: &m::TopicName) -> TopicKey {
    TopicKey::Name(name.0.as_bytes().to_vec().into())
}

pub async fn list_offsets(call: &Call, request: m::ListOffsetsRequest) -> m::ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let answer =
                ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            let found = match find_led(call, &topic_key(&topic.name), asked.partition_index) {
                Ok(partition) => {
                    match check_epoch(asked.current_leader_epoch, partition.leader_epoch().0) {
                        Ok(()) => {
                            lookup(call, &partition, asked.timestamp, request.isolation_level).await
                        }
                        Err(code) => Err(code),
                    }
                }
                Err(code) => Err(code),
            };
            partitions.push(match found {
                Ok((offset, timestamp, epoch)) => {
                    let answer = answer.with_offset(offset).with_timestamp(timestamp);
                    if call.version >= 4 {
                        answer.with_leader_epoch(epoch)
                    } else {
                        answer
                    }
                }
                Err(code) => answer
                    .with_error_code(code.code())
                    .with_offset(-1)
                    .with_timestamp(-1),
            });
        }
        topics.push(
            ListOffsetsTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    m::ListOffsetsResponse::default().with_topics(topics)
}

async fn lookup(
    call: &Call,
    partition: &Arc<Partition>,
    timestamp: i64,
    isolation: i8,
) -> Result<Found, ErrorCode> {
    let view = partition.view();
    let epoch_of = |offset: i64| view.epochs.epoch_of(offset).map_or(-1, |e| e.0);
    let limit = if isolation == READ_COMMITTED {
        view.last_stable_offset
    } else {
        view.high_watermark
    };
    let image = call.context.quorum.image();
    let remote = image.remote_log(partition.id());
    let tiered = partition.config().remote_storage_enable || remote.is_some();
    let highest_remote = remote.map_or(-1, |log| last_copied_offset(log, &view));
    let needs_end = !matches!(
        timestamp,
        EARLIEST | EARLIEST_LOCAL | LATEST_TIERED | EARLIEST_PENDING_UPLOAD
    );
    if needs_end && !partition.knows_its_end(&view) {
        return Err(ErrorCode::OffsetNotAvailable);
    }
    match timestamp {
        LATEST => Ok((limit, -1, partition.leader_epoch().0)),
        EARLIEST => Ok((view.log_start_offset, -1, epoch_of(view.log_start_offset))),
        EARLIEST_LOCAL => {
            let offset = view.local_log_start_offset;
            Ok((offset, -1, epoch_of(offset)))
        }
        LATEST_TIERED if tiered && highest_remote >= 0 => {
            Ok((highest_remote, -1, epoch_of(highest_remote)))
        }
        EARLIEST_PENDING_UPLOAD if tiered => {
            let offset = (highest_remote + 1).max(view.log_start_offset);
            Ok((offset, -1, epoch_of(offset)))
        }
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(NOTHING),
        MAX_TIMESTAMP => find_max_timestamp(call, partition, &view, limit).await,
        at if at >= 0 => find_timestamp(call, partition, &view, at, limit).await,
        _ => Err(ErrorCode::InvalidRequest),
    }
}

pub async fn offset_for_leader_epoch(
    call: &Call,
    request: m::OffsetForLeaderEpochRequest,
) -> m::OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let answer = EpochEndOffset::default().with_partition(asked.partition);
            let found =
                find_led(call, &topic_key(&topic.topic), asked.partition).and_then(|partition| {
                    check_epoch(asked.current_leader_epoch, partition.leader_epoch().0)?;
                    Ok(partition.view())
                });
            partitions.push(match found {
                Ok(view) => {
                    let end = (asked.leader_epoch >= 0).then_some(LeaderEpoch(asked.leader_epoch));
                    let end = end.and_then(|e| view.epochs.end_offset_for(e, view.log_end_offset));
                    let (epoch, offset) = end.map_or((-1, -1), |(e, o)| (e.0, o));
                    answer.with_leader_epoch(epoch).with_end_offset(offset)
                }
                Err(code) => answer
                    .with_error_code(code.code())
                    .with_leader_epoch(-1)
                    .with_end_offset(-1),
            });
        }
        topics.push(
            OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic)
                .with_partitions(partitions),
        );
    }
    m::OffsetForLeaderEpochResponse::default().with_topics(topics)
}
