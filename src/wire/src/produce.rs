//! Produce, versions 3 to 13, read and written by hand: record batches stay slices of the frame.

use bytes::Bytes;
use uuid::Uuid;

use crate::ErrorCode;
use crate::primitive::{DecodeError, LengthWidth, Reader, Writer};

/// First version that names topics by id.
const TOPIC_IDS: i16 = 13;
const FLEXIBLE: i16 = 9;

/// How a request names a topic: by name before topic ids came, by id since.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicKey {
    /// UTF-8, checked.
    Name(Bytes),
    Id(Uuid),
}

impl TopicKey {
    /// The same topic in memory of its own: a name that is kept must not keep its request.
    #[must_use]
    pub fn detached(&self) -> Self {
        match self {
            Self::Name(name) => Self::Name(Bytes::copy_from_slice(name)),
            Self::Id(id) => Self::Id(*id),
        }
    }

    pub(crate) fn read(
        reader: &mut Reader,
        by_id: bool,
        flexible: bool,
    ) -> Result<Self, DecodeError> {
        if by_id {
            Ok(Self::Id(reader.uuid()?))
        } else {
            Ok(Self::Name(reader.string(flexible)?))
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer, flexible: bool) {
        match self {
            Self::Name(name) => writer.string(name, flexible),
            Self::Id(id) => writer.uuid(*id),
        }
    }

    /// The name, where the request gave one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => std::str::from_utf8(name).ok(),
            Self::Id(_) => None,
        }
    }
}

/// A decoded Produce request.
#[derive(Clone, Debug)]
pub struct ProduceRequest {
    pub transactional_id: Option<Bytes>,
    pub acks: i16,
    pub timeout_ms: i32,
    pub topics: Vec<ProduceTopic>,
}

#[derive(Clone, Debug)]
pub struct ProduceTopic {
    pub topic: TopicKey,
    pub partitions: Vec<ProducePartition>,
}

#[derive(Clone, Debug)]
pub struct ProducePartition {
    pub index: i32,
    /// A slice of the request's frame; null counts as empty.
    pub records: Bytes,
}

impl ProduceRequest {
    pub fn decode(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let flexible = version >= FLEXIBLE;
        let mut reader = Reader::new(body);
        let transactional_id = reader.nullable_string(flexible)?;
        let acks = reader.i16()?;
        let timeout_ms = reader.i32()?;
        let topic_count = reader.array_length(flexible)?;
        let mut topics = Vec::with_capacity(topic_count.min(64));
        for _ in 0..topic_count {
            let topic = TopicKey::read(&mut reader, version >= TOPIC_IDS, flexible)?;
            let partition_count = reader.array_length(flexible)?;
            let mut partitions = Vec::with_capacity(partition_count.min(64));
            for _ in 0..partition_count {
                let index = reader.i32()?;
                let length = reader.nullable_length(LengthWidth::array(flexible))?;
                let records = reader.take(length.unwrap_or(0))?;
                if flexible {
                    reader.skip_tagged_fields()?;
                }
                partitions.push(ProducePartition { index, records });
            }
            if flexible {
                reader.skip_tagged_fields()?;
            }
            topics.push(ProduceTopic { topic, partitions });
        }
        if flexible {
            reader.skip_tagged_fields()?;
        }
        Ok(Self {
            transactional_id,
            acks,
            timeout_ms,
            topics,
        })
    }
}

/// The part of a Produce response that answers for one partition.
#[derive(Clone, Debug)]
pub struct ProducePartitionResponse {
    pub index: i32,
    pub error: ErrorCode,
    /// −1 on error.
    pub base_offset: i64,
    /// −1 unless the broker stamped the records itself.
    pub log_append_time_ms: i64,
    pub log_start_offset: i64,
    /// Records that made the batch invalid: index in the batch and why (from version 8).
    pub record_errors: Vec<(i32, String)>,
    pub error_message: Option<String>,
    /// Leader id and epoch to go to instead (KIP-951, from version 10).
    pub current_leader: Option<(i32, i32)>,
}

impl ProducePartitionResponse {
    pub fn error(index: i32, error: ErrorCode, message: Option<String>) -> Self {
        Self {
            index,
            error,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: message,
            current_leader: None,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct ProduceResponse {
    pub topics: Vec<(TopicKey, Vec<ProducePartitionResponse>)>,
    pub throttle_time_ms: i32,
}

impl Default for TopicKey {
    fn default() -> Self {
        Self::Id(Uuid::nil())
    }
}

impl ProduceResponse {
    pub fn encode(&self, version: i16, writer: &mut Writer) {
        let flexible = version >= FLEXIBLE;
        writer.array_length(self.topics.len(), flexible);
        for (topic, partitions) in &self.topics {
            topic.write(writer, flexible);
            writer.array_length(partitions.len(), flexible);
            for partition in partitions {
                partition.encode(version, flexible, writer);
            }
            writer.empty_tagged_fields(flexible);
        }
        writer.i32(self.throttle_time_ms);
        writer.empty_tagged_fields(flexible);
    }
}

impl ProducePartitionResponse {
    fn encode(&self, version: i16, flexible: bool, writer: &mut Writer) {
        writer.i32(self.index);
        writer.i16(self.error.code());
        writer.i64(self.base_offset);
        writer.i64(self.log_append_time_ms);
        if version >= 5 {
            writer.i64(self.log_start_offset);
        }
        if version >= 8 {
            writer.array_length(self.record_errors.len(), flexible);
            for (index, message) in &self.record_errors {
                writer.i32(*index);
                writer.nullable_string(Some(message.as_bytes()), flexible);
                writer.empty_tagged_fields(flexible);
            }
            writer.nullable_string(self.error_message.as_ref().map(String::as_bytes), flexible);
        }
        match self.current_leader {
            Some((leader_id, leader_epoch)) if version >= 10 => {
                writer.unsigned_varint(1);
                writer.unsigned_varint(0);
                writer.unsigned_varint(9);
                writer.i32(leader_id);
                writer.i32(leader_epoch);
                writer.empty_tagged_fields(true);
            }
            _ => writer.empty_tagged_fields(flexible),
        }
    }
}
