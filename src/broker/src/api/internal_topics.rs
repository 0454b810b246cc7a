//! Restrictions on what clients may do to internal topics: one decision for all APIs.
//!
//! Kafka without an authorizer refuses Produce (except from the client id `__admin_client`) and DeleteRecords, and
//! allows the rest. This broker refuses every request that changes which records an internal topic holds, or which
//! group they belong to. Brokers write to these topics directly, not through the APIs.

use std::collections::BTreeMap;

use strandline_metadata::ConfigResource;
use strandline_metadata::controller::{ConfigChange, ConfigOperation};
use strandline_types::is_internal_topic;
use strandline_wire::ErrorCode;

/// A client's request that may concern an internal topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Produce,
    Create,
    Delete,
    AddPartitions,
    DeleteRecords,
}

/// Kafka's code and a text for a request that a client may not make of this topic.
pub fn refuse(topic: &str, act: Act) -> Result<(), (ErrorCode, String)> {
    if !is_internal_topic(topic) {
        return Ok(());
    }
    let reason = match act {
        Act::Produce => format!("Cannot append to internal topic {topic}"),
        Act::Create => format!("Internal topic {topic} is created by brokers only"),
        Act::Delete => format!("Internal topic {topic} cannot be deleted"),
        Act::AddPartitions => format!(
            "Internal topic {topic} cannot be given more partitions: every group would lose its coordinator"
        ),
        Act::DeleteRecords => format!("Cannot delete records of internal topic {topic}"),
    };
    Err((ErrorCode::InvalidTopicException, reason))
}

const CLEANUP_POLICY: &str = "cleanup.policy";
const REMOTE_STORAGE: &str = "remote.storage.enable";

/// Refuses changes under which an internal topic would lose the newest record of a key.
pub fn refuse_changes(
    resource: &ConfigResource,
    changes: &[ConfigChange],
) -> Result<(), (ErrorCode, String)> {
    for change in changes {
        let value = match change.operation {
            ConfigOperation::Delete => None,
            ConfigOperation::Set | ConfigOperation::Append | ConfigOperation::Subtract => {
                change.value.as_deref()
            }
        };
        let takes_away = change.operation == ConfigOperation::Subtract;
        let harms = match change.key.as_str() {
            CLEANUP_POLICY => takes_away || value != Some("compact"),
            REMOTE_STORAGE => value == Some("true"),
            _ => false,
        };
        if harms {
            refuse_config(resource, &change.key)?;
        }
    }
    Ok(())
}

/// The same check for a request that replaces all configurations of a resource.
pub fn refuse_replacement(
    resource: &ConfigResource,
    configs: &BTreeMap<String, String>,
) -> Result<(), (ErrorCode, String)> {
    let value = |key: &str| configs.get(key).map(String::as_str);
    if value(CLEANUP_POLICY) != Some("compact") {
        refuse_config(resource, CLEANUP_POLICY)?;
    }
    if value(REMOTE_STORAGE) == Some("true") {
        refuse_config(resource, REMOTE_STORAGE)?;
    }
    Ok(())
}

fn refuse_config(resource: &ConfigResource, key: &str) -> Result<(), (ErrorCode, String)> {
    match resource {
        ConfigResource::Topic(topic) if is_internal_topic(topic) => {
            let reason = format!(
                "{key} of internal topic {topic} cannot be changed: it keeps the newest record of each key"
            );
            Err((ErrorCode::InvalidConfig, reason))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTS: [Act; 5] = [
        Act::Produce,
        Act::Create,
        Act::Delete,
        Act::AddPartitions,
        Act::DeleteRecords,
    ];

    #[test]
    fn every_act_on_every_internal_topic_is_refused_and_none_on_others() {
        for act in ACTS {
            for topic in [
                "__consumer_offsets",
                "__transaction_state",
                "__share_group_state",
            ] {
                let code = refuse(topic, act).unwrap_err().0;
                assert_eq!(code, ErrorCode::InvalidTopicException, "{topic} {act:?}");
            }
            for topic in [
                "t",
                "__consumer_offsets2",
                "_schemas",
                "__remote_log_metadata",
            ] {
                assert_eq!(refuse(topic, act), Ok(()), "{topic} {act:?}");
            }
        }
    }

    #[test]
    fn an_internal_topic_stays_compacted_and_local() {
        use ConfigOperation::{Append, Delete, Set, Subtract};
        let cases = [
            (CLEANUP_POLICY, Set, Some("compact"), true),
            (CLEANUP_POLICY, Set, Some("delete"), false),
            (CLEANUP_POLICY, Set, Some("compact,delete"), false),
            (CLEANUP_POLICY, Delete, None, false),
            (CLEANUP_POLICY, Append, Some("delete"), false),
            (CLEANUP_POLICY, Subtract, Some("compact"), false),
            (REMOTE_STORAGE, Set, Some("true"), false),
            (REMOTE_STORAGE, Set, Some("false"), true),
            (REMOTE_STORAGE, Delete, None, true),
            ("segment.bytes", Set, Some("1048576"), true),
        ];
        for (key, operation, value, allowed) in cases {
            let change = ConfigChange {
                key: key.to_owned(),
                operation,
                value: value.map(str::to_owned),
            };
            let of = |topic: &str| ConfigResource::Topic(topic.to_owned());
            let what = format!("{change:?}");
            let changes = [change];
            let internal = refuse_changes(&of("__consumer_offsets"), &changes);
            assert_eq!(internal.is_ok(), allowed, "{what}");
            assert_eq!(refuse_changes(&of("t"), &changes), Ok(()), "{what}");
        }
        let internal = ConfigResource::Topic("__consumer_offsets".into());
        let mut configs = BTreeMap::new();
        assert!(refuse_replacement(&internal, &configs).is_err());
        configs.insert(CLEANUP_POLICY.into(), "compact".into());
        assert_eq!(refuse_replacement(&internal, &configs), Ok(()));
        configs.insert(REMOTE_STORAGE.into(), "true".into());
        assert!(refuse_replacement(&internal, &configs).is_err());
    }
}
