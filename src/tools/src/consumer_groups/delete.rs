//! `kafka-consumer-groups --delete` and `--delete-offsets`

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages as m;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use strandline_client::{ClientError, Cluster, check};
use strandline_wire::{ErrorCode, text};

use super::listing::group_names;
use crate::group_options::Options;

pub(super) async fn delete(cluster: &Cluster, options: &Options) -> Result<(), ClientError> {
    let groups = group_names(cluster, options).await?;
    let mut failures = Vec::new();
    let mut deleted = Vec::new();
    for group in &groups {
        let request =
            m::DeleteGroupsRequest::default().with_groups_names(vec![m::GroupId(text(group))]);
        let code =
            |answer: &m::DeleteGroupsResponse| answer.results.first().map_or(0, |r| r.error_code);
        let done = cluster.call_coordinator(group, &request, code).await;
        let done = done.and_then(|answer| check(group, code(&answer), None));
        match done {
            Ok(()) => deleted.push(format!("'{group}'")),
            Err(error) => failures.push((group, error)),
        }
    }
    if failures.is_empty() {
        println!(
            "Deletion of requested consumer groups ({}) was successful.",
            deleted.join(", ")
        );
        return Ok(());
    }
    println!("\nError: Deletion of some consumer groups failed:");
    for (group, error) in &failures {
        println!(
            "* Group '{group}' could not be deleted due to: {}",
            error.java()
        );
    }
    if !deleted.is_empty() {
        println!(
            "\nThese consumer groups were deleted successfully: {}",
            deleted.join(", ")
        );
    }
    Ok(())
}

pub(super) async fn delete_offsets(
    cluster: &Cluster,
    options: &Options,
) -> Result<(), ClientError> {
    let group = options.group.first().cloned().unwrap_or_default();
    let partitions = named_partitions(cluster, &options.topic).await?;
    let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
    for (topic, partition) in &partitions {
        let one = OffsetDeleteRequestPartition::default().with_partition_index(*partition);
        topics.entry(topic).or_default().push(one);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        OffsetDeleteRequestTopic::default()
            .with_name(m::TopicName(text(name)))
            .with_partitions(partitions)
    });
    let request = m::OffsetDeleteRequest::default()
        .with_group_id(m::GroupId(text(&group)))
        .with_topics(topics.collect());
    let code = |answer: &m::OffsetDeleteResponse| answer.error_code;
    let answer = cluster.call_coordinator(&group, &request, code).await?;
    let whole = check(&group, answer.error_code, None);
    let failed = answer
        .topics
        .iter()
        .flat_map(|t| &t.partitions)
        .any(|p| p.error_code != 0);
    match (&whole, failed) {
        (Ok(()), false) => {
            println!("Request succeeded for deleting offsets from group {group}.");
        }
        (Ok(()), true) => {
            println!("\nError: Encountered some partition-level error, see the follow-up details.");
        }
        (Err(error), _) => println!("\nError: {}", error.reason()),
    }
    println!("\n{:<15} {:<10} {:<15}", "TOPIC", "PARTITION", "STATUS");
    for topic in &answer.topics {
        for p in &topic.partitions {
            let status = check(&topic.name, p.error_code, None).map_or_else(
                |e| format!("Error: {}", e.reason()),
                |()| "Successful".into(),
            );
            println!(
                "{:<15} {:<10} {status:<15}",
                topic.name.as_str(),
                p.partition_index
            );
        }
    }
    Ok(())
}

/// `topic` is all its partitions, `topic:0,1` these two.
pub async fn named_partitions(
    cluster: &Cluster,
    given: &[String],
) -> Result<BTreeSet<(Arc<str>, i32)>, ClientError> {
    let mut found = BTreeSet::new();
    let mut whole = Vec::new();
    for one in given {
        match one.split_once(':') {
            None => whole.push(one.clone()),
            Some((topic, indexes)) => {
                for index in indexes.split(',') {
                    let index = index.trim().parse().map_err(|_| ClientError::Broker {
                        what: one.clone(),
                        code: ErrorCode::InvalidPartitions,
                        message: Some(format!(
                            "Invalid partition '{index}' specified in topic arg '{one}'"
                        )),
                    })?;
                    found.insert((Arc::from(topic), index));
                }
            }
        }
    }
    if !whole.is_empty() {
        let metadata = cluster.metadata(Some(&whole)).await?;
        for topic in &metadata.topics {
            let name = topic.name.as_ref().map_or("", |n| n.as_str());
            check(name, topic.error_code, None)?;
            for p in &topic.partitions {
                found.insert((Arc::from(name), p.partition_index));
            }
        }
    }
    Ok(found)
}
