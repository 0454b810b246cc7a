//! The metadata quorum as operators see it: `DescribeQuorum`, `AddRaftVoter`, `RemoveRaftVoter`.

use std::time::Duration;

use kafka_protocol::messages as m;
use kafka_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use strandline_metadata::METADATA_TOPIC;
use strandline_quorum::{MemberProgress, VoterChange, VoterRefusal};
use strandline_wire::ErrorCode;

use super::{Call, text};

/// `RemoveRaftVoter` names no time-out of its own.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(20);

pub async fn describe_quorum(
    call: &Call,
    request: m::DescribeQuorumRequest,
) -> m::DescribeQuorumResponse {
    let described = call.context.quorum.describe().await;
    let now = crate::clock::now_ms();
    let replica = |progress: &MemberProgress| {
        let heard = progress.silent_ms.map_or(-1, |ms| now - ms);
        let replica = ReplicaState::default()
            .with_replica_id(m::BrokerId(progress.node_id))
            .with_log_end_offset(progress.log_end_offset)
            .with_last_fetch_timestamp(heard)
            .with_last_caught_up_timestamp(heard);
        if call.version >= 2 {
            replica.with_replica_directory_id(progress.directory_id)
        } else {
            replica
        }
    };
    let describe = |topic: m::describe_quorum_request::TopicData| {
        let partitions = topic.partitions.iter().map(|p| {
            let answer = PartitionData::default().with_partition_index(p.partition_index);
            if topic.topic_name.as_str() != METADATA_TOPIC || p.partition_index != 0 {
                return answer.with_error_code(ErrorCode::UnknownTopicOrPartition.code());
            }
            let Some(quorum) = &described else {
                return answer.with_error_code(ErrorCode::LeaderNotAvailable.code());
            };
            answer
                .with_leader_id(m::BrokerId(quorum.leader))
                .with_leader_epoch(quorum.epoch)
                .with_high_watermark(quorum.high_watermark)
                .with_current_voters(quorum.voters.iter().map(replica).collect())
                .with_observers(quorum.observers.iter().map(replica).collect())
        });
        TopicData::default()
            .with_topic_name(topic.topic_name.clone())
            .with_partitions(partitions.collect())
    };
    let answer = m::DescribeQuorumResponse::default()
        .with_topics(request.topics.into_iter().map(describe).collect());
    if call.version < 2 {
        return answer;
    }
    let members = described
        .iter()
        .flat_map(|q| q.voters.iter().chain(&q.observers));
    let controllers = members.filter_map(|member| {
        let (host, port) = member.address.rsplit_once(':')?;
        let listener = Listener::default()
            .with_name(text(call.context.settings.controller_listener_name()))
            .with_host(text(host))
            .with_port(port.parse().ok()?);
        let node = Node::default().with_node_id(m::BrokerId(member.node_id));
        Some(node.with_listeners(vec![listener]))
    });
    answer.with_nodes(controllers.collect())
}

/// Adds a controller to the voters (KIP-853). Its address is the one that it has introduced itself with; the listeners in
/// the request are for clusters whose controllers do not.
pub async fn add_raft_voter(
    call: &Call,
    request: m::AddRaftVoterRequest,
) -> m::AddRaftVoterResponse {
    let timeout = Duration::from_millis(request.timeout_ms.max(0) as u64);
    let change = VoterChange {
        node_id: request.voter_id,
        directory_id: request.voter_directory_id,
        votes: true,
        timeout,
    };
    let (code, message) = change_voter(call, request.cluster_id.as_deref(), change).await;
    m::AddRaftVoterResponse::default()
        .with_error_code(code.code())
        .with_error_message(message.map(text))
}

pub async fn remove_raft_voter(
    call: &Call,
    request: m::RemoveRaftVoterRequest,
) -> m::RemoveRaftVoterResponse {
    let change = VoterChange {
        node_id: request.voter_id,
        directory_id: request.voter_directory_id,
        votes: false,
        timeout: REMOVE_TIMEOUT,
    };
    let (code, message) = change_voter(call, request.cluster_id.as_deref(), change).await;
    m::RemoveRaftVoterResponse::default()
        .with_error_code(code.code())
        .with_error_message(message.map(text))
}

async fn change_voter(
    call: &Call,
    cluster_id: Option<&str>,
    change: VoterChange,
) -> (ErrorCode, Option<String>) {
    let quorum = &call.context.quorum;
    let image = quorum.image();
    let own = image.cluster_id.as_deref().unwrap_or_default();
    if let Some(given) = cluster_id.filter(|given| *given != own) {
        let message = format!("The given id \"{given}\" doesn't match the cluster id \"{own}\"");
        return (ErrorCode::InconsistentClusterId, Some(message));
    }
    let Err(refusal) = quorum.change_voter(change).await else {
        return (ErrorCode::None, None);
    };
    let code = match &refusal {
        VoterRefusal::Duplicate(_) => ErrorCode::DuplicateVoter,
        VoterRefusal::NotFound(_) => ErrorCode::VoterNotFound,
        VoterRefusal::Invalid(_) => ErrorCode::InvalidRequest,
        VoterRefusal::TimedOut(_) => ErrorCode::RequestTimedOut,
        VoterRefusal::NotLeader => ErrorCode::NotLeaderOrFollower,
    };
    (code, Some(refusal.to_string()))
}
