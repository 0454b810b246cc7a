//! Quotas of clients (KIP-13, KIP-124, KIP-546): their owners, and the order in which they apply.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One part of a quota's owner: a name, or all clients that have no quota of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum QuotaName {
    Default,
    Named(String),
}

/// To whom a quota belongs. At least one part is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QuotaEntity {
    pub user: Option<QuotaName>,
    pub client_id: Option<QuotaName>,
    pub ip: Option<QuotaName>,
}

/// A rate; compared by its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaRate(u64);

impl QuotaRate {
    pub fn new(rate: f64) -> Self {
        Self(rate.to_bits())
    }

    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// Rates by owner and key.
pub type Quotas = BTreeMap<QuotaEntity, BTreeMap<String, QuotaRate>>;

pub const CLIENT_KEYS: [&str; 4] = [
    "consumer_byte_rate",
    "controller_mutation_rate",
    "producer_byte_rate",
    "request_percentage",
];
pub const IP_KEYS: [&str; 1] = ["connection_creation_rate"];

/// The quota that applies to a user's client, and the account that its use is charged to. In Kafka's order: a quota for
/// the named user wins over one for any user, and then one for the named client over one for any client.
pub fn effective(
    quotas: &Quotas,
    key: &str,
    user: &str,
    client_id: &str,
) -> Option<(QuotaEntity, f64)> {
    let named = |name: &str| Some(QuotaName::Named(name.to_owned()));
    let default = || Some(QuotaName::Default);
    let candidates = [
        (named(user), named(client_id)),
        (named(user), default()),
        (named(user), None),
        (default(), named(client_id)),
        (default(), default()),
        (default(), None),
        (None, named(client_id)),
        (None, default()),
    ];
    candidates.into_iter().find_map(|(of_user, of_client)| {
        let entity = QuotaEntity {
            user: of_user,
            client_id: of_client,
            ip: None,
        };
        let rate = quotas.get(&entity)?.get(key)?.get();
        // A default gives each client an account of its own, not one account to all.
        let account = QuotaEntity {
            user: entity.user.and(named(user)),
            client_id: entity.client_id.and(named(client_id)),
            ip: None,
        };
        Some((account, rate))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(user: Option<&str>, client_id: Option<&str>) -> QuotaEntity {
        let part = |name: Option<&str>| {
            name.map(|n| match n {
                "" => QuotaName::Default,
                n => QuotaName::Named(n.to_owned()),
            })
        };
        QuotaEntity {
            user: part(user),
            client_id: part(client_id),
            ip: None,
        }
    }

    #[test]
    fn the_most_specific_quota_counts_and_defaults_are_everybodys_own() {
        let key = "producer_byte_rate";
        let order = [
            entity(Some("u"), Some("c")),
            entity(Some("u"), Some("")),
            entity(Some("u"), None),
            entity(Some(""), Some("c")),
            entity(Some(""), Some("")),
            entity(Some(""), None),
            entity(None, Some("c")),
            entity(None, Some("")),
        ];
        let mut quotas = Quotas::new();
        for (rank, entity) in order.iter().enumerate().rev() {
            let rate = QuotaRate::new(rank as f64 + 1.0);
            quotas.insert(entity.clone(), BTreeMap::from([(key.to_owned(), rate)]));
            let (account, found) = effective(&quotas, key, "u", "c").unwrap();
            assert_eq!(QuotaRate::new(found), rate);
            assert!(account.user != Some(QuotaName::Default));
        }
        let (account, found) = effective(&quotas, key, "u", "other").unwrap();
        assert_eq!(account, entity(Some("u"), Some("other")));
        assert_eq!(QuotaRate::new(found), QuotaRate::new(2.0));
        assert_eq!(effective(&quotas, "consumer_byte_rate", "u", "c"), None);
    }
}
