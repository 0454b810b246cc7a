//! Answers of group coordinators in which Apache Kafka 4.3.1 differed when it was asked the same.

use std::time::Duration;

use kafka_protocol::messages as m;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use strandline_tests::topic_name;
use strandline_wire::ErrorCode;

use super::*;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group(id: &str) -> m::GroupId {
    m::GroupId(text(id))
}

/// A broker with the topic `t` and a coordinator that answers.
async fn start() -> (TestBroker, Connection) {
    let broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    let request = m::FindCoordinatorRequest::default().with_key(text("g"));
    let answer: m::FindCoordinatorResponse = connection
        .call(ApiKey::FindCoordinator, 3, &request)
        .await
        .unwrap();
    assert_eq!(answer.error_code, 0);
    // Kafka's text for no error.
    assert_eq!(answer.error_message, Some(text("NONE")));
    (broker, connection)
}

/// Commits one position as that member; waits while the coordinator loads.
async fn commit(
    connection: &mut Connection,
    version: i16,
    id: &str,
    (generation, member, instance): (i32, &str, Option<&str>),
) -> ErrorCode {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(7);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    let request = m::OffsetCommitRequest::default()
        .with_group_id(group(id))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text(member))
        .with_group_instance_id(instance.map(text))
        .with_topics(vec![topic]);
    loop {
        let answer: m::OffsetCommitResponse = connection
            .call(ApiKey::OffsetCommit, version, &request)
            .await
            .unwrap();
        let code = ErrorCode::from_code(answer.topics[0].partitions[0].error_code).unwrap();
        if code != ErrorCode::NotCoordinator {
            return code;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_to_absent_and_empty_groups_are_taken_as_kafka_takes_them() {
    let (mut broker, mut connection) = start().await;
    let c = &mut connection;
    let absent = (3, "m", None);
    for (version, code) in [
        (8, ErrorCode::IllegalGeneration),
        (9, ErrorCode::GroupIdNotFound),
    ] {
        assert_eq!(commit(c, version, "absent", absent).await, code);
    }
    // An empty group takes the commit of whoever has no generation.
    for sender in [
        (-1, "", None),
        (-1, "somebody", None),
        (-1, "somebody", Some("instance")),
        (-1, "", Some("instance")),
    ] {
        assert_eq!(commit(c, 9, "g", sender).await, ErrorCode::None);
    }
    // The empty group id is one like others for positions.
    let anybody = (-1, "m", None);
    assert_eq!(commit(c, 9, "", anybody).await, ErrorCode::None);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_empty_group_id_is_refused_by_name() {
    let (mut broker, mut connection) = start().await;
    let c = &mut connection;
    let refused = ErrorCode::InvalidGroupId.code();
    let heartbeat = m::HeartbeatRequest::default();
    let answer: m::HeartbeatResponse = c.call(ApiKey::Heartbeat, 4, &heartbeat).await.unwrap();
    assert_eq!(answer.error_code, refused);
    let sync = m::SyncGroupRequest::default()
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")));
    let answer: m::SyncGroupResponse = c.call(ApiKey::SyncGroup, 5, &sync).await.unwrap();
    assert_eq!(answer.error_code, refused);
    let member = MemberIdentity::default().with_member_id(text("m"));
    let leave = m::LeaveGroupRequest::default().with_members(vec![member]);
    let answer: m::LeaveGroupResponse = c.call(ApiKey::LeaveGroup, 5, &leave).await.unwrap();
    assert_eq!((answer.error_code, answer.members.len()), (refused, 0));
    let delete = m::OffsetDeleteRequest::default();
    let answer: m::OffsetDeleteResponse = c.call(ApiKey::OffsetDelete, 0, &delete).await.unwrap();
    assert_eq!(answer.error_code, refused);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_of_what_does_not_exist_are_not_deleted() {
    let (mut broker, mut connection) = start().await;
    let c = &mut connection;
    assert_eq!(commit(c, 9, "g", (-1, "", None)).await, ErrorCode::None);
    let topic = |topic: &str, partitions: &[i32]| {
        let partitions = partitions
            .iter()
            .map(|p| OffsetDeleteRequestPartition::default().with_partition_index(*p));
        OffsetDeleteRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.collect())
    };
    let request = m::OffsetDeleteRequest::default()
        .with_group_id(group("g"))
        .with_topics(vec![topic("absent", &[0]), topic("t", &[0, 9])]);
    let answer: m::OffsetDeleteResponse = c.call(ApiKey::OffsetDelete, 0, &request).await.unwrap();
    assert_eq!(answer.error_code, 0);
    let codes = answer.topics.iter().flat_map(|t| &t.partitions);
    let codes: Vec<i16> = codes.map(|p| p.error_code).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(codes, [unknown, 0, unknown]);
    broker.stop().await;
}

fn join(member: &str) -> m::JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"\0\x01\0\0\0\0\xff\xff\xff\xff"));
    m::JoinGroupRequest::default()
        .with_group_id(group("g"))
        .with_member_id(text(member))
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// Joins `g` as a new member, version 3: without a round for the member id.
async fn joined(connection: &mut Connection) -> m::JoinGroupResponse {
    loop {
        let answer: m::JoinGroupResponse = connection
            .call(ApiKey::JoinGroup, 3, &join(""))
            .await
            .unwrap();
        if answer.error_code != ErrorCode::NotCoordinator.code() {
            assert_eq!(answer.error_code, 0);
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_rebalances_shows_the_assignments_before() {
    let (mut broker, mut connection) = start().await;
    let c = &mut connection;
    let member = joined(c).await;
    let assigned = Bytes::from_static(b"all of it");
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(member.member_id.clone())
        .with_assignment(assigned.clone());
    let mut sync = m::SyncGroupRequest::default()
        .with_group_id(group("g"))
        .with_generation_id(member.generation_id)
        .with_member_id(member.member_id.clone())
        .with_assignments(vec![assignment]);
    // Mandatory since version 5.
    let answer: m::SyncGroupResponse = c.call(ApiKey::SyncGroup, 5, &sync).await.unwrap();
    let refused = ErrorCode::InconsistentGroupProtocol.code();
    assert_eq!(answer.error_code, refused);
    sync.protocol_type = Some(text("consumer"));
    sync.protocol_name = Some(text("range"));
    let answer: m::SyncGroupResponse = c.call(ApiKey::SyncGroup, 5, &sync).await.unwrap();
    assert_eq!((answer.error_code, &answer.assignment), (0, &assigned));
    let mut second = Connection::open(&broker.address()).await.unwrap();
    let joining = tokio::spawn(async move { joined(&mut second).await });
    let describe = m::DescribeGroupsRequest::default().with_groups(vec![group("g")]);
    let described = loop {
        let mut answer: m::DescribeGroupsResponse =
            c.call(ApiKey::DescribeGroups, 5, &describe).await.unwrap();
        let found = answer.groups.remove(0);
        if found.group_state.as_str() == "PreparingRebalance" {
            break found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let first = described.members.iter();
    let mut first = first.filter(|m| m.member_id == member.member_id);
    let first = first.next().unwrap();
    assert_eq!(first.member_assignment, assigned);
    assert_eq!(first.member_metadata, Bytes::new());
    let again: m::JoinGroupResponse = c
        .call(ApiKey::JoinGroup, 3, &join(&member.member_id))
        .await
        .unwrap();
    assert_eq!((again.error_code, again.members.len()), (0, 2));
    let other = joining.await.unwrap();
    assert_eq!(other.generation_id, again.generation_id);
    broker.stop().await;
}
