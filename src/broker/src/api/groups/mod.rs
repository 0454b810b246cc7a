//! Consumer groups: requests in Kafka's words to commands of the coordinator, and its replies back.

mod administration;
mod find_coordinator;
mod membership;
mod offsets;

use strandline_coordinator::Reply;
use strandline_types::{Now, OFFSETS_TOPIC};
use strandline_wire::{ErrorCode, StrBytes};

pub use administration::{delete_groups, describe_groups, list_groups};
pub use find_coordinator::find_coordinator;
pub use membership::{heartbeat, join_group, leave_group, sync_group};
pub use offsets::{offset_commit, offset_delete, offset_fetch};

use super::Call;
use crate::coordinators::partition_for;

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
    call.context.groups.ask(home(call, group)?, command).await
}

fn string(value: &StrBytes) -> String {
    value.to_string()
}

fn optional(value: Option<&StrBytes>) -> Option<String> {
    value.map(string)
}

fn failure(reply: Result<Reply, ErrorCode>) -> ErrorCode {
    reply.err().unwrap_or(ErrorCode::UnknownServerError)
}
