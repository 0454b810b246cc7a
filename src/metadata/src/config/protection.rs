//! Settings that ask for protection which is not there yet: TLS, SASL and ACLs. A server that ignored them would be open to
//! everybody although its file says otherwise, so they stop the start, and cannot be set at run time either.

use super::contradictions::Contradiction;
use super::layers::BrokerConfig;

/// When a key asks for protection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// Any value but an empty one.
    Always,
    /// Any value but this one, which asks for nothing.
    Unless(&'static str),
}

/// The key, when it asks for protection, and the part of security that is meant. A key of one listener
/// (`listener.name.….`) means the same as the key without that beginning.
const KEYS: &[(&str, Asks, &str)] = &[
    ("authorizer.class.name", Asks::Always, ACLS),
    ("super.users", Asks::Always, ACLS),
    ("allow.everyone.if.no.acl.found", Asks::Unless("true"), ACLS),
    ("principal.builder.class", Asks::Unless(PRINCIPALS), ACLS),
    ("ssl.client.auth", Asks::Unless("none"), TLS),
    ("ssl.principal.mapping.rules", Asks::Unless("DEFAULT"), TLS),
    ("sasl.enabled.mechanisms", Asks::Always, SASL),
    ("sasl.mechanism.inter.broker.protocol", Asks::Always, SASL),
    ("sasl.mechanism.controller.protocol", Asks::Always, SASL),
    ("sasl.jaas.config", Asks::Always, SASL),
    ("delegation.token.secret.key", Asks::Always, SASL),
    (
        "security.inter.broker.protocol",
        Asks::Unless("PLAINTEXT"),
        TLS,
    ),
];
const PRINCIPALS: &str =
    "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder";
const ACLS: &str = "ACLs are";
const TLS: &str = "TLS is";
const SASL: &str = "SASL is";

/// A key of one listener or of one of its mechanisms: `listener.name.internal.scram-sha-256.sasl.jaas.config`.
fn base_key(key: &str) -> &str {
    let Some(rest) = key.strip_prefix("listener.name.") else {
        return key;
    };
    let mut known = KEYS.iter().map(|(key, ..)| *key);
    known
        .find(|known| rest.strip_suffix(*known).is_some_and(|r| r.ends_with('.')))
        .unwrap_or(key)
}

/// Why a setting that asks for protection cannot be given; `None` where it asks for none.
pub fn reason_without_protection(key: &str, value: &str) -> Option<String> {
    let base = base_key(key);
    let (_, asks, part) = KEYS.iter().find(|(known, ..)| *known == base)?;
    let value = value.trim();
    let asked = match asks {
        Asks::Always => !value.is_empty(),
        Asks::Unless(nothing) => !value.is_empty() && !value.eq_ignore_ascii_case(nothing),
    };
    asked.then(|| {
        format!(
            "{part} not there yet, so the server would be open to everybody; remove the property if that is meant, and let a \
             firewall keep others away"
        )
    })
}

/// The settings of any layer that ask for protection.
pub(super) fn protections(config: &BrokerConfig, found: &mut Vec<Contradiction>) {
    let layers = [&config.file, &config.dynamic_default, &config.dynamic];
    for (key, value) in layers.into_iter().flatten() {
        if let Some(reason) = reason_without_protection(key, value) {
            found.push(Contradiction {
                keys: vec![key.clone()],
                reason,
            });
        }
    }
}

/// The rule in words, for the document.
pub(super) fn rule() -> String {
    let keys: Vec<String> = KEYS
        .iter()
        .map(|(key, asks, _)| match asks {
            Asks::Always => format!("`{key}`"),
            Asks::Unless(nothing) => format!("`{key}` other than `{nothing}`"),
        })
        .collect();
    format!(
        "what asks for TLS, SASL or ACLs, also for one listener: {}",
        keys.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::contradictions;
    use super::*;

    #[test]
    fn what_asks_for_protection_is_refused_in_every_layer_and_for_each_listener() {
        let asked = [
            (
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            ),
            ("super.users", "User:admin"),
            ("allow.everyone.if.no.acl.found", "false"),
            ("ssl.client.auth", "required"),
            ("ssl.client.auth", "requested"),
            ("sasl.enabled.mechanisms", "SCRAM-SHA-256"),
            ("security.inter.broker.protocol", "SASL_SSL"),
            ("listener.name.internal.ssl.client.auth", "required"),
            ("listener.name.internal.sasl.enabled.mechanisms", "PLAIN"),
            ("listener.name.internal.plain.sasl.jaas.config", "x"),
        ];
        for (key, value) in asked {
            let layer = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            let file = BrokerConfig {
                file: layer.clone(),
                ..BrokerConfig::default()
            };
            let dynamic = BrokerConfig {
                dynamic: layer.clone(),
                ..BrokerConfig::default()
            };
            let dynamic_default = BrokerConfig {
                dynamic_default: layer,
                ..BrokerConfig::default()
            };
            for config in [file, dynamic, dynamic_default] {
                let found = contradictions(&config);
                assert_eq!(found.len(), 1, "{key}={value}: {found:?}");
                assert_eq!(found[0].keys, [key]);
                assert!(found[0].reason.contains("open to everybody"));
            }
        }
    }

    #[test]
    fn what_asks_for_nothing_is_accepted() {
        let nothing = [
            ("authorizer.class.name", ""),
            ("allow.everyone.if.no.acl.found", "true"),
            ("ssl.client.auth", "none"),
            ("security.inter.broker.protocol", "plaintext"),
            ("listener.name.internal.ssl.client.auth", "none"),
            ("ssl.keystore.location", "/etc/keystore.jks"),
            ("log.dirs", "/data"),
        ];
        for (key, value) in nothing {
            assert_eq!(reason_without_protection(key, value), None, "{key}={value}");
        }
    }
}
