//! Consumer groups: requests in Kafka's words to commands of the coordinator, and its replies back.

use kafka_protocol::messages as m;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use strandline_coordinator::{
    CommitPartition, JoinRequest, LeaveMember, MemberIdentity, OffsetAndMetadata, Reply,
    SyncRequest,
};
use strandline_types::{Now, OFFSETS_TOPIC, TopicPartition};
use strandline_wire::{ErrorCode, StrBytes};
use uuid::Uuid;

use super::{Call, operations, text};
use crate::clock::now_ms;
use crate::groups::partition_for;

const GROUP_KEY: i8 = 0;
const TRANSACTION_KEY: i8 = 1;

pub async fn find_coordinator(
    call: &Call,
    request: m::FindCoordinatorRequest,
) -> m::FindCoordinatorResponse {
    if call.version >= 4 {
        let mut coordinators = Vec::new();
        for key in request.coordinator_keys {
            let found = locate(call, request.key_type, &key).await;
            let answer = Coordinator::default().with_key(key);
            coordinators.push(match found {
                Ok((id, host, port)) => answer
                    .with_node_id(m::BrokerId(id))
                    .with_host(text(host))
                    .with_port(port)
                    .with_error_message(Some(StrBytes::default())),
                Err((code, reason)) => answer
                    .with_node_id(m::BrokerId(-1))
                    .with_port(-1)
                    .with_error_code(code.code())
                    .with_error_message(Some(text(reason))),
            });
        }
        return m::FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let answer = m::FindCoordinatorResponse::default();
    match locate(call, request.key_type, &request.key).await {
        Ok((id, host, port)) => answer
            .with_node_id(m::BrokerId(id))
            .with_host(text(host))
            .with_port(port),
        Err((code, reason)) => answer
            .with_node_id(m::BrokerId(-1))
            .with_port(-1)
            .with_error_code(code.code())
            .with_error_message(Some(text(reason))),
    }
}

async fn locate(
    call: &Call,
    key_type: i8,
    key: &str,
) -> Result<(i32, String, i32), (ErrorCode, String)> {
    match key_type {
        GROUP_KEY => {}
        TRANSACTION_KEY => {
            return Err((
                ErrorCode::InvalidRequest,
                "transactions are not supported yet".into(),
            ));
        }
        other => {
            return Err((
                ErrorCode::InvalidRequest,
                format!("unknown key type {other}"),
            ));
        }
    }
    let unavailable = |reason: &str| (ErrorCode::CoordinatorNotAvailable, reason.to_owned());
    call.context
        .ensure_offsets_topic()
        .await
        .map_err(|code| (code, "the offsets topic is not there".into()))?;
    let image = call.context.quorum.image();
    let topic = image
        .topic(OFFSETS_TOPIC)
        .ok_or_else(|| unavailable("the offsets topic is not there"))?;
    let number = partition_for(key, topic.partitions.len() as i32);
    let leader = topic.partitions.get(&number).and_then(|p| p.leader);
    let broker = leader.and_then(|id| image.brokers.get(&id));
    let broker = broker.ok_or_else(|| unavailable("the coordinator has no broker"))?;
    let endpoint = call
        .context
        .advertised_endpoint(broker, &call.peer.listener);
    let (host, port) =
        endpoint.ok_or_else(|| unavailable("the coordinator has no endpoint here"))?;
    Ok((broker.id.0, host, port))
}

/// The partition that keeps a group; `NOT_COORDINATOR` where there is none.
fn home(call: &Call, group: &str) -> Result<i32, ErrorCode> {
    let image = call.context.quorum.image();
    let topic = image
        .topic(OFFSETS_TOPIC)
        .ok_or(ErrorCode::NotCoordinator)?;
    Ok(partition_for(group, topic.partitions.len() as i32))
}

async fn ask(
    call: &Call,
    group: &str,
    command: impl FnOnce(
        &mut strandline_coordinator::GroupCoordinator,
        strandline_coordinator::Token,
        Now,
    ) -> strandline_coordinator::Outcome
    + Send
    + 'static,
) -> Result<Reply, ErrorCode> {
    call.context
        .groups
        .command(home(call, group)?, command)
        .await
}

fn string(value: &StrBytes) -> String {
    value.to_string()
}

fn optional(value: Option<&StrBytes>) -> Option<String> {
    value.map(string)
}

pub async fn join_group(call: &Call, request: m::JoinGroupRequest) -> m::JoinGroupResponse {
    let group = request.group_id.to_string();
    // Before version 1 the session timeout was both.
    let rebalance = if call.version >= 1 {
        request.rebalance_timeout_ms
    } else {
        request.session_timeout_ms
    };
    let join = JoinRequest {
        group: group.clone(),
        member_id: string(&request.member_id),
        instance_id: optional(request.group_instance_id.as_ref()),
        client_id: string(&call.client_id),
        client_host: call.peer.host.to_string(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: rebalance,
        protocol_type: string(&request.protocol_type),
        protocols: request
            .protocols
            .into_iter()
            .map(|p| (string(&p.name), p.metadata))
            .collect(),
        require_known_member_id: call.version >= 4,
        new_member_suffix: Uuid::new_v4().to_string(),
    };
    let reply = ask(call, &group, move |c, token, now| c.join(token, join, now)).await;
    let answer = m::JoinGroupResponse::default();
    match reply {
        Ok(Reply::Join {
            error,
            generation,
            protocol_type,
            protocol,
            leader,
            member_id,
            members,
        }) => {
            let members = members.into_iter().map(|member| {
                JoinGroupResponseMember::default()
                    .with_member_id(text(member.member_id))
                    .with_group_instance_id(member.instance_id.map(text))
                    .with_metadata(member.metadata)
            });
            // Null is allowed from version 7 on.
            let protocol = match protocol {
                None if call.version < 7 => Some(String::new()),
                other => other,
            };
            answer
                .with_error_code(error.code())
                .with_generation_id(generation)
                .with_protocol_type(protocol_type.map(text))
                .with_protocol_name(protocol.map(text))
                .with_leader(text(leader))
                .with_member_id(text(member_id))
                .with_members(members.collect())
        }
        other => answer
            .with_error_code(failure(other).code())
            .with_generation_id(-1)
            .with_protocol_name(Some(StrBytes::default())),
    }
}

fn failure(reply: Result<Reply, ErrorCode>) -> ErrorCode {
    reply.err().unwrap_or(ErrorCode::UnknownServerError)
}

pub async fn sync_group(call: &Call, request: m::SyncGroupRequest) -> m::SyncGroupResponse {
    let group = request.group_id.to_string();
    let sync = SyncRequest {
        group: group.clone(),
        member: MemberIdentity {
            member_id: string(&request.member_id),
            instance_id: optional(request.group_instance_id.as_ref()),
            generation: request.generation_id,
        },
        protocol_type: optional(request.protocol_type.as_ref()),
        protocol: optional(request.protocol_name.as_ref()),
        assignments: request
            .assignments
            .into_iter()
            .map(|a| (string(&a.member_id), a.assignment))
            .collect(),
    };
    match ask(call, &group, move |c, token, now| c.sync(token, sync, now)).await {
        Ok(Reply::Sync {
            error,
            protocol_type,
            protocol,
            assignment,
        }) => m::SyncGroupResponse::default()
            .with_error_code(error.code())
            .with_protocol_type(protocol_type.map(text))
            .with_protocol_name(protocol.map(text))
            .with_assignment(assignment),
        other => m::SyncGroupResponse::default().with_error_code(failure(other).code()),
    }
}

pub async fn heartbeat(call: &Call, request: m::HeartbeatRequest) -> m::HeartbeatResponse {
    let group = request.group_id.to_string();
    let member = MemberIdentity {
        member_id: string(&request.member_id),
        instance_id: optional(request.group_instance_id.as_ref()),
        generation: request.generation_id,
    };
    let asked = group.clone();
    let reply = ask(call, &group, move |c, token, now| {
        let error = c.heartbeat(&asked, &member, now);
        strandline_coordinator::Outcome {
            replies: vec![(token, Reply::Heartbeat(error))],
            ..strandline_coordinator::Outcome::default()
        }
    });
    let error = match reply.await {
        Ok(Reply::Heartbeat(error)) => error,
        other => failure(other),
    };
    m::HeartbeatResponse::default().with_error_code(error.code())
}

pub async fn leave_group(call: &Call, request: m::LeaveGroupRequest) -> m::LeaveGroupResponse {
    let group = request.group_id.to_string();
    let members: Vec<LeaveMember> = if call.version >= 3 {
        let leaving = request.members.iter().map(|member| LeaveMember {
            member_id: string(&member.member_id),
            instance_id: optional(member.group_instance_id.as_ref()),
        });
        leaving.collect()
    } else {
        vec![LeaveMember {
            member_id: string(&request.member_id),
            instance_id: None,
        }]
    };
    let (asked, leaving) = (group.clone(), members.clone());
    let reply = ask(call, &group, move |c, token, now| {
        c.leave(token, &asked, &leaving, now)
    })
    .await;
    let answer = m::LeaveGroupResponse::default();
    match reply {
        Ok(Reply::Leave {
            error,
            members: results,
        }) => {
            if call.version < 3 {
                let first = results.first().copied().unwrap_or(error);
                return answer.with_error_code(first.code());
            }
            let each = members.into_iter().zip(results).map(|(member, code)| {
                MemberResponse::default()
                    .with_member_id(text(member.member_id))
                    .with_group_instance_id(member.instance_id.map(text))
                    .with_error_code(code.code())
            });
            answer
                .with_error_code(error.code())
                .with_members(each.collect())
        }
        other => answer.with_error_code(failure(other).code()),
    }
}

/// A partition, and its code where that is known without the coordinator.
type KnownCode = (i32, Option<ErrorCode>);

pub async fn offset_commit(
    call: &Call,
    request: m::OffsetCommitRequest,
) -> m::OffsetCommitResponse {
    let group = request.group_id.to_string();
    let member = MemberIdentity {
        member_id: string(&request.member_id),
        instance_id: optional(request.group_instance_id.as_ref()),
        generation: request.generation_id_or_member_epoch,
    };
    let image = call.context.quorum.image();
    let now = now_ms();
    let mut commits = Vec::new();
    // In the order of the request: a code that is known already, or `None` for what the coordinator decides.
    let mut known: Vec<(m::TopicName, Vec<KnownCode>)> = Vec::new();
    for topic in request.topics {
        let mut partitions = Vec::new();
        for p in topic.partitions {
            let exists = image
                .topic(&topic.name)
                .is_some_and(|t| t.partitions.contains_key(&p.partition_index));
            partitions.push((
                p.partition_index,
                (!exists).then_some(ErrorCode::UnknownTopicOrPartition),
            ));
            if exists {
                commits.push(CommitPartition {
                    topic: topic.name.to_string(),
                    partition: p.partition_index,
                    offset: OffsetAndMetadata {
                        offset: p.committed_offset,
                        leader_epoch: p.committed_leader_epoch,
                        metadata: p
                            .committed_metadata
                            .as_ref()
                            .map(string)
                            .unwrap_or_default(),
                        commit_timestamp_ms: now,
                    },
                });
            }
        }
        known.push((topic.name, partitions));
    }
    let count = commits.len();
    let asked = group.clone();
    let mut decided = if group.is_empty() && !member.member_id.is_empty() {
        vec![ErrorCode::InvalidGroupId; count]
    } else if count == 0 {
        Vec::new()
    } else {
        match ask(call, &group, move |c, token, now| {
            c.commit_offsets(token, &asked, &member, commits, now)
        })
        .await
        {
            Ok(Reply::OffsetCommit(codes)) => codes,
            other => vec![failure(other); count],
        }
    }
    .into_iter();
    let topics = known.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, code)| {
            let code = code
                .or_else(|| decided.next())
                .unwrap_or(ErrorCode::UnknownServerError);
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code.code())
        });
        OffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    m::OffsetCommitResponse::default().with_topics(topics.collect())
}

/// Topics and partitions of one group in the order of the request; `None` asks for everything.
type Wanted = Option<Vec<(m::TopicName, Vec<i32>)>>;
type Committed = Vec<(m::TopicName, Vec<(i32, Option<OffsetAndMetadata>)>)>;

async fn committed(call: &Call, group: &str, wanted: Wanted) -> Result<Committed, ErrorCode> {
    let partition = home(call, group)?;
    let asked = group.to_owned();
    let query = move |c: &strandline_coordinator::GroupCoordinator| {
        if let Some(topics) = wanted {
            topics
                .into_iter()
                .map(|(name, partitions)| {
                    let found = partitions.into_iter().map(|p| {
                        (
                            p,
                            c.offset(&asked, &TopicPartition::new(name.as_str(), p))
                                .cloned(),
                        )
                    });
                    let found = found.collect();
                    (name, found)
                })
                .collect()
        } else {
            let mut all: Committed = Vec::new();
            for (tp, offset) in c.offsets(&asked) {
                let entry = (tp.partition, Some(offset.clone()));
                match all.last_mut() {
                    Some((name, partitions)) if name.as_str() == &*tp.topic => {
                        partitions.push(entry);
                    }
                    _ => all.push((m::TopicName(text(tp.topic.to_string())), vec![entry])),
                }
            }
            all
        }
    };
    call.context.groups.query(partition, query).await
}

pub async fn offset_fetch(call: &Call, request: m::OffsetFetchRequest) -> m::OffsetFetchResponse {
    if call.version >= 8 {
        let mut groups = Vec::new();
        for asked in request.groups {
            let wanted = asked.topics.map(|topics| {
                topics
                    .into_iter()
                    .map(|t| (t.name, t.partition_indexes))
                    .collect()
            });
            let answer = OffsetFetchResponseGroup::default().with_group_id(asked.group_id.clone());
            groups.push(match committed(call, &asked.group_id, wanted).await {
                Ok(found) => {
                    let topics = found.into_iter().map(|(name, partitions)| {
                        let partitions = partitions.into_iter().map(|(index, offset)| {
                            let (offset, epoch, metadata) = parts(offset);
                            OffsetFetchResponsePartitions::default()
                                .with_partition_index(index)
                                .with_committed_offset(offset)
                                .with_committed_leader_epoch(epoch)
                                .with_metadata(Some(text(metadata)))
                        });
                        OffsetFetchResponseTopics::default()
                            .with_name(name)
                            .with_partitions(partitions.collect())
                    });
                    answer.with_topics(topics.collect())
                }
                Err(code) => answer.with_error_code(code.code()),
            });
        }
        return m::OffsetFetchResponse::default().with_groups(groups);
    }
    let wanted = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|t| (t.name, t.partition_indexes))
            .collect::<Vec<_>>()
    });
    match committed(call, &request.group_id, wanted.clone()).await {
        Ok(found) => {
            let topics = found.into_iter().map(|(name, partitions)| {
                let partitions = partitions.into_iter().map(|(index, offset)| {
                    let (offset, epoch, metadata) = parts(offset);
                    OffsetFetchResponsePartition::default()
                        .with_partition_index(index)
                        .with_committed_offset(offset)
                        .with_committed_leader_epoch(epoch)
                        .with_metadata(Some(text(metadata)))
                });
                OffsetFetchResponseTopic::default()
                    .with_name(name)
                    .with_partitions(partitions.collect())
            });
            m::OffsetFetchResponse::default().with_topics(topics.collect())
        }
        Err(code) if call.version >= 2 => {
            m::OffsetFetchResponse::default().with_error_code(code.code())
        }
        Err(code) => {
            // Version 1 has no error of its own; every partition carries it.
            let topics = wanted
                .unwrap_or_default()
                .into_iter()
                .map(|(name, partitions)| {
                    let partitions = partitions.into_iter().map(|index| {
                        OffsetFetchResponsePartition::default()
                            .with_partition_index(index)
                            .with_committed_offset(-1)
                            .with_metadata(Some(StrBytes::default()))
                            .with_error_code(code.code())
                    });
                    OffsetFetchResponseTopic::default()
                        .with_name(name)
                        .with_partitions(partitions.collect())
                });
            m::OffsetFetchResponse::default().with_topics(topics.collect())
        }
    }
}

fn parts(offset: Option<OffsetAndMetadata>) -> (i64, i32, String) {
    offset.map_or((-1, -1, String::new()), |o| {
        (o.offset, o.leader_epoch, o.metadata)
    })
}

pub async fn offset_delete(
    call: &Call,
    request: m::OffsetDeleteRequest,
) -> m::OffsetDeleteResponse {
    let group = request.group_id.to_string();
    let partitions: Vec<TopicPartition> = request
        .topics
        .iter()
        .flat_map(|t| {
            t.partitions
                .iter()
                .map(|p| TopicPartition::new(t.name.as_str(), p.partition_index))
        })
        .collect();
    let asked = group.clone();
    let reply = ask(call, &group, move |c, token, _| {
        c.delete_offsets(token, &asked, &partitions)
    })
    .await;
    let (error, codes) = match reply {
        Ok(Reply::OffsetDelete(error, codes)) => (error, codes),
        other => (failure(other), Vec::new()),
    };
    if error != ErrorCode::None {
        return m::OffsetDeleteResponse::default().with_error_code(error.code());
    }
    let mut codes = codes.into_iter();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|p| {
            let code = codes.next().unwrap_or(ErrorCode::UnknownServerError);
            OffsetDeleteResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_error_code(code.code())
        });
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name)
            .with_partitions(partitions.collect())
    });
    m::OffsetDeleteResponse::default().with_topics(topics.collect())
}

pub async fn describe_groups(
    call: &Call,
    request: m::DescribeGroupsRequest,
) -> m::DescribeGroupsResponse {
    let mut groups = Vec::new();
    for id in request.groups {
        let answer = DescribedGroup::default()
            .with_group_id(id.clone())
            .with_authorized_operations(operations::NOT_ASKED);
        let found = match home(call, &id) {
            Ok(partition) => {
                let asked = id.to_string();
                call.context
                    .groups
                    .query(partition, move |c| c.describe(&asked))
                    .await
            }
            Err(code) => Err(code),
        };
        groups.push(match found {
            Ok(Some(group)) => {
                let members = group.members.into_iter().map(|member| {
                    DescribedGroupMember::default()
                        .with_member_id(text(member.member_id))
                        .with_group_instance_id(member.instance_id.map(text))
                        .with_client_id(text(member.client_id))
                        .with_client_host(text(member.client_host))
                        .with_member_metadata(member.metadata)
                        .with_member_assignment(member.assignment)
                });
                answer
                    .with_group_state(text(group.state.name()))
                    .with_protocol_type(text(group.protocol_type))
                    .with_protocol_data(text(group.protocol))
                    .with_members(members.collect())
                    .with_authorized_operations(if request.include_authorized_operations {
                        operations::GROUP
                    } else {
                        operations::NOT_ASKED
                    })
            }
            // Before version 6 a group that is not there is a dead one; since then it is an error (KIP-1043).
            Ok(None) if call.version >= 6 => answer
                .with_error_code(ErrorCode::GroupIdNotFound.code())
                .with_error_message(Some(text(format!("Group {} not found.", id.as_str()))))
                .with_group_state(text("Dead")),
            Ok(None) => answer.with_group_state(text("Dead")),
            Err(code) => answer.with_error_code(code.code()),
        });
    }
    m::DescribeGroupsResponse::default().with_groups(groups)
}

pub async fn list_groups(call: &Call, request: m::ListGroupsRequest) -> m::ListGroupsResponse {
    const CLASSIC: &str = "classic";
    let same = |a: &str, b: &StrBytes| a.eq_ignore_ascii_case(b.as_str());
    let wanted_type =
        request.types_filter.is_empty() || request.types_filter.iter().any(|t| same(CLASSIC, t));
    let mut groups = Vec::new();
    let mut error = ErrorCode::None;
    for partition in call.context.groups.partitions() {
        let listed = call
            .context
            .groups
            .query(partition, |c| c.list().collect::<Vec<_>>())
            .await;
        match listed {
            Ok(listed) => groups.extend(listed),
            Err(code) => error = code,
        }
    }
    let shown = groups
        .into_iter()
        .filter(|g| {
            let state = request.states_filter.is_empty()
                || request
                    .states_filter
                    .iter()
                    .any(|s| same(g.state.name(), s));
            state && wanted_type
        })
        .map(|g| {
            ListedGroup::default()
                .with_group_id(m::GroupId(text(g.group)))
                .with_protocol_type(text(g.protocol_type))
                .with_group_state(text(g.state.name()))
                .with_group_type(text(CLASSIC))
        });
    m::ListGroupsResponse::default()
        .with_error_code(error.code())
        .with_groups(shown.collect())
}

pub async fn delete_groups(
    call: &Call,
    request: m::DeleteGroupsRequest,
) -> m::DeleteGroupsResponse {
    let mut results = Vec::new();
    for id in request.groups_names {
        let asked = id.to_string();
        let code = match ask(call, &id, move |c, token, _| c.delete_group(token, &asked)).await {
            Ok(Reply::Delete(code)) => code,
            other => failure(other),
        };
        results.push(
            DeletableGroupResult::default()
                .with_group_id(id)
                .with_error_code(code.code()),
        );
    }
    m::DeleteGroupsResponse::default().with_results(results)
}
