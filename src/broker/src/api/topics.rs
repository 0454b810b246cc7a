//! `CreateTopics`, `DeleteTopics`, `CreatePartitions`.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages as m;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use strandline_metadata::config::{describe_topic, topic_defs};
use strandline_metadata::controller::{Command, NewTopic, Refusal};
use strandline_types::{BrokerId, TopicId};
use strandline_wire::ErrorCode;
use uuid::Uuid;

use super::{Call, submit_error, text};

pub async fn create_topics(
    call: &Call,
    request: m::CreateTopicsRequest,
) -> m::CreateTopicsResponse {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.to_string()).or_default() += 1;
    }
    let mut results = Vec::new();
    let mut seen = BTreeSet::new();
    for topic in request.topics {
        if !seen.insert(topic.name.to_string()) {
            continue;
        }
        let result = if counts[topic.name.as_str()] > 1 {
            let reason = "Duplicate topic name.".to_owned();
            failed_topic(topic.name.clone(), ErrorCode::InvalidRequest, reason)
        } else {
            create_one(call, topic, request.validate_only).await
        };
        results.push(result);
    }
    call.context.wait_until_applied().await;
    m::CreateTopicsResponse::default().with_topics(results)
}

fn failed_topic(name: m::TopicName, code: ErrorCode, reason: String) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name)
        .with_error_code(code.code())
        .with_error_message(Some(text(reason)))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}

async fn create_one(
    call: &Call,
    topic: m::create_topics_request::CreatableTopic,
    validate_only: bool,
) -> CreatableTopicResult {
    let name = topic.name.clone();
    let mut configs = BTreeMap::new();
    for config in topic.configs {
        let Some(value) = config.value else {
            let reason = format!(
                "Null value not supported for topic configs: {}",
                config.name.as_str()
            );
            return failed_topic(name, ErrorCode::InvalidConfig, reason);
        };
        configs.insert(config.name.to_string(), value.to_string());
    }
    let assignments = topic.assignments.into_iter().map(|a| {
        (
            a.partition_index,
            a.broker_ids.into_iter().map(|b| BrokerId(b.0)).collect(),
        )
    });
    let new = NewTopic {
        name: name.to_string(),
        id: TopicId(Uuid::new_v4()),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs,
    };
    let topic_name = new.name.clone();
    let decided = call
        .context
        .submit(Command::CreateTopic(new), validate_only)
        .await;
    let image = match decided {
        Ok(change) => change.image,
        Err(error) => {
            let (code, reason) = submit_error(&error);
            return failed_topic(name, code, reason);
        }
    };
    let Some(created) = image.topic(&topic_name) else {
        return failed_topic(
            name,
            ErrorCode::UnknownTopicOrPartition,
            "The topic was deleted meanwhile.".into(),
        );
    };
    let broker = call.context.config();
    let overrides = image.topic_configs(&topic_name);
    let shown = topic_defs().filter(|d| !d.internal).map(|def| {
        let entry = describe_topic(def, overrides, &broker);
        CreatableTopicConfigs::default()
            .with_name(text(def.name.clone()))
            .with_value(entry.value.map(text))
            .with_config_source(entry.source as i8)
            .with_is_sensitive(def.sensitive)
    });
    let replication_factor = created
        .partitions
        .values()
        .next()
        .map_or(-1, |p| p.replicas.len() as i16);
    CreatableTopicResult::default()
        .with_name(name)
        .with_topic_id(if validate_only {
            Uuid::nil()
        } else {
            created.id.0
        })
        .with_num_partitions(created.partitions.len() as i32)
        .with_replication_factor(replication_factor)
        .with_configs(Some(shown.collect()))
}

pub async fn delete_topics(
    call: &Call,
    request: m::DeleteTopicsRequest,
) -> m::DeleteTopicsResponse {
    let named = request
        .topic_names
        .into_iter()
        .map(|name| (Some(name), Uuid::nil()));
    let listed = request.topics.into_iter().map(|t| (t.name, t.topic_id));
    let enabled = call.context.config().boolean("delete.topic.enable");
    let mut results = Vec::new();
    for (name, id) in named.chain(listed) {
        let image = call.context.quorum.image();
        let found = match &name {
            Some(name) => image.topic(name),
            None => image.topic_by_id(TopicId(id)),
        };
        let unknown = if name.is_some() {
            ErrorCode::UnknownTopicOrPartition
        } else {
            ErrorCode::UnknownTopicId
        };
        let answer = DeletableTopicResult::default();
        let Some(topic) = found.cloned() else {
            let reason = if name.is_some() {
                Refusal::UnknownTopic
            } else {
                Refusal::UnknownTopicId
            };
            results.push(
                answer
                    .with_name(name)
                    .with_topic_id(id)
                    .with_error_code(unknown.code())
                    .with_error_message(Some(text(reason.to_string()))),
            );
            continue;
        };
        let answer = answer
            .with_name(Some(m::TopicName(text(topic.name.to_string()))))
            .with_topic_id(topic.id.0);
        if !enabled {
            results.push(
                answer
                    .with_error_code(ErrorCode::TopicDeletionDisabled.code())
                    .with_error_message(Some(text("Topic deletion is disabled."))),
            );
            continue;
        }
        results.push(
            match call
                .context
                .submit(Command::DeleteTopic(topic.id), false)
                .await
            {
                Ok(_) => answer,
                Err(error) => {
                    let (code, reason) = submit_error(&error);
                    answer
                        .with_error_code(code.code())
                        .with_error_message(Some(text(reason)))
                }
            },
        );
    }
    call.context.wait_until_applied().await;
    m::DeleteTopicsResponse::default().with_responses(results)
}

pub async fn create_partitions(
    call: &Call,
    request: m::CreatePartitionsRequest,
) -> m::CreatePartitionsResponse {
    let mut results = Vec::new();
    for topic in request.topics {
        let assignments = topic.assignments.map(|given| {
            given
                .into_iter()
                .map(|a| a.broker_ids.into_iter().map(|b| BrokerId(b.0)).collect())
                .collect()
        });
        let command = Command::CreatePartitions {
            topic: topic.name.to_string(),
            count: topic.count,
            assignments,
        };
        let decided = call.context.submit(command, request.validate_only).await;
        let answer = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        results.push(match decided {
            Ok(_) => answer.with_error_message(None),
            Err(error) => {
                let (code, reason) = submit_error(&error);
                answer
                    .with_error_code(code.code())
                    .with_error_message(Some(text(reason)))
            }
        });
    }
    call.context.wait_until_applied().await;
    m::CreatePartitionsResponse::default().with_results(results)
}
