//! `FindCoordinator`.

use kafka_protocol::messages as m;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use strandline_types::OFFSETS_TOPIC;
use strandline_wire::{ErrorCode, StrBytes};

use super::super::{Call, text, transactions};
use crate::coordinators::partition_for;

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
            // Kafka's text for no error.
            .with_error_message(Some(StrBytes::from_static_str("NONE")))
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
            return Err((transactions::REFUSED, transactions::REASON.into()));
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
