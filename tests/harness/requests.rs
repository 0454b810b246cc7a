//! Requests that several suites send by hand.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages as m;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::protocol::Encodable;
use strandline_wire::batch::{BatchBuilder, RecordToWrite};
use strandline_wire::compression::Compression;
use strandline_wire::{ApiKey, StrBytes};

pub fn topic_name(topic: &str) -> m::TopicName {
    m::TopicName(StrBytes::from_string(topic.to_owned()))
}

/// A request of a version without tagged fields, as it goes over the wire, without a client id.
pub fn frame(key: ApiKey, version: i16, body: &impl Encodable) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32(0);
    frame.put_i16(key as i16);
    frame.put_i16(version);
    frame.put_i32(7);
    frame.put_i16(-1);
    body.encode(&mut frame, version)
        .expect("the version has all fields that are set");
    let length = frame.len() as u32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

/// A produce of one record of `bytes` bytes to partition 0.
pub fn produce_of(topic: &str, bytes: usize) -> m::ProduceRequest {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(&RecordToWrite {
        value: Some(vec![b'x'; bytes].into()),
        ..RecordToWrite::default()
    });
    let batch = PartitionProduceData::default().with_records(Some(batch.build()));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![batch]);
    m::ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(60_000)
        .with_topic_data(vec![topic])
}

/// A fetch of partition 0 without limits of its own.
pub fn unlimited_fetch(topic: &str, offset: i64) -> m::FetchRequest {
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_partition_max_bytes(i32::MAX);
    let topic = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![partition]);
    m::FetchRequest::default()
        .with_min_bytes(1)
        .with_max_bytes(i32::MAX)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// A commit of a position of partition 0 by nobody's member.
pub fn commit_of(group: &str, topic: &str, offset: i64) -> m::OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_committed_offset(offset)
        .with_committed_metadata(Some(StrBytes::default()));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    m::OffsetCommitRequest::default()
        .with_group_id(m::GroupId(StrBytes::from_string(group.to_owned())))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}
