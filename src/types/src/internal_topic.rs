//! The topics that brokers keep their own state in (Kafka's `Topic.INTERNAL_TOPICS`). This is the only list of them.

/// The committed positions and memberships of groups.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
const TRANSACTIONS_TOPIC: &str = "__transaction_state";
const SHARE_GROUPS_TOPIC: &str = "__share_group_state";

const INTERNAL_TOPICS: [&str; 3] = [OFFSETS_TOPIC, TRANSACTIONS_TOPIC, SHARE_GROUPS_TOPIC];

/// Whether brokers keep their own state in the topic, so that no client may change it.
pub fn is_internal_topic(topic: &str) -> bool {
    INTERNAL_TOPICS.contains(&topic)
}
