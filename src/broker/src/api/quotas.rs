//! `DescribeClientQuotas`, `AlterClientQuotas`, `DescribeUserScramCredentials`.

use std::collections::BTreeMap;

use kafka_protocol::messages as m;
use kafka_protocol::messages::alter_client_quotas_request::EntityData as AskedEntity;
use kafka_protocol::messages::alter_client_quotas_response::{
    EntityData as AlteredEntity, EntryData as AlteredEntry,
};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use strandline_metadata::controller::{Command, QuotaChange};
use strandline_metadata::quota::{QuotaEntity, QuotaName};
use strandline_wire::ErrorCode;

use super::{Call, submit_error, text};

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";
/// Match types of a filter.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

/// The parts of an owner by the protocol's words.
fn parts(entity: &QuotaEntity) -> BTreeMap<&'static str, &QuotaName> {
    let all = [
        (USER, &entity.user),
        (CLIENT_ID, &entity.client_id),
        (IP, &entity.ip),
    ];
    let there = all.into_iter().filter_map(|(k, v)| Some((k, v.as_ref()?)));
    there.collect()
}

fn matches(component: &ComponentData, part: &QuotaName) -> bool {
    match (component.match_type, part) {
        (EXACT, QuotaName::Named(name)) => component._match.as_deref() == Some(name.as_str()),
        (DEFAULT, QuotaName::Default) | (SPECIFIED, _) => true,
        _ => false,
    }
}

pub async fn describe_client_quotas(
    call: &Call,
    request: m::DescribeClientQuotasRequest,
) -> m::DescribeClientQuotasResponse {
    let refused = |reason: String| {
        m::DescribeClientQuotasResponse::default()
            .with_error_code(ErrorCode::InvalidRequest.code())
            .with_error_message(Some(text(reason)))
            .with_entries(None)
    };
    for component in &request.components {
        if ![USER, CLIENT_ID, IP].contains(&component.entity_type.as_str()) {
            let kind = component.entity_type.as_str();
            return refused(format!("Custom entity type '{kind}' not supported"));
        }
        if !(EXACT..=SPECIFIED).contains(&component.match_type) {
            return refused(format!("Unexpected match type: {}", component.match_type));
        }
    }
    let image = call.context.quorum.image();
    let mut entries = Vec::new();
    for (entity, keys) in image.quotas().iter() {
        let parts = parts(entity);
        let met = request.components.iter().all(|component| {
            let part = parts.get(component.entity_type.as_str());
            part.is_some_and(|part| matches(component, part))
        });
        if !met || request.strict && parts.len() != request.components.len() {
            continue;
        }
        let owner = parts.into_iter().map(|(kind, name)| {
            let name = match name {
                QuotaName::Default => None,
                QuotaName::Named(name) => Some(text(name.clone())),
            };
            EntityData::default()
                .with_entity_type(text(kind))
                .with_entity_name(name)
        });
        let values = keys.iter().map(|(key, rate)| {
            ValueData::default()
                .with_key(text(key.clone()))
                .with_value(rate.get())
        });
        entries.push(
            EntryData::default()
                .with_entity(owner.collect())
                .with_values(values.collect()),
        );
    }
    m::DescribeClientQuotasResponse::default().with_entries(Some(entries))
}

fn owner(asked: &[AskedEntity]) -> Result<QuotaEntity, String> {
    let mut entity = QuotaEntity::default();
    for part in asked {
        let name = part
            .entity_name
            .as_ref()
            .map_or(QuotaName::Default, |n| QuotaName::Named(n.to_string()));
        let kind = part.entity_type.as_str();
        let slot = match kind {
            USER => &mut entity.user,
            CLIENT_ID => &mut entity.client_id,
            IP => &mut entity.ip,
            other => return Err(format!("Unhandled client quota entity type: {other}")),
        };
        if slot.replace(name).is_some() {
            return Err(format!("{kind} is named twice"));
        }
    }
    Ok(entity)
}

pub async fn alter_client_quotas(
    call: &Call,
    request: m::AlterClientQuotasRequest,
) -> m::AlterClientQuotasResponse {
    let mut entries = Vec::new();
    for entry in request.entries {
        let result = match owner(&entry.entity) {
            Err(reason) => Err((ErrorCode::InvalidRequest, reason)),
            Ok(entity) => {
                let changes = entry.ops.iter().map(|op| QuotaChange {
                    entity: entity.clone(),
                    key: op.key.to_string(),
                    rate: (!op.remove).then_some(op.value),
                });
                let command = Command::AlterQuotas(changes.collect());
                let submitted = call.context.submit(command, request.validate_only).await;
                submitted.map(|_| ()).map_err(|e| submit_error(&e))
            }
        };
        let (code, reason) = result
            .err()
            .map_or((ErrorCode::None, None), |(c, r)| (c, Some(text(r))));
        let owner = entry.entity.into_iter().map(|part| {
            AlteredEntity::default()
                .with_entity_type(part.entity_type)
                .with_entity_name(part.entity_name)
        });
        entries.push(
            AlteredEntry::default()
                .with_error_code(code.code())
                .with_error_message(reason)
                .with_entity(owner.collect()),
        );
    }
    call.context.wait_until_applied().await;
    m::AlterClientQuotasResponse::default().with_entries(entries)
}

/// There is no SASL listener, so no user has credentials. Tools that list users' configurations send this request all
/// the same.
pub async fn describe_user_scram_credentials(
    _: &Call,
    request: m::DescribeUserScramCredentialsRequest,
) -> m::DescribeUserScramCredentialsResponse {
    let named = request.users.into_iter().flatten().map(|user| {
        let reason = format!(
            "Attempt to describe a user credential that does not exist: {}",
            user.name.as_str()
        );
        DescribeUserScramCredentialsResult::default()
            .with_user(user.name)
            .with_error_code(ErrorCode::ResourceNotFound.code())
            .with_error_message(Some(text(reason)))
    });
    m::DescribeUserScramCredentialsResponse::default().with_results(named.collect())
}
