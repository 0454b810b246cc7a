//! Quotas of users, clients and addresses: `kafka-configs` for entity types that are no configuration resources.

use kafka_protocol::messages as m;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use strandline_client::{ClientError, Cluster, check};
use strandline_metadata::quota::{CLIENT_KEYS, IP_KEYS};
use strandline_wire::text;

use crate::configs::{Entity, Problem};

/// Match types of `DescribeClientQuotas`.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

/// The protocol's word for an entity type.
fn quota_type(kind: &str) -> &'static str {
    match kind {
        "users" => "user",
        "clients" => "client-id",
        _ => "ip",
    }
}

fn is_known(kind: &str, key: &str) -> bool {
    if kind == "ips" {
        IP_KEYS.contains(&key)
    } else {
        CLIENT_KEYS.contains(&key)
    }
}

pub async fn alter(
    cluster: &Cluster,
    entities: &[Entity],
    added: &[(String, String)],
    deleted: &[String],
) -> Result<(), Problem> {
    let kind = entities[0].kind.as_str();
    let unknown: Vec<&str> = added
        .iter()
        .map(|(key, _)| key)
        .chain(deleted)
        .map(String::as_str)
        .filter(|key| !is_known(kind, key))
        .collect();
    if !unknown.is_empty() {
        if kind == "users" && unknown.iter().all(|key| key.starts_with("SCRAM-")) {
            return Err(Problem::Usage(
                "SCRAM credentials are not supported yet: there is no SASL listener".into(),
            ));
        }
        let what = match kind {
            "users" => "quota and SCRAM credential",
            "ips" => "connection quota",
            _ => "quota",
        };
        return Err(Problem::Usage(format!(
            "Only {what} configs can be added for '{kind}' using --bootstrap-server. Unexpected config names: Set({})",
            unknown.join(", ")
        )));
    }
    let mut ops = Vec::new();
    for (key, value) in added {
        let number: f64 = value.parse().map_err(|_| {
            Problem::Usage(format!(
                "Cannot parse quota configuration value for {key}: {value}"
            ))
        })?;
        ops.push(OpData::default().with_key(text(key)).with_value(number));
    }
    for key in deleted {
        ops.push(OpData::default().with_key(text(key)).with_remove(true));
    }
    let entity = entities.iter().map(|entity| {
        let name = entity.name.as_deref().filter(|name| !name.is_empty());
        EntityData::default()
            .with_entity_type(text(quota_type(&entity.kind)))
            .with_entity_name(name.map(text))
    });
    let entry = EntryData::default()
        .with_entity(entity.collect())
        .with_ops(ops);
    let request = m::AlterClientQuotasRequest::default().with_entries(vec![entry]);
    let answer = cluster.call_any("alterClientQuotas", &request).await?;
    for entry in &answer.entries {
        check("quota", entry.error_code, entry.error_message.as_ref())?;
    }
    Ok(())
}

/// Java's form of a double: always with a fraction.
fn java_double(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e7 {
        format!("{value:.1}")
    } else if value.abs() >= 1e7 {
        let exponent = value.abs().log10().floor() as i32;
        let mantissa = value / 10f64.powi(exponent);
        let digits = format!("{mantissa}");
        let digits = if digits.contains('.') {
            digits
        } else {
            format!("{digits}.0")
        };
        format!("{digits}E{exponent}")
    } else {
        value.to_string()
    }
}

pub async fn describe(cluster: &Cluster, entities: &[Entity]) -> Result<(), Problem> {
    let components = entities.iter().map(|entity| {
        let (match_type, name) = match entity.name.as_deref() {
            None => (SPECIFIED, None),
            Some("") => (DEFAULT, None),
            Some(name) => (EXACT, Some(text(name))),
        };
        ComponentData::default()
            .with_entity_type(text(quota_type(&entity.kind)))
            .with_match_type(match_type)
            .with_match(name)
    });
    let request = m::DescribeClientQuotasRequest::default()
        .with_components(components.collect())
        .with_strict(true);
    let answer = cluster.call_any("describeClientQuotas", &request).await?;
    check("quotas", answer.error_code, answer.error_message.as_ref())
        .map_err(|e: ClientError| Problem::Client(e))?;
    for entry in answer.entries.iter().flatten() {
        let mut parts: Vec<(u8, String)> = entry
            .entity
            .iter()
            .map(|part| {
                let (order, word) = match part.entity_type.as_str() {
                    "user" => (0, "user-principal"),
                    "client-id" => (1, "client-id"),
                    other => (2, if other == "ip" { "ip" } else { "entity" }),
                };
                let told = match &part.entity_name {
                    Some(name) => format!("{word} '{}'", name.as_str()),
                    None => format!("the default {word}"),
                };
                (order, told)
            })
            .collect();
        parts.sort();
        let parts: Vec<String> = parts.into_iter().map(|(_, told)| told).collect();
        let mut values: Vec<String> = entry
            .values
            .iter()
            .map(|v| format!("{}={}", v.key.as_str(), java_double(v.value)))
            .collect();
        values.sort();
        println!(
            "Quota configs for {} are {}",
            parts.join(", "),
            values.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_look_as_java_prints_them() {
        assert_eq!(java_double(50.0), "50.0");
        assert_eq!(java_double(1_048_576.0), "1048576.0");
        assert_eq!(java_double(0.5), "0.5");
        assert_eq!(java_double(20_000_000.0), "2.0E7");
        assert_eq!(java_double(12_345_678.0), "1.2345678E7");
    }
}
