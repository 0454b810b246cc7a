//! `OffsetCommit` 10 and `OffsetFetch` 10, which name topics by id (KIP-848), and `DescribeLogDirs` 5: versions that
//! `kafka-protocol` does not know yet. All are flexible.
//!
//! The messages are those of the version before: where a topic's name stood, the text of its id stands. Requests have passed
//! the check of their shape before they come here.

use kafka_protocol::messages as m;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use uuid::Uuid;

use crate::primitive::{DecodeError, Reader, Writer};
use crate::{StrBytes, text};

/// The version of `OffsetCommit` and `OffsetFetch` that names topics by id.
pub const BY_ID: i16 = 10;
/// The version of `DescribeLogDirs` that says which directories are cordoned.
pub const CORDONED: i16 = 5;

const FLEXIBLE: bool = true;

fn nullable(reader: &mut Reader) -> Result<Option<StrBytes>, DecodeError> {
    let bytes = reader.nullable_string(FLEXIBLE)?;
    let read = |bytes| StrBytes::from_utf8(bytes).map_err(|_| DecodeError::InvalidUtf8);
    bytes.map(read).transpose()
}

fn string(reader: &mut Reader) -> Result<StrBytes, DecodeError> {
    nullable(reader).map(Option::unwrap_or_default)
}

/// A list of what `read` reads, each with tagged fields behind it.
fn list<T>(
    reader: &mut Reader,
    read: impl Fn(&mut Reader) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut all = Vec::new();
    for _ in 0..reader.array_length(FLEXIBLE)? {
        all.push(read(reader)?);
        reader.skip_tagged_fields()?;
    }
    Ok(all)
}

fn name_of(id: Uuid) -> m::TopicName {
    m::TopicName(text(id.to_string()))
}

/// The id that stands in the place of a name.
pub fn id_of(name: &str) -> Uuid {
    Uuid::parse_str(name).unwrap_or_default()
}

pub fn decode_offset_commit(reader: &mut Reader) -> Result<m::OffsetCommitRequest, DecodeError> {
    let request = m::OffsetCommitRequest::default()
        .with_group_id(m::GroupId(string(reader)?))
        .with_generation_id_or_member_epoch(reader.i32()?)
        .with_member_id(string(reader)?)
        .with_group_instance_id(nullable(reader)?);
    let topics = list(reader, |reader| {
        let topic = OffsetCommitRequestTopic::default().with_name(name_of(reader.uuid()?));
        let partitions = list(reader, |reader| {
            Ok(OffsetCommitRequestPartition::default()
                .with_partition_index(reader.i32()?)
                .with_committed_offset(reader.i64()?)
                .with_committed_leader_epoch(reader.i32()?)
                .with_committed_metadata(nullable(reader)?))
        })?;
        Ok(topic.with_partitions(partitions))
    })?;
    Ok(request.with_topics(topics))
}

pub fn decode_offset_fetch(reader: &mut Reader) -> Result<m::OffsetFetchRequest, DecodeError> {
    let groups = list(reader, |reader| {
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(m::GroupId(string(reader)?))
            .with_member_id(nullable(reader)?)
            .with_member_epoch(reader.i32()?);
        // The length of a list that may be null: 0 is null.
        let Some(count) = reader.unsigned_varint()?.checked_sub(1) else {
            return Ok(group.with_topics(None));
        };
        let mut topics = Vec::new();
        for _ in 0..count {
            let topic = OffsetFetchRequestTopics::default().with_name(name_of(reader.uuid()?));
            let mut indexes = Vec::new();
            for _ in 0..reader.array_length(FLEXIBLE)? {
                indexes.push(reader.i32()?);
            }
            reader.skip_tagged_fields()?;
            topics.push(topic.with_partition_indexes(indexes));
        }
        Ok(group.with_topics(Some(topics)))
    })?;
    let stable = reader.take(1)?.first().is_some_and(|byte| *byte != 0);
    Ok(m::OffsetFetchRequest::default()
        .with_groups(groups)
        .with_require_stable(stable))
}

fn write_list<T>(writer: &mut Writer, items: &[T], write: impl Fn(&mut Writer, &T)) {
    writer.array_length(items.len(), FLEXIBLE);
    for item in items {
        write(writer, item);
        writer.empty_tagged_fields(FLEXIBLE);
    }
}

pub fn encode_offset_commit(writer: &mut Writer, response: &m::OffsetCommitResponse) {
    writer.i32(response.throttle_time_ms);
    write_list(writer, &response.topics, |writer, topic| {
        writer.uuid(id_of(&topic.name));
        write_list(writer, &topic.partitions, |writer, partition| {
            writer.i32(partition.partition_index);
            writer.i16(partition.error_code);
        });
    });
    writer.empty_tagged_fields(FLEXIBLE);
}

pub fn encode_offset_fetch(writer: &mut Writer, response: &m::OffsetFetchResponse) {
    writer.i32(response.throttle_time_ms);
    write_list(writer, &response.groups, |writer, group| {
        writer.string(group.group_id.0.as_bytes(), FLEXIBLE);
        write_list(writer, &group.topics, |writer, topic| {
            writer.uuid(id_of(&topic.name));
            write_list(writer, &topic.partitions, |writer, partition| {
                writer.i32(partition.partition_index);
                writer.i64(partition.committed_offset);
                writer.i32(partition.committed_leader_epoch);
                let metadata = partition.metadata.as_ref().map(|m| m.as_bytes());
                writer.nullable_string(metadata, FLEXIBLE);
                writer.i16(partition.error_code);
            });
        });
        writer.i16(group.error_code);
    });
    writer.empty_tagged_fields(FLEXIBLE);
}

/// No directory is ever cordoned here.
pub fn encode_describe_log_dirs(writer: &mut Writer, response: &m::DescribeLogDirsResponse) {
    writer.i32(response.throttle_time_ms);
    writer.i16(response.error_code);
    write_list(writer, &response.results, |writer, dir| {
        writer.i16(dir.error_code);
        writer.string(dir.log_dir.as_bytes(), FLEXIBLE);
        write_list(writer, &dir.topics, |writer, topic| {
            writer.string(topic.name.0.as_bytes(), FLEXIBLE);
            write_list(writer, &topic.partitions, |writer, partition| {
                writer.i32(partition.partition_index);
                writer.i64(partition.partition_size);
                writer.i64(partition.offset_lag);
                writer.i8(i8::from(partition.is_future_key));
            });
        });
        writer.i64(dir.total_bytes);
        writer.i64(dir.usable_bytes);
        writer.i8(0);
    });
    writer.empty_tagged_fields(FLEXIBLE);
}
