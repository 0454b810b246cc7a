//! `JoinGroup`, `SyncGroup`, `Heartbeat`, `LeaveGroup`.

use bytes::Bytes;
use kafka_protocol::messages as m;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use strandline_coordinator::{JoinRequest, LeaveMember, MemberIdentity, Reply, SyncRequest};
use strandline_wire::{ErrorCode, StrBytes};
use uuid::Uuid;

use super::super::{Call, text};
use super::{ask, failure, optional, string};

/// The part of a request that its group keeps, in memory of its own.
fn join_request(call: &Call, request: m::JoinGroupRequest) -> JoinRequest {
    // Before version 1 the session timeout was both.
    let rebalance = if call.version >= 1 {
        request.rebalance_timeout_ms
    } else {
        request.session_timeout_ms
    };
    JoinRequest {
        group: request.group_id.to_string(),
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
            .map(|p| (string(&p.name), Bytes::copy_from_slice(&p.metadata)))
            .collect(),
        require_known_member_id: call.version >= 4,
        new_member_suffix: Uuid::new_v4().to_string(),
    }
}

pub async fn join_group(call: &Call, request: m::JoinGroupRequest) -> m::JoinGroupResponse {
    let group = request.group_id.to_string();
    // A member may wait for minutes, and its request's bytes must not.
    let join = join_request(call, request);
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

fn sync_request(request: m::SyncGroupRequest) -> SyncRequest {
    SyncRequest {
        group: request.group_id.to_string(),
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
            .map(|a| {
                let assignment = Bytes::copy_from_slice(&a.assignment);
                (string(&a.member_id), assignment)
            })
            .collect(),
    }
}

pub async fn sync_group(call: &Call, request: m::SyncGroupRequest) -> m::SyncGroupResponse {
    let group = request.group_id.to_string();
    let refuse = |code: ErrorCode| m::SyncGroupResponse::default().with_error_code(code.code());
    // Mandatory since version 5 (KIP-559).
    let named = request.protocol_type.is_some() && request.protocol_name.is_some();
    if call.version >= 5 && !named {
        return refuse(ErrorCode::InconsistentGroupProtocol);
    }
    if group.is_empty() {
        return refuse(ErrorCode::InvalidGroupId);
    }
    let sync = sync_request(request);
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
        other => refuse(failure(other)),
    }
}

pub async fn heartbeat(call: &Call, request: m::HeartbeatRequest) -> m::HeartbeatResponse {
    let group = request.group_id.to_string();
    if group.is_empty() {
        return m::HeartbeatResponse::default().with_error_code(ErrorCode::InvalidGroupId.code());
    }
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
    if group.is_empty() {
        return m::LeaveGroupResponse::default().with_error_code(ErrorCode::InvalidGroupId.code());
    }
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
