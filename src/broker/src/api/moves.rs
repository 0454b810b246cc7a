//! `ElectLeaders`, `AlterPartitionReassignments`, `ListPartitionReassignments`, `UnregisterBroker`.

use std::collections::BTreeMap;

use kafka_protocol::messages as m;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use strandline_metadata::PartitionImage;
use strandline_metadata::controller::{Answer, Command, ElectionKind, Reassignment, Refusal};
use strandline_types::{BrokerId, TopicPartition};
use strandline_wire::ErrorCode;

use super::{Call, refusal_code, submit_error, text};

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Code and text of one part's result.
fn told(result: &Result<(), Refusal>) -> (ErrorCode, Option<String>) {
    match result {
        Ok(()) => (ErrorCode::None, None),
        Err(refusal) => (refusal_code(refusal), Some(refusal.to_string())),
    }
}

pub async fn elect_leaders(
    call: &Call,
    request: m::ElectLeadersRequest,
) -> m::ElectLeadersResponse {
    let response = m::ElectLeadersResponse::default();
    let refused = |code: ErrorCode| {
        let response = m::ElectLeadersResponse::default();
        if call.version >= 1 {
            response.with_error_code(code.code())
        } else {
            response
        }
    };
    // Version 0 knows preferred leaders only.
    let kind = match request.election_type {
        PREFERRED => ElectionKind::Preferred,
        UNCLEAN => ElectionKind::Unclean,
        _ if call.version == 0 => ElectionKind::Preferred,
        _ => return refused(ErrorCode::InvalidRequest),
    };
    let partitions = request.topic_partitions.map(|topics| {
        let all = topics.iter().flat_map(|t| {
            let name = t.topic.to_string();
            t.partitions
                .iter()
                .map(move |p| TopicPartition::new(name.as_str(), *p))
        });
        all.collect::<Vec<_>>()
    });
    let command = Command::ElectLeaders { kind, partitions };
    let elections = match call.context.submit(command, false).await {
        Ok(change) => match change.answer {
            Answer::Elections(elections) => elections,
            _ => return refused(ErrorCode::UnknownServerError),
        },
        Err(error) => return refused(submit_error(&error).0),
    };
    call.context.wait_until_applied().await;
    let mut topics: BTreeMap<String, Vec<PartitionResult>> = BTreeMap::new();
    for (tp, result) in elections {
        let (code, reason) = told(&result);
        let result = PartitionResult::default()
            .with_partition_id(tp.partition)
            .with_error_code(code.code())
            .with_error_message(reason.map(text));
        topics.entry(tp.topic.to_string()).or_default().push(result);
    }
    let results = topics.into_iter().map(|(topic, partitions)| {
        ReplicaElectionResult::default()
            .with_topic(m::TopicName(text(topic)))
            .with_partition_result(partitions)
    });
    response.with_replica_election_results(results.collect())
}

pub async fn alter_partition_reassignments(
    call: &Call,
    request: m::AlterPartitionReassignmentsRequest,
) -> m::AlterPartitionReassignmentsResponse {
    let response = m::AlterPartitionReassignmentsResponse::default();
    let keeps_factor = call.version >= 1 && !request.allow_replication_factor_change;
    let image = call.context.quorum.image();
    let changes_factor = |topic: &str, partition: i32, replicas: Option<usize>| {
        let state = image
            .topic(topic)
            .and_then(|t| t.partitions.get(&partition));
        let now = state.map(|p| p.replicas.len() - p.adding_replicas.len());
        keeps_factor && replicas.is_some() && now.is_some() && replicas != now
    };
    let mut wishes = Vec::new();
    // Kafka's answer has a place for each asked partition; those that change the factor are refused here.
    let mut asked: Vec<(String, i32, bool)> = Vec::new();
    for topic in request.topics {
        for partition in topic.partitions {
            let name = topic.name.to_string();
            let replicas = partition.replicas.as_ref().map(Vec::len);
            let refused = changes_factor(&name, partition.partition_index, replicas);
            if !refused {
                let replicas = partition
                    .replicas
                    .map(|r| r.into_iter().map(|b| BrokerId(b.0)).collect());
                wishes.push(Reassignment {
                    partition: TopicPartition::new(name.as_str(), partition.partition_index),
                    replicas,
                });
            }
            asked.push((name, partition.partition_index, refused));
        }
    }
    let command = Command::AlterReassignments(wishes);
    let results = match call.context.submit(command, false).await {
        Ok(change) => match change.answer {
            Answer::Results(results) => results,
            _ => Vec::new(),
        },
        Err(error) => {
            let (code, reason) = submit_error(&error);
            return response
                .with_error_code(code.code())
                .with_error_message(Some(text(reason)));
        }
    };
    call.context.wait_until_applied().await;
    let mut results = results.into_iter();
    let mut topics: Vec<ReassignableTopicResponse> = Vec::new();
    for (name, partition, refused) in asked {
        let (code, reason) = if refused {
            let reason = "The replication factor may not change (allow_replication_factor_change).";
            (ErrorCode::InvalidReplicationFactor, Some(reason.to_owned()))
        } else {
            let result = results.next();
            told(&result.unwrap_or(Err(Refusal::NotController)))
        };
        let answer = ReassignablePartitionResponse::default()
            .with_partition_index(partition)
            .with_error_code(code.code())
            .with_error_message(reason.map(text));
        match topics.last_mut() {
            Some(topic) if topic.name.as_str() == name => topic.partitions.push(answer),
            _ => topics.push(
                ReassignableTopicResponse::default()
                    .with_name(m::TopicName(text(name)))
                    .with_partitions(vec![answer]),
            ),
        }
    }
    response.with_error_message(None).with_responses(topics)
}

pub async fn list_partition_reassignments(
    call: &Call,
    request: m::ListPartitionReassignmentsRequest,
) -> m::ListPartitionReassignmentsResponse {
    let image = call.context.quorum.image();
    let asked: Option<BTreeMap<String, Vec<i32>>> = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|t| (t.name.to_string(), t.partition_indexes))
            .collect()
    });
    let wanted = |topic: &str, partition: i32| {
        asked
            .as_ref()
            .is_none_or(|a| a.get(topic).is_some_and(|p| p.contains(&partition)))
    };
    let ids = |ids: &[BrokerId]| ids.iter().map(|b| m::BrokerId(b.0)).collect::<Vec<_>>();
    let described = |(index, p): (&i32, &std::sync::Arc<PartitionImage>)| {
        OngoingPartitionReassignment::default()
            .with_partition_index(*index)
            .with_replicas(ids(&p.replicas))
            .with_adding_replicas(ids(&p.adding_replicas))
            .with_removing_replicas(ids(&p.removing_replicas))
    };
    let topics = image.topics().filter_map(|topic| {
        let moving: Vec<_> = topic
            .partitions
            .iter()
            .filter(|(index, p)| p.is_reassigning() && wanted(&topic.name, **index))
            .map(described)
            .collect();
        (!moving.is_empty()).then(|| {
            OngoingTopicReassignment::default()
                .with_name(m::TopicName(text(topic.name.to_string())))
                .with_partitions(moving)
        })
    });
    m::ListPartitionReassignmentsResponse::default()
        .with_error_message(None)
        .with_topics(topics.collect())
}

pub async fn unregister_broker(
    call: &Call,
    request: m::UnregisterBrokerRequest,
) -> m::UnregisterBrokerResponse {
    let command = Command::UnregisterBroker(BrokerId(request.broker_id.0));
    let response = m::UnregisterBrokerResponse::default();
    match call.context.submit(command, false).await {
        Ok(_) => response.with_error_message(None),
        Err(error) => {
            let (code, reason) = submit_error(&error);
            response
                .with_error_code(code.code())
                .with_error_message(Some(text(reason)))
        }
    }
}
