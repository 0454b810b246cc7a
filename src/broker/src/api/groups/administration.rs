//! `DescribeGroups`, `ListGroups`, `DeleteGroups`.

use kafka_protocol::messages as m;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use strandline_coordinator::Reply;
use strandline_wire::{ErrorCode, StrBytes};

use super::super::{Call, operations, text};
use super::{ask, failure, home};

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
