//! A group's committed offsets.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::messages as m;
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

/// What a group has committed for these topics' partitions, or for all. What it has not committed is missing.
pub async fn committed(
    cluster: &Cluster,
    group: &str,
    topics: Option<&BTreeMap<Arc<str>, Vec<i32>>>,
) -> Result<HashMap<(Arc<str>, i32), CommittedOffset>, ClientError> {
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
