//! `CreateTopics`, `DeleteTopics`, `CreatePartitions`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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

use super::deletion;
use super::internal_topics::{Act, refuse};
use super::{Call, submit_error, text};
use crate::quotas::QuotaKind;

pub async fn create_topics(
    call: &Call,
    request: m::CreateTopicsRequest,
) -> m::CreateTopicsResponse {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.to_string()).or_default() += 1;
    }
    let mut results = Vec::new();
    let mut mutations = MutationQuota::of(call);
    let mut seen = BTreeSet::new();
    for topic in request.topics {
        if !seen.insert(topic.name.to_string()) {
            continue;
        }
        let result = if counts[topic.name.as_str()] > 1 {
            let reason = "Duplicate topic name.".to_owned();
            failed_topic(topic.name.clone(), ErrorCode::InvalidRequest, reason)
        } else if call.version >= STRICT_CREATE && mutations.are_exceeded() {
            let (code, reason) = MutationQuota::refusal();
            failed_topic(topic.name.clone(), code, reason)
        } else {
            create_one(call, topic, request.validate_only).await
        };
        if !request.validate_only && result.error_code == ErrorCode::None.code() {
            mutations.count(result.num_partitions);
        }
        results.push(result);
    }
    call.context.wait_until_applied().await;
    m::CreateTopicsResponse::default()
        .with_throttle_time_ms(mutations.throttle_ms())
        .with_topics(results)
}

/// From these versions on, clients know the error of an exceeded quota; older ones are served and wait afterwards.
const STRICT_CREATE: i16 = 6;
const STRICT_DELETE: i16 = 5;
const STRICT_CREATE_PARTITIONS: i16 = 3;

/// `controller_mutation_rate` of the client that asks (KIP-599).
struct MutationQuota<'a> {
    call: &'a Call,
    wait: Duration,
}

impl<'a> MutationQuota<'a> {
    fn of(call: &'a Call) -> Self {
        let mut quota = Self {
            call,
            wait: Duration::ZERO,
        };
        quota.count(0);
        quota
    }

    /// Whether the client has exceeded its quota.
    fn are_exceeded(&self) -> bool {
        !self.wait.is_zero()
    }

    fn refusal() -> (ErrorCode, String) {
        let reason = "The throttling quota has been exceeded.";
        (ErrorCode::ThrottlingQuotaExceeded, reason.into())
    }

    fn count(&mut self, partitions: i32) {
        let quotas = &self.call.context.quotas;
        let amount = partitions.max(0) as usize;
        self.wait = quotas.spend(QuotaKind::Mutation, &self.call.client_id, amount);
    }

    /// How long the client is to wait; it is not read from before.
    fn throttle_ms(&self) -> i32 {
        self.call.peer.mute(self.wait);
        self.wait.as_millis() as i32
    }
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
    if let Err((code, reason)) = refuse(&name, Act::Create) {
        return failed_topic(name, code, reason);
    }
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
    let mut assignments = BTreeMap::new();
    let exists = call.context.quorum.image().topic(&name).is_some();
    for given in topic.assignments {
        let (index, replicas) = (given.partition_index, given.broker_ids);
        let replicas = replicas.into_iter().map(|b| BrokerId(b.0)).collect();
        if assignments.insert(index, replicas).is_some() && !exists {
            let reason =
                format!("Found multiple manual partition assignments for partition {index}");
            return failed_topic(name, ErrorCode::InvalidReplicaAssignment, reason);
        }
    }
    let new = NewTopic {
        name: name.to_string(),
        id: TopicId(Uuid::new_v4()),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments,
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
        .with_error_message(None)
        .with_num_partitions(created.partitions.len() as i32)
        .with_replication_factor(replication_factor)
        .with_configs(Some(shown.collect()))
}

pub async fn delete_topics(
    call: &Call,
    request: m::DeleteTopicsRequest,
) -> m::DeleteTopicsResponse {
    let (named, mut results) = deletion::named(request);
    let enabled = call.context.config().boolean("delete.topic.enable");
    let mut mutations = MutationQuota::of(call);
    for (name, id) in named {
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
        let deleted = if call.version >= STRICT_DELETE && mutations.are_exceeded() {
            Err(MutationQuota::refusal())
        } else if let Err(refused) = refuse(&topic.name, Act::Delete) {
            Err(refused)
        } else {
            let command = Command::DeleteTopic(topic.id);
            let submitted = call.context.submit(command, false).await;
            submitted.map_err(|e| submit_error(&e))
        };
        results.push(match deleted {
            Ok(_) => {
                mutations.count(topic.partitions.len() as i32);
                answer
            }
            Err((code, reason)) => answer
                .with_error_code(code.code())
                .with_error_message(Some(text(reason))),
        });
    }
    call.context.wait_until_applied().await;
    m::DeleteTopicsResponse::default()
        .with_throttle_time_ms(mutations.throttle_ms())
        .with_responses(results)
}

pub async fn create_partitions(
    call: &Call,
    request: m::CreatePartitionsRequest,
) -> m::CreatePartitionsResponse {
    let mut results = Vec::new();
    let mut mutations = MutationQuota::of(call);
    for topic in request.topics {
        let image = call.context.quorum.image();
        let known = image.topic(&topic.name).map_or(0, |t| t.partitions.len());
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
        let decided = if call.version >= STRICT_CREATE_PARTITIONS && mutations.are_exceeded() {
            Err(MutationQuota::refusal())
        } else if let Err(refused) = refuse(&topic.name, Act::AddPartitions) {
            Err(refused)
        } else {
            let submitted = call.context.submit(command, request.validate_only).await;
            submitted.map_err(|e| submit_error(&e))
        };
        let answer = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        results.push(match decided {
            Ok(_) => {
                if !request.validate_only {
                    mutations.count(topic.count - known as i32);
                }
                answer.with_error_message(None)
            }
            Err((code, reason)) => answer
                .with_error_code(code.code())
                .with_error_message(Some(text(reason))),
        });
    }
    call.context.wait_until_applied().await;
    m::CreatePartitionsResponse::default()
        .with_throttle_time_ms(mutations.throttle_ms())
        .with_results(results)
}
