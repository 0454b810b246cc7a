//! The partition that a request means, for every API that reads or writes one.

use std::sync::Arc;

use strandline_types::TopicId;
use strandline_wire::ErrorCode;
use strandline_wire::produce::TopicKey;

use super::Call;
use crate::partition::Partition;

/// The partition that a request means, as this broker knows it.
pub(super) fn find(call: &Call, topic: &TopicKey, index: i32) -> Result<Arc<Partition>, ErrorCode> {
    let image = call.context.quorum.image();
    let (topic, unknown) = match topic {
        TopicKey::Name(_) => (
            topic.name().and_then(|name| image.topic(name)),
            ErrorCode::UnknownTopicOrPartition,
        ),
        TopicKey::Id(id) => (image.topic_by_id(TopicId(*id)), ErrorCode::UnknownTopicId),
    };
    let topic = topic.ok_or(unknown)?;
    if !topic.partitions.contains_key(&index) {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    let here = call
        .context
        .partitions
        .get(&topic.name, index)
        .filter(|p| p.topic_id == topic.id);
    match here {
        Some(found) if found.is_offline() => Err(ErrorCode::KafkaStorageError),
        Some(found) => Ok(found),
        // Led elsewhere; or here, and its log is being opened or could not be.
        None => Err(ErrorCode::NotLeaderOrFollower),
    }
}

/// The partition that a request means, if this broker leads it.
pub(super) fn find_led(
    call: &Call,
    topic: &TopicKey,
    index: i32,
) -> Result<Arc<Partition>, ErrorCode> {
    let found = find(call, topic, index)?;
    if found.is_leader() {
        Ok(found)
    } else {
        Err(ErrorCode::NotLeaderOrFollower)
    }
}

/// Leader and epoch of a partition as the metadata has them, for a client that came to the wrong broker (KIP-951).
pub(super) fn current_leader(call: &Call, topic: &TopicKey, index: i32) -> Option<(i32, i32)> {
    let image = call.context.quorum.image();
    let topic = match topic {
        TopicKey::Name(_) => image.topic(topic.name()?),
        TopicKey::Id(id) => image.topic_by_id(TopicId(*id)),
    };
    let partition = topic?.partitions.get(&index)?;
    let leader = partition.leader.map_or(-1, |l| l.0);
    Some((leader, partition.leader_epoch.0))
}
