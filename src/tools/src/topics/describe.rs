//! `kafka-topics --describe`

use std::collections::BTreeMap;

use kafka_protocol::messages as m;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use strandline_client::{ClientError, Cluster};
use strandline_types::base64_id;
use strandline_wire::text;

use super::options::Options;
use super::{ensure_found, illegal, matching, of_client};
use crate::command::Outcome;
use crate::configs::{TOPIC, describe_configs};
use crate::replica_moves;

/// The source of a value that is a default.
const DEFAULT_CONFIG: i8 = 5;

pub(super) fn ids(list: &[m::BrokerId]) -> String {
    let ids: Vec<String> = list.iter().map(|id| id.0.to_string()).collect();
    ids.join(",")
}

/// Eligible replicas and last known leaders, which `Metadata` does not report (KIP-966).
struct Eligible {
    elr: Option<String>,
    last_known: Option<String>,
}

async fn eligible(
    cluster: &Cluster,
    topics: &[String],
) -> Result<Option<BTreeMap<(String, i32), Eligible>>, ClientError> {
    let channel = cluster.any("describeTopicPartitions").await?;
    if channel
        .version_of::<m::DescribeTopicPartitionsRequest>()
        .is_err()
    {
        return Ok(None);
    }
    let mut all = BTreeMap::new();
    let mut cursor = None;
    loop {
        let named = topics.iter().map(|name| {
            m::describe_topic_partitions_request::TopicRequest::default()
                .with_name(m::TopicName(text(name)))
        });
        let request = m::DescribeTopicPartitionsRequest::default()
            .with_topics(named.collect())
            .with_response_partition_limit(2000)
            .with_cursor(cursor);
        let answer = channel
            .call(&request, cluster.options.request_timeout)
            .await?;
        for topic in &answer.topics {
            let name = topic.name.as_ref().map(|n| n.to_string());
            for p in &topic.partitions {
                let one = Eligible {
                    elr: p.eligible_leader_replicas.as_deref().map(ids),
                    last_known: p.last_known_elr.as_deref().map(ids),
                };
                all.insert((name.clone().unwrap_or_default(), p.partition_index), one);
            }
        }
        match answer.next_cursor {
            None => return Ok(Some(all)),
            Some(next) => {
                let next = m::describe_topic_partitions_request::Cursor::default()
                    .with_topic_name(next.topic_name)
                    .with_partition_index(next.partition_index);
                cursor = Some(next);
            }
        }
    }
}

pub(super) async fn describe(cluster: &Cluster, options: &Options) -> Outcome {
    let mut found = matching(cluster, options).await?;
    if let Some(id) = &options.topic_id {
        found.retain(|_, topic| base64_id(topic.topic_id) == *id);
        if found.is_empty() && !options.if_exists {
            return Err(illegal(&format!(
                "TopicId '{id}' does not exist as expected"
            )));
        }
    }
    ensure_found(options, &found)?;
    if found.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = found.keys().cloned().collect();
    let resources: Vec<(i8, String)> = names.iter().map(|n| (TOPIC, n.clone())).collect();
    let configs = describe_configs(cluster, &resources, false).await;
    let configs = configs.map_err(|e| of_client(&e))?;
    let moving = replica_moves::list(cluster, None).await;
    let moving = moving.map_err(|e| of_client(&e))?;
    let eligible = eligible(cluster, &names).await.map_err(|e| of_client(&e))?;
    let only_some = options.under_replicated_partitions
        || options.unavailable_partitions
        || options.under_min_isr_partitions
        || options.at_min_isr_partitions;
    for (name, topic) in &found {
        let of_topic = configs.get(&(TOPIC, name.clone()));
        let overridden: Vec<&crate::configs::Entry> = of_topic
            .into_iter()
            .flatten()
            .filter(|entry| entry.source != DEFAULT_CONFIG)
            .collect();
        let value = |key: &str| {
            let all = of_topic.into_iter().flatten();
            all.into_iter()
                .find(|e| e.name == key)
                .and_then(|e| e.value.clone())
        };
        let min_isr: usize = value("min.insync.replicas")
            .and_then(|v| v.parse().ok())
            .unwrap_or(1);
        let mut partitions: Vec<&MetadataResponsePartition> = topic.partitions.iter().collect();
        partitions.sort_by_key(|p| p.partition_index);
        if !only_some && (!options.topics_with_overrides || !overridden.is_empty()) {
            let told: Vec<String> = overridden
                .iter()
                .map(|e| format!("{}={}", e.name, e.value.as_deref().unwrap_or("null")))
                .collect();
            println!(
                "Topic: {name}\tTopicId: {}\tPartitionCount: {}\tReplicationFactor: {}\tConfigs: {}",
                base64_id(topic.topic_id),
                partitions.len(),
                partitions.first().map_or(0, |p| p.replica_nodes.len()),
                told.join(",")
            );
        }
        if options.topics_with_overrides {
            continue;
        }
        for p in partitions {
            let move_of = moving.get(&(name.clone(), p.partition_index));
            // During a reassignment, the target replicas count.
            let wanted = move_of.map_or(p.replica_nodes.len(), |m| {
                m.replicas.len() - m.removing.len()
            });
            let under_replicated = p.isr_nodes.len() < wanted;
            let unavailable = p.leader_id.0 < 0;
            let shown = !only_some
                || options.under_replicated_partitions && under_replicated
                || options.unavailable_partitions && unavailable
                || options.under_min_isr_partitions && p.isr_nodes.len() < min_isr
                || options.at_min_isr_partitions && p.isr_nodes.len() == min_isr;
            if !shown {
                continue;
            }
            let leader = if unavailable {
                "none".to_owned()
            } else {
                p.leader_id.0.to_string()
            };
            let mut line = format!(
                "\tTopic: {name}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}",
                p.partition_index,
                ids(&p.replica_nodes),
                ids(&p.isr_nodes)
            );
            if let Some(m) = move_of {
                line.push_str(&format!(
                    "\tAdding Replicas: {}\tRemoving Replicas: {}",
                    replica_moves::joined(&m.adding),
                    replica_moves::joined(&m.removing)
                ));
            }
            let of_partition = eligible
                .as_ref()
                .and_then(|e| e.get(&(name.clone(), p.partition_index)));
            let (elr, last_known) = match (&eligible, of_partition) {
                (Some(_), Some(one)) => (
                    one.elr.clone().unwrap_or_default(),
                    one.last_known.clone().unwrap_or_default(),
                ),
                (Some(_), None) => (String::new(), String::new()),
                (None, _) => ("N/A".to_owned(), "N/A".to_owned()),
            };
            println!("{line}\tElr: {elr}\tLastKnownElr: {last_known}");
        }
    }
    Ok(())
}
