//! A group as its coordinator describes it.

use kafka_protocol::messages as m;
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use strandline_client::{ClientError, Cluster, check};
use strandline_wire::{ErrorCode, text};

/// A group as its coordinator describes it.
pub(super) async fn describe_group(
    cluster: &Cluster,
    group: &str,
) -> Result<DescribedGroup, ClientError> {
    let request = m::DescribeGroupsRequest::default().with_groups(vec![m::GroupId(text(group))]);
    let code =
        |answer: &m::DescribeGroupsResponse| answer.groups.first().map_or(0, |g| g.error_code);
    let answer = cluster.call_coordinator(group, &request, code).await?;
    let found = answer.groups.into_iter().next().unwrap_or_default();
    if found.error_code == ErrorCode::GroupIdNotFound.code() {
        return Err(not_found(group));
    }
    check(group, found.error_code, None)?;
    Ok(found)
}

/// The state of a group that has members: only its members may change its offsets.
pub async fn state_with_members(
    cluster: &Cluster,
    group: &str,
) -> Result<Option<String>, ClientError> {
    match describe_group(cluster, group).await {
        Ok(described) => {
            let state = described.group_state.to_string();
            Ok((!matches!(state.as_str(), "Empty" | "Dead")).then_some(state))
        }
        // An unknown group begins with the offsets that it is given.
        Err(error) if error.code().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn not_found(group: &str) -> ClientError {
    ClientError::Broker {
        what: group.to_owned(),
        code: ErrorCode::GroupIdNotFound,
        message: Some(format!("Group {group} not found.")),
    }
}
