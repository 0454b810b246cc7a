//! The topics that a `DeleteTopics` request means: by name or by id, not both, and each once.
//!
//! A name beside the id of another topic must not delete either of them.

use std::collections::BTreeMap;

use kafka_protocol::messages as m;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use strandline_wire::ErrorCode;
use uuid::Uuid;

use super::text;

/// A topic as the request names it. With a name, the id is nil.
pub type Named = (Option<m::TopicName>, Uuid);

/// The topics to delete, and the answers for those that the request names in a way that Kafka refuses.
pub fn named(request: m::DeleteTopicsRequest) -> (Vec<Named>, Vec<DeletableTopicResult>) {
    let mut refused = Vec::new();
    let mut refuse = |(name, id): Named, reason: &'static str| {
        refused.push(
            DeletableTopicResult::default()
                .with_name(name)
                .with_topic_id(id)
                .with_error_code(ErrorCode::InvalidRequest.code())
                .with_error_message(Some(text(reason))),
        );
    };
    let by_name = request.topic_names.into_iter();
    let by_name = by_name.map(|name| (Some(name), Uuid::nil()));
    let listed = request.topics.into_iter().map(|t| (t.name, t.topic_id));
    let mut counts: BTreeMap<Named, usize> = BTreeMap::new();
    for topic in by_name.chain(listed) {
        match (&topic.0, topic.1.is_nil()) {
            (None, true) => refuse(topic, "Neither topic name nor id were specified."),
            (Some(_), false) => {
                refuse(topic, "You may not specify both topic name and topic id.");
            }
            _ => *counts.entry(topic).or_default() += 1,
        }
    }
    let mut once = Vec::new();
    for (topic, count) in counts {
        if count == 1 {
            once.push(topic);
        } else if topic.0.is_some() {
            refuse(topic, "Duplicate topic name.");
        } else {
            refuse(topic, "Duplicate topic id.");
        }
    }
    (once, refused)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::delete_topics_request::DeleteTopicState;

    use super::*;

    #[test]
    fn a_topic_is_deleted_by_its_name_or_by_its_id_and_once() {
        let name = |name: &'static str| Some(m::TopicName(text(name)));
        let id = Uuid::from_u128;
        let none = Uuid::nil();
        let states = [
            (name("a"), none),
            (None, id(1)),
            (name("b"), id(2)),
            (None, none),
            (name("twice"), none),
            (name("twice"), none),
            (None, id(3)),
            (None, id(3)),
        ];
        let states = states.map(|(name, id)| {
            DeleteTopicState::default()
                .with_name(name)
                .with_topic_id(id)
        });
        let request = m::DeleteTopicsRequest::default().with_topics(states.to_vec());
        let (once, refused) = named(request);
        assert_eq!(once, [(None, id(1)), (name("a"), none)]);
        let refused: Vec<_> = refused.into_iter().map(|r| (r.name, r.topic_id)).collect();
        let expected = [
            (name("b"), id(2)),
            (None, none),
            (None, id(3)),
            (name("twice"), none),
        ];
        assert_eq!(refused, expected);
    }
}
