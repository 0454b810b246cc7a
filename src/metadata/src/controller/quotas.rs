//! Quotas of clients at run time (`AlterClientQuotas`).

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::image::ClusterImage;
use crate::quota::{CLIENT_KEYS, IP_KEYS, QuotaEntity, QuotaRate};
use crate::record::MetadataRecord;

/// A change of one owner's quota; `None` removes the quota.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuotaChange {
    pub entity: QuotaEntity,
    pub key: String,
    pub rate: Option<f64>,
}

pub(super) fn alter_quotas(
    image: &ClusterImage,
    changes: &[QuotaChange],
) -> Result<Vec<MetadataRecord>, Refusal> {
    let mut records = Vec::new();
    for change in changes {
        check(change)?;
        let rate = change.rate.map(QuotaRate::new);
        let known = image.quotas().get(&change.entity);
        if known.and_then(|keys| keys.get(&change.key)).copied() != rate {
            records.push(MetadataRecord::Quota {
                entity: change.entity.clone(),
                key: change.key.clone(),
                rate,
            });
        }
    }
    Ok(records)
}

fn check(change: &QuotaChange) -> Result<(), Refusal> {
    let QuotaEntity {
        user,
        client_id,
        ip,
    } = &change.entity;
    let of_client = user.is_some() || client_id.is_some();
    if of_client == ip.is_some() {
        return Err(Refusal::InvalidRequest(
            "Invalid quota entity combination: a user, a client-id or both, or an ip alone.".into(),
        ));
    }
    let keys: &[&str] = if of_client { &CLIENT_KEYS } else { &IP_KEYS };
    let key = change.key.as_str();
    if !keys.contains(&key) {
        return Err(Refusal::InvalidRequest(format!(
            "Invalid configuration key {key}"
        )));
    }
    let Some(rate) = change.rate else {
        return Ok(());
    };
    if !rate.is_finite() || rate < 0.0 || rate == 0.0 && of_client {
        return Err(Refusal::InvalidRequest(format!(
            "Quota {key} must be greater than 0"
        )));
    }
    let whole = matches!(
        key,
        "producer_byte_rate" | "consumer_byte_rate" | "connection_creation_rate"
    );
    if whole && rate.fract() != 0.0 {
        return Err(Refusal::InvalidRequest(format!(
            "{key} cannot be a fractional value."
        )));
    }
    Ok(())
}
