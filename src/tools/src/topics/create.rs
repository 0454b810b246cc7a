//! `kafka-topics --create`

use kafka_protocol::messages as m;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use strandline_client::{Cluster, check};
use strandline_wire::{ErrorCode, text};

use super::options::Options;
use super::{failed, illegal, of_client};
use crate::command::{Failure, Outcome};

/// `1:2,2:3` as lists of broker ids.
pub(super) fn parse_assignment(given: &str) -> Result<Vec<Vec<i32>>, Failure> {
    let mut partitions: Vec<Vec<i32>> = Vec::new();
    for (index, one) in given.split(',').enumerate() {
        let ids: Result<Vec<i32>, _> = one.split(':').map(|id| id.trim().parse()).collect();
        let ids = ids.map_err(|_| illegal(&format!("{one} is not a list of broker ids")))?;
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        if unique.len() < ids.len() {
            let reason =
                format!("Partition replica lists may not contain duplicate entries: {one}");
            return Err(failed(
                &reason,
                &format!("org.apache.kafka.server.common.AdminCommandFailedException: {reason}"),
            ));
        }
        if partitions
            .first()
            .is_some_and(|first| first.len() != ids.len())
        {
            let reason = format!("Partition {index} has different replication factor: {one}");
            return Err(failed(
                &reason,
                &format!("org.apache.kafka.server.common.AdminOperationException: {reason}"),
            ));
        }
        partitions.push(ids);
    }
    Ok(partitions)
}

pub(super) async fn create(cluster: &Cluster, options: &Options) -> Outcome {
    let name = options.topic.as_deref().unwrap_or_default();
    if name.contains(['.', '_']) {
        println!(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could collide. \
             To avoid issues it is best to use either, but not both."
        );
    }
    if options.partitions.is_some_and(|p| p < 1) {
        return Err(illegal("The partitions must be greater than 0"));
    }
    if options
        .replication_factor
        .is_some_and(|r| !(1..=i32::from(i16::MAX)).contains(&r))
    {
        return Err(illegal(
            "The replication factor must be between 1 and 32767 inclusive",
        ));
    }
    let mut configs = Vec::new();
    for pair in &options.config {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            illegal("requirement failed: Invalid topic config: all configs to be added must be in the format \"key=val\".")
        })?;
        configs.push(
            CreatableTopicConfig::default()
                .with_name(text(key.trim()))
                .with_value(Some(text(value.trim()))),
        );
    }
    let mut topic = CreatableTopic::default()
        .with_name(m::TopicName(text(name)))
        .with_num_partitions(options.partitions.unwrap_or(-1))
        .with_replication_factor(options.replication_factor.unwrap_or(-1) as i16)
        .with_configs(configs);
    if let Some(given) = &options.replica_assignment {
        if options.partitions.is_some() || options.replication_factor.is_some() {
            return Err(Failure::stderr(
                "Option \"[replica-assignment]\" can't be used with option \"[partitions]\" or \"[replication-factor]\"",
            ));
        }
        let assignments = parse_assignment(given)?.into_iter().enumerate();
        let assignments = assignments.map(|(partition, ids)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(partition as i32)
                .with_broker_ids(ids.into_iter().map(m::BrokerId).collect())
        });
        topic = topic.with_assignments(assignments.collect());
    }
    let request = m::CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(cluster.options.request_timeout.as_millis() as i32);
    let answer = cluster.call_any("createTopics", &request).await;
    let answer = answer.map_err(|e| of_client(&e))?;
    for topic in &answer.topics {
        if options.if_not_exists && topic.error_code == ErrorCode::TopicAlreadyExists.code() {
            return Ok(());
        }
        check(name, topic.error_code, topic.error_message.as_ref()).map_err(|e| of_client(&e))?;
    }
    println!("Created topic {name}.");
    Ok(())
}
