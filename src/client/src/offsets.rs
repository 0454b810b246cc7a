//! Offsets: those that a group has committed, and those that partitions begin and end at.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kafka_protocol::messages as m;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use strandline_wire::StrBytes;

use crate::cluster::Cluster;
use crate::error::{ClientError, check};

/// Version 8 asks for groups in a list; the ones before it for one group.
const BATCHED: i16 = 8;
/// Newest version that names topics, not ids.
const OFFSET_FETCH_VERSION: i16 = 9;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: i64,
    /// −1 where the client did not say.
    pub leader_epoch: i32,
    pub metadata: String,
}

/// A partition by its topic's name.
pub type Key = (Arc<str>, i32);

/// The committed offsets of a group for these topics' partitions, or for all. A partition without a committed offset is
/// missing.
pub async fn committed(
    cluster: &Cluster,
    group: &str,
    topics: Option<&BTreeMap<Arc<str>, Vec<i32>>>,
) -> Result<HashMap<Key, CommittedOffset>, ClientError> {
    let text = |value: &str| StrBytes::from_string(value.to_owned());
    let asking = || async {
        let id = cluster.coordinator(group).await?;
        let channel = cluster.broker(id).await?;
        let version = channel
            .version_of::<m::OffsetFetchRequest>()?
            .min(OFFSET_FETCH_VERSION);
        let request = if version >= BATCHED {
            let topics = topics.map(|topics| {
                let named = topics.iter().map(|(topic, partitions)| {
                    OffsetFetchRequestTopics::default()
                        .with_name(m::TopicName(text(topic)))
                        .with_partition_indexes(partitions.clone())
                });
                named.collect()
            });
            let asked = OffsetFetchRequestGroup::default()
                .with_group_id(m::GroupId(text(group)))
                .with_topics(topics);
            m::OffsetFetchRequest::default().with_groups(vec![asked])
        } else {
            let topics = topics.map(|topics| {
                let named = topics.iter().map(|(topic, partitions)| {
                    OffsetFetchRequestTopic::default()
                        .with_name(m::TopicName(text(topic)))
                        .with_partition_indexes(partitions.clone())
                });
                named.collect()
            });
            m::OffsetFetchRequest::default()
                .with_group_id(m::GroupId(text(group)))
                .with_topics(topics)
        };
        let limit = cluster.options.request_timeout;
        let answer = channel.call_version(&request, version, limit).await?;
        let code = answer
            .groups
            .first()
            .map_or(answer.error_code, |g| g.error_code);
        let told = check(group, code, None);
        if told.as_ref().is_err_and(ClientError::is_retriable) {
            cluster.forget_coordinator(group);
        }
        told?;
        let mut found = HashMap::new();
        let mut note =
            |topic: &str, partition, offset, leader_epoch, metadata: Option<&StrBytes>| {
                if offset >= 0 {
                    let committed = CommittedOffset {
                        offset,
                        leader_epoch,
                        metadata: metadata.map(ToString::to_string).unwrap_or_default(),
                    };
                    found.insert((Arc::from(topic), partition), committed);
                }
            };
        for topic in answer.groups.iter().flat_map(|g| &g.topics) {
            for p in &topic.partitions {
                let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
                note(
                    &topic.name,
                    p.partition_index,
                    offset,
                    epoch,
                    p.metadata.as_ref(),
                );
            }
        }
        for topic in &answer.topics {
            for p in &topic.partitions {
                let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
                note(
                    &topic.name,
                    p.partition_index,
                    offset,
                    epoch,
                    p.metadata.as_ref(),
                );
            }
        }
        Ok(found)
    };
    cluster.retrying(asking).await
}

/// Commits offsets: with a generation as a member, with −1 for a group without members.
pub async fn commit_offsets(
    cluster: &Cluster,
    group: &str,
    (member_id, generation): (&str, i32),
    offsets: &BTreeMap<Key, i64>,
) -> Result<(), ClientError> {
    let text = |value: &str| StrBytes::from_string(value.to_owned());
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in offsets {
        let committed = OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(StrBytes::default()));
        topics.entry(topic).or_default().push(committed);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetCommitRequestTopic::default()
            .with_name(m::TopicName(text(name)))
            .with_partitions(partitions)
    });
    let request = m::OffsetCommitRequest::default()
        .with_group_id(m::GroupId(text(group)))
        .with_member_id(text(member_id))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(topics.collect());
    let first = |answer: &m::OffsetCommitResponse| {
        let partitions = answer.topics.iter().flat_map(|t| &t.partitions);
        let mut codes = partitions.map(|p| p.error_code).filter(|c| *c != 0);
        codes.next().unwrap_or(0)
    };
    let answer = cluster.call_coordinator(group, &request, first).await?;
    check(group, first(&answer), None)
}

/// Offset and timestamp that a leader knows for (special) timestamps. Each partition's result has its own error.
pub(crate) async fn list_offsets_of(
    cluster: &Cluster,
    leader: i32,
    asked: &[(Key, i64)],
) -> Result<HashMap<Key, Result<(i64, i64), ClientError>>, ClientError> {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for ((topic, partition), timestamp) in asked {
        let one = ListOffsetsPartition::default()
            .with_partition_index(*partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(*timestamp);
        topics.entry(topic).or_default().push(one);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        ListOffsetsTopic::default()
            .with_name(m::TopicName(StrBytes::from_string(name.to_owned())))
            .with_partitions(partitions)
    });
    let request = m::ListOffsetsRequest::default()
        .with_replica_id(m::BrokerId(-1))
        .with_topics(topics.collect());
    let answer = cluster.call_broker(leader, &request).await?;
    let mut found = HashMap::new();
    for topic in &answer.topics {
        for p in &topic.partitions {
            let known = check(&topic.name, p.error_code, None);
            let key = (Arc::from(topic.name.as_str()), p.partition_index);
            found.insert(key, known.map(|()| (p.offset, p.timestamp)));
        }
    }
    Ok(found)
}

/// Offset and timestamp of each partition for a (special) timestamp; partitions without a leader are missing.
pub async fn list_offsets(
    cluster: &Cluster,
    partitions: &BTreeSet<Key>,
    timestamp: i64,
) -> Result<HashMap<Key, (i64, i64)>, ClientError> {
    let names: BTreeSet<String> = partitions.iter().map(|(t, _)| t.to_string()).collect();
    let names: Vec<String> = names.into_iter().collect();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let metadata = cluster.metadata(Some(&names)).await?;
    let mut by_leader: BTreeMap<i32, Vec<(Key, i64)>> = BTreeMap::new();
    for topic in &metadata.topics {
        let name: Arc<str> = topic.name.as_ref().map_or("", |n| n.as_str()).into();
        for p in &topic.partitions {
            let key = (name.clone(), p.partition_index);
            if p.leader_id.0 >= 0 && partitions.contains(&key) {
                let of_leader = by_leader.entry(p.leader_id.0).or_default();
                of_leader.push((key, timestamp));
            }
        }
    }
    let mut found = HashMap::new();
    for (leader, asked) in by_leader {
        for (key, offset) in list_offsets_of(cluster, leader, &asked).await? {
            found.insert(key, offset?);
        }
    }
    Ok(found)
}
