//! Every configuration key: its type, default and limits ([`def`]), where its value comes from ([`layers`]), and the
//! typed view of a topic's ([`topic`]).

mod contradictions;
mod def;
mod document;
mod documentation;
mod layers;
mod properties;
mod protection;
mod ranges;
mod topic;
mod without_effect;

pub use contradictions::{Contradiction, contradictions};
pub use def::{
    ConfigDef, ConfigType, DynamicMode, MAX_VALUE_BYTES, broker_def, broker_defs,
    client_metrics_def, client_metrics_defs, group_def, group_defs, nearest_broker_key, topic_def,
    topic_defs,
};
pub use document::document;
pub use documentation::documentation;
pub use layers::{
    BrokerConfig, ConfigEntry, ConfigSource, ConfigSynonym, describe_resource, describe_topic,
};
pub use properties::{PropertiesError, parse_properties};
pub use protection::reason_without_protection;
pub use topic::{
    CleanupPolicy, TIER_BY_DEFAULT, TIER_KEY, ThrottledReplicas, TopicConfig,
    validate_topic_configs,
};
pub use without_effect::reason_without_effect;
