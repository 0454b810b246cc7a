//! Reassignments under way, as `ListPartitionReassignments` reports them.

use std::collections::BTreeMap;

use kafka_protocol::messages as m;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use strandline_client::{ClientError, Cluster, check};
use strandline_wire::StrBytes;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaMove {
    /// Old and new ones.
    pub replicas: Vec<i32>,
    pub adding: Vec<i32>,
    pub removing: Vec<i32>,
}

/// The moves of the named partitions, or all.
pub async fn list(
    cluster: &Cluster,
    partitions: Option<&BTreeMap<String, Vec<i32>>>,
) -> Result<BTreeMap<(String, i32), ReplicaMove>, ClientError> {
    let topics = partitions.map(|partitions| {
        let named = partitions.iter().map(|(topic, indexes)| {
            ListPartitionReassignmentsTopics::default()
                .with_name(m::TopicName(StrBytes::from_string(topic.clone())))
                .with_partition_indexes(indexes.clone())
        });
        named.collect()
    });
    let request = m::ListPartitionReassignmentsRequest::default()
        .with_timeout_ms(cluster.options.request_timeout.as_millis() as i32)
        .with_topics(topics);
    let answer = cluster
        .call_any("listPartitionReassignments", &request)
        .await?;
    check(
        "reassignments",
        answer.error_code,
        answer.error_message.as_ref(),
    )?;
    let plain = |ids: &[m::BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let mut found = BTreeMap::new();
    for topic in &answer.topics {
        for p in &topic.partitions {
            let one = ReplicaMove {
                replicas: plain(&p.replicas),
                adding: plain(&p.adding_replicas),
                removing: plain(&p.removing_replicas),
            };
            found.insert((topic.name.to_string(), p.partition_index), one);
        }
    }
    Ok(found)
}

/// `1,2,3`
pub fn joined(ids: &[i32]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.join(",")
}
