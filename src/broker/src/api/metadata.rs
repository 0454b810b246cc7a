//! `Metadata` and `DescribeTopicPartitions`.

use std::collections::BTreeSet;

use kafka_protocol::messages as m;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use strandline_metadata::{ClusterImage, PartitionImage, TopicImage};
use strandline_types::{BrokerId, TopicId, is_internal_topic, validate_topic_name};
use strandline_wire::ErrorCode;
use uuid::Uuid;

use super::{Call, operations, text};

fn ids(brokers: &[BrokerId]) -> Vec<m::BrokerId> {
    brokers.iter().map(|b| m::BrokerId(b.0)).collect()
}

pub async fn metadata(call: &Call, request: m::MetadataRequest) -> m::MetadataResponse {
    let everything = match &request.topics {
        None => true,
        Some(topics) => topics.is_empty() && call.version == 0,
    };
    let mut topics = Vec::new();
    let operations_asked = request.include_topic_authorized_operations;
    if everything {
        let image = call.context.quorum.image();
        topics.extend(
            image
                .topics()
                .map(|t| known_topic(call, t, operations_asked)),
        );
    } else {
        let may_create = call.version < 4 || request.allow_auto_topic_creation;
        for asked in chosen(request.topics.unwrap_or_default()) {
            topics.push(asked_topic(call, asked, may_create, operations_asked).await);
        }
    }
    let image = call.context.quorum.image();
    let cluster_operations = if request.include_cluster_authorized_operations {
        operations::CLUSTER
    } else {
        operations::NOT_ASKED
    };
    m::MetadataResponse::default()
        .with_brokers(brokers(call, &image))
        .with_cluster_id(image.cluster_id.clone().map(text))
        .with_controller_id(m::BrokerId(call.context.controller_for_clients()))
        .with_topics(topics)
        .with_cluster_authorized_operations(cluster_operations)
}

/// Topics of a request, each once. As in Kafka, one id makes it a request by ids: names beside ids are ignored. (Kafka's
/// AdminClient sends an empty name with each id.)
fn chosen(topics: Vec<MetadataRequestTopic>) -> Vec<MetadataRequestTopic> {
    let by_id = topics.iter().any(|topic| !topic.topic_id.is_nil());
    let mut seen = BTreeSet::new();
    let mut chosen = Vec::new();
    for topic in topics {
        if by_id && topic.topic_id.is_nil() {
            continue;
        }
        let name = topic.name.filter(|_| !by_id);
        if seen.insert((topic.topic_id, name.clone())) {
            chosen.push(topic_by(topic.topic_id, name));
        }
    }
    chosen
}

fn topic_by(id: Uuid, name: Option<m::TopicName>) -> MetadataRequestTopic {
    MetadataRequestTopic::default()
        .with_topic_id(id)
        .with_name(name)
}

fn brokers(call: &Call, image: &ClusterImage) -> Vec<MetadataResponseBroker> {
    let endpoint = |broker| {
        call.context
            .advertised_endpoint(broker, &call.peer.listener)
    };
    image
        .live_brokers()
        .filter_map(|broker| {
            let (host, port) = endpoint(broker)?;
            Some(
                MetadataResponseBroker::default()
                    .with_node_id(m::BrokerId(broker.id.0))
                    .with_host(text(host))
                    .with_port(port)
                    .with_rack(broker.rack.clone().map(text)),
            )
        })
        .collect()
}

async fn asked_topic(
    call: &Call,
    asked: MetadataRequestTopic,
    may_create: bool,
    operations_asked: bool,
) -> MetadataResponseTopic {
    let failed = |code: ErrorCode| {
        MetadataResponseTopic::default()
            .with_error_code(code.code())
            .with_topic_id(asked.topic_id)
            .with_name(asked.name.clone())
            .with_topic_authorized_operations(operations::NOT_ASKED)
    };
    let Some(name) = &asked.name else {
        let image = call.context.quorum.image();
        return match image.topic_by_id(TopicId(asked.topic_id)) {
            Some(topic) => known_topic(call, topic, operations_asked),
            None => failed(ErrorCode::UnknownTopicId),
        };
    };
    if validate_topic_name(name).is_err() {
        return failed(ErrorCode::InvalidTopicException);
    }
    if call.context.quorum.image().topic(name).is_none() {
        if !(may_create && call.context.config().boolean("auto.create.topics.enable")) {
            return failed(ErrorCode::UnknownTopicOrPartition);
        }
        if let Err(code) = call.context.create_automatically(name).await {
            return failed(code);
        }
    }
    match call.context.quorum.image().topic(name) {
        Some(topic) => known_topic(call, topic, operations_asked),
        None => failed(ErrorCode::UnknownTopicOrPartition),
    }
}

fn known_topic(call: &Call, topic: &TopicImage, operations_asked: bool) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().map(|(index, p)| {
        let error = partition_error(call, topic, *index, p);
        MetadataResponsePartition::default()
            .with_error_code(error.code())
            .with_partition_index(*index)
            .with_leader_id(shown_leader(p, error))
            .with_leader_epoch(p.leader_epoch.0)
            .with_replica_nodes(ids(&p.replicas))
            .with_isr_nodes(ids(&p.isr))
            .with_offline_replicas(offline(call, p))
    });
    MetadataResponseTopic::default()
        .with_name(Some(m::TopicName(text(topic.name.to_string()))))
        .with_topic_id(topic.id.0)
        .with_is_internal(is_internal_topic(&topic.name))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(if operations_asked {
            operations::TOPIC
        } else {
            operations::NOT_ASKED
        })
}

/// Replicas that cannot be read: their broker is fenced, or their disk has failed.
fn offline(call: &Call, partition: &PartitionImage) -> Vec<m::BrokerId> {
    let image = call.context.quorum.image();
    let is_offline = |id: &&BrokerId| {
        partition.offline_replicas.contains(id)
            || image.brokers.get(*id).is_none_or(|broker| broker.fenced)
    };
    let replicas = partition.replicas.iter();
    replicas
        .filter(is_offline)
        .map(|id| m::BrokerId(id.0))
        .collect()
}

fn partition_error(
    call: &Call,
    topic: &TopicImage,
    index: i32,
    partition: &PartitionImage,
) -> ErrorCode {
    let mine = partition.leader.map(|l| l.0) == Some(call.context.node_id());
    // This broker should lead, but its disk has failed or it has stepped aside. Its metadata is then old as well, so
    // answer without a leader: the client asks another broker.
    let cannot = mine
        && call
            .context
            .partitions
            .get(&topic.name, index)
            .is_none_or(|p| p.is_offline() || !p.is_leader());
    if partition.leader.is_none() || cannot {
        ErrorCode::LeaderNotAvailable
    } else {
        ErrorCode::None
    }
}

fn shown_leader(partition: &PartitionImage, error: ErrorCode) -> m::BrokerId {
    let leader = partition.leader.filter(|_| error == ErrorCode::None);
    m::BrokerId(leader.map_or(-1, |l| l.0))
}

pub async fn describe_topic_partitions(
    call: &Call,
    request: m::DescribeTopicPartitionsRequest,
) -> m::DescribeTopicPartitionsResponse {
    const MOST_PARTITIONS: i32 = 2000;
    let image = call.context.quorum.image();
    let mut names: Vec<String> = if request.topics.is_empty() {
        image.topics().map(|t| t.name.to_string()).collect()
    } else {
        request.topics.iter().map(|t| t.name.to_string()).collect()
    };
    names.sort();
    names.dedup();
    let cursor = request
        .cursor
        .as_ref()
        .map(|c| (c.topic_name.to_string(), c.partition_index));
    if let Some((first, _)) = &cursor {
        names.retain(|name| name >= first);
    }
    let mut left = request.response_partition_limit.clamp(1, MOST_PARTITIONS) as usize;
    let mut response = m::DescribeTopicPartitionsResponse::default();
    for name in names {
        let from = match &cursor {
            Some((topic, partition)) if *topic == name => *partition,
            _ => 0,
        };
        let Some(topic) = image.topic(&name) else {
            let code = match validate_topic_name(&name) {
                Ok(()) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            };
            response.topics.push(
                DescribeTopicPartitionsResponseTopic::default()
                    .with_error_code(code.code())
                    .with_name(Some(m::TopicName(text(name))))
                    .with_topic_authorized_operations(operations::NOT_ASKED),
            );
            continue;
        };
        if left == 0 {
            response.next_cursor = Some(next_cursor(&name, from));
            break;
        }
        let wanted = topic.partitions.range(from..);
        let partitions: Vec<_> = wanted
            .take(left)
            .map(|(i, p)| described(call, topic, *i, p))
            .collect();
        left -= partitions.len();
        let next = from + partitions.len() as i32;
        let complete = topic.partitions.range(next..).next().is_none();
        response.topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(m::TopicName(text(name.clone()))))
                .with_topic_id(topic.id.0)
                .with_is_internal(is_internal_topic(&topic.name))
                .with_partitions(partitions)
                .with_topic_authorized_operations(operations::TOPIC),
        );
        if !complete {
            response.next_cursor = Some(next_cursor(&name, next));
            break;
        }
    }
    response
}

fn next_cursor(topic: &str, partition: i32) -> Cursor {
    Cursor::default()
        .with_topic_name(m::TopicName(text(topic)))
        .with_partition_index(partition)
}

fn described(
    call: &Call,
    topic: &TopicImage,
    index: i32,
    partition: &PartitionImage,
) -> DescribeTopicPartitionsResponsePartition {
    let error = partition_error(call, topic, index, partition);
    DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(error.code())
        .with_partition_index(index)
        .with_leader_id(shown_leader(partition, error))
        .with_leader_epoch(partition.leader_epoch.0)
        .with_replica_nodes(ids(&partition.replicas))
        .with_isr_nodes(ids(&partition.isr))
        .with_offline_replicas(offline(call, partition))
        // Empty lists, not null: Kafka's Java client cannot read null here.
        .with_eligible_leader_replicas(Some(ids(&partition.eligible_leader_replicas)))
        .with_last_known_elr(Some(
            partition
                .last_known_leader
                .map(|l| m::BrokerId(l.0))
                .into_iter()
                .collect(),
        ))
}
