//! The messages between the members of a consumer group: subscriptions and assignments.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages as m;
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use kafka_protocol::protocol::{Decodable, Encodable};
use strandline_wire::text;

/// `ConsumerProtocolSubscription`, version 1.
pub(crate) fn encode_subscription(topics: &[String]) -> Bytes {
    const VERSION: i16 = 1;
    let topics = topics.iter().map(text).collect();
    let body = m::ConsumerProtocolSubscription::default().with_topics(topics);
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    body.encode(&mut out, VERSION)
        .expect("version 1 has these fields");
    out.freeze()
}

pub(crate) fn decode_subscription(bytes: &Bytes) -> Vec<String> {
    let mut bytes = bytes.clone();
    if bytes.len() < 2 {
        return Vec::new();
    }
    let version = bytes.get_i16().clamp(0, 3);
    let decoded = m::ConsumerProtocolSubscription::decode(&mut bytes, version);
    decoded.map_or_else(
        |_| Vec::new(),
        |s| s.topics.iter().map(ToString::to_string).collect(),
    )
}

pub(crate) fn encode_assignment(topics: BTreeMap<String, Vec<i32>>) -> Bytes {
    const VERSION: i16 = 1;
    let assigned = topics.into_iter().map(|(topic, partitions)| {
        AssignedTopic::default()
            .with_topic(m::TopicName(text(&topic)))
            .with_partitions(partitions)
    });
    let body =
        m::ConsumerProtocolAssignment::default().with_assigned_partitions(assigned.collect());
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    body.encode(&mut out, VERSION)
        .expect("version 1 has these fields");
    out.freeze()
}

/// Topic and partition of everything in a `ConsumerProtocolAssignment`; `None` where it is none.
pub fn decode_assignment(bytes: &Bytes) -> Option<Vec<(String, i32)>> {
    let mut bytes = bytes.clone();
    if bytes.len() < 2 {
        return None;
    }
    let version = bytes.get_i16().clamp(0, 3);
    let decoded = m::ConsumerProtocolAssignment::decode(&mut bytes, version).ok()?;
    let all = decoded.assigned_partitions.iter().flat_map(|t| {
        let topic = t.topic.to_string();
        t.partitions.iter().map(move |p| (topic.clone(), *p))
    });
    Some(all.collect())
}
