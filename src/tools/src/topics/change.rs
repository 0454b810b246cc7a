//! `kafka-topics --alter` and `--delete`

use kafka_protocol::messages as m;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use strandline_client::{Cluster, check};
use strandline_wire::text;

use super::create::parse_assignment;
use super::options::Options;
use super::{ensure_found, matching, of_client};
use crate::command::{Failure, Outcome};

pub(super) async fn alter(cluster: &Cluster, options: &Options) -> Outcome {
    let found = matching(cluster, options).await?;
    ensure_found(options, &found)?;
    let Some(count) = options.partitions else {
        return Err(Failure::stderr(
            "Missing required argument \"[partitions]\"",
        ));
    };
    let mut topics = Vec::new();
    for (name, topic) in &found {
        let mut asked = CreatePartitionsTopic::default()
            .with_name(m::TopicName(text(name)))
            .with_count(count)
            .with_assignments(None);
        if let Some(given) = &options.replica_assignment {
            let known = topic.partitions.len();
            let new = parse_assignment(given)?.into_iter().skip(known);
            let new = new.map(|ids| {
                CreatePartitionsAssignment::default()
                    .with_broker_ids(ids.into_iter().map(m::BrokerId).collect())
            });
            asked = asked.with_assignments(Some(new.collect()));
        }
        topics.push(asked);
    }
    if topics.is_empty() {
        return Ok(());
    }
    let request = m::CreatePartitionsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(cluster.options.request_timeout.as_millis() as i32);
    let answer = cluster.call_any("createPartitions", &request).await;
    for result in &answer.map_err(|e| of_client(&e))?.results {
        let told = check(
            &result.name,
            result.error_code,
            result.error_message.as_ref(),
        );
        told.map_err(|e| of_client(&e))?;
    }
    Ok(())
}

pub(super) async fn delete(cluster: &Cluster, options: &Options) -> Outcome {
    let found = matching(cluster, options).await?;
    ensure_found(options, &found)?;
    if found.is_empty() {
        return Ok(());
    }
    let names: Vec<m::TopicName> = found.keys().map(|n| m::TopicName(text(n))).collect();
    let channel = cluster
        .any("deleteTopics")
        .await
        .map_err(|e| of_client(&e))?;
    let version = channel.version_of::<m::DeleteTopicsRequest>();
    let version = version.map_err(|e| of_client(&e))?;
    let mut request = m::DeleteTopicsRequest::default()
        .with_timeout_ms(cluster.options.request_timeout.as_millis() as i32);
    if version >= 6 {
        let topics = names
            .into_iter()
            .map(|name| DeleteTopicState::default().with_name(Some(name)));
        request = request.with_topics(topics.collect());
    } else {
        request = request.with_topic_names(names);
    }
    let answer = channel
        .call(&request, cluster.options.request_timeout)
        .await;
    for result in &answer.map_err(|e| of_client(&e))?.responses {
        let name = result.name.as_ref().map_or("?", |n| n.as_str());
        let told = check(name, result.error_code, result.error_message.as_ref());
        told.map_err(|e| of_client(&e))?;
    }
    Ok(())
}
