//! The records of `__consumer_offsets` in Kafka's own format, so that Kafka's formatter and monitoring tools read them.
//!
//! Keys: version i16, then the fields (1: offset commit, 2: group metadata). Values: version i16 (3 is written, or 1 for a
//! position that names when it expires; 0 to 3 are read), then the fields. A null value is a tombstone.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use strandline_types::{TimestampMs, TopicPartition};
use thiserror::Error;

const OFFSET_COMMIT_KEY: i16 = 1;
const GROUP_METADATA_KEY: i16 = 2;
const VALUE_VERSION: i16 = 3;
/// The only version of an offset commit value with an expiry field of its own. Version 1 lacks the leader epoch.
const EXPIRING_VERSION: i16 = 1;

/// A committed position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    pub offset: i64,
    /// −1 where the client did not say.
    pub leader_epoch: i32,
    pub metadata: String,
    pub commit_timestamp_ms: TimestampMs,
    /// When the position expires, where the commit said so (`retention_time_ms` of OffsetCommit 2 to 4).
    pub expire_timestamp_ms: Option<TimestampMs>,
}

/// A member as a group's record keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// A group's state as its record keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub state_since_ms: TimestampMs,
    pub members: Vec<MemberRecord>,
}

/// One record of the topic. `None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorRecord {
    Offset {
        group: String,
        partition: TopicPartition,
        value: Option<OffsetAndMetadata>,
    },
    Group {
        group: String,
        value: Option<GroupRecord>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordDecodeError {
    /// Records of newer protocols live beside ours; they are passed over.
    #[error("key version {0} is not for a classic group")]
    ForeignKey(i16),
    #[error("value version {0} is not known")]
    Version(i16),
    #[error("the record is damaged")]
    Damaged,
}

impl CoordinatorRecord {
    /// Key and value as they stand in the log.
    pub fn encode(&self) -> (Bytes, Option<Bytes>) {
        let mut key = BytesMut::new();
        match self {
            Self::Offset {
                group,
                partition,
                value,
            } => {
                key.put_i16(OFFSET_COMMIT_KEY);
                put_string(&mut key, group);
                put_string(&mut key, &partition.topic);
                key.put_i32(partition.partition);
                (key.freeze(), value.as_ref().map(encode_offset))
            }
            Self::Group { group, value } => {
                key.put_i16(GROUP_METADATA_KEY);
                put_string(&mut key, group);
                (key.freeze(), value.as_ref().map(encode_group))
            }
        }
    }

    pub fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Self, RecordDecodeError> {
        let mut key = key.clone();
        match get_i16(&mut key)? {
            0 | OFFSET_COMMIT_KEY => {
                let group = get_string(&mut key)?;
                let topic = get_string(&mut key)?;
                let partition = TopicPartition::new(topic, get_i32(&mut key)?);
                let value = value.map(|v| decode_offset(v.clone())).transpose()?;
                Ok(Self::Offset {
                    group,
                    partition,
                    value,
                })
            }
            GROUP_METADATA_KEY => {
                let group = get_string(&mut key)?;
                let value = value.map(|v| decode_group(v.clone())).transpose()?;
                Ok(Self::Group { group, value })
            }
            other => Err(RecordDecodeError::ForeignKey(other)),
        }
    }
}

fn encode_offset(value: &OffsetAndMetadata) -> Bytes {
    let mut out = BytesMut::new();
    let expires = value.expire_timestamp_ms;
    out.put_i16(expires.map_or(VALUE_VERSION, |_| EXPIRING_VERSION));
    out.put_i64(value.offset);
    if expires.is_none() {
        out.put_i32(value.leader_epoch);
    }
    put_string(&mut out, &value.metadata);
    out.put_i64(value.commit_timestamp_ms);
    if let Some(at) = expires {
        out.put_i64(at);
    }
    out.freeze()
}

fn decode_offset(mut value: Bytes) -> Result<OffsetAndMetadata, RecordDecodeError> {
    let version = get_i16(&mut value)?;
    if !(0..=VALUE_VERSION).contains(&version) {
        return Err(RecordDecodeError::Version(version));
    }
    let offset = get_i64(&mut value)?;
    let leader_epoch = if version >= 3 {
        get_i32(&mut value)?
    } else {
        -1
    };
    let metadata = get_string(&mut value)?;
    let commit_timestamp_ms = get_i64(&mut value)?;
    let expires = if version == EXPIRING_VERSION {
        Some(get_i64(&mut value)?).filter(|at| *at >= 0)
    } else {
        None
    };
    Ok(OffsetAndMetadata {
        offset,
        leader_epoch,
        metadata,
        commit_timestamp_ms,
        expire_timestamp_ms: expires,
    })
}

fn encode_group(value: &GroupRecord) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(VALUE_VERSION);
    put_string(&mut out, &value.protocol_type);
    out.put_i32(value.generation);
    put_nullable(&mut out, value.protocol.as_deref());
    put_nullable(&mut out, value.leader.as_deref());
    out.put_i64(value.state_since_ms);
    out.put_i32(value.members.len() as i32);
    for member in &value.members {
        put_string(&mut out, &member.member_id);
        put_nullable(&mut out, member.instance_id.as_deref());
        put_string(&mut out, &member.client_id);
        put_string(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_bytes(&mut out, &member.subscription);
        put_bytes(&mut out, &member.assignment);
    }
    out.freeze()
}

fn decode_group(mut value: Bytes) -> Result<GroupRecord, RecordDecodeError> {
    let value = &mut value;
    let version = get_i16(value)?;
    if !(0..=VALUE_VERSION).contains(&version) {
        return Err(RecordDecodeError::Version(version));
    }
    let protocol_type = get_string(value)?;
    let generation = get_i32(value)?;
    let protocol = get_nullable(value)?;
    let leader = get_nullable(value)?;
    let state_since_ms = if version >= 2 { get_i64(value)? } else { -1 };
    let count = get_i32(value)?;
    let mut members = Vec::new();
    for _ in 0..count.max(0) {
        let member_id = get_string(value)?;
        let instance_id = if version >= 3 {
            get_nullable(value)?
        } else {
            None
        };
        let client_id = get_string(value)?;
        let client_host = get_string(value)?;
        let rebalance = if version >= 1 {
            Some(get_i32(value)?)
        } else {
            None
        };
        let session_timeout_ms = get_i32(value)?;
        members.push(MemberRecord {
            member_id,
            instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms: rebalance.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: get_bytes(value)?,
            assignment: get_bytes(value)?,
        });
    }
    Ok(GroupRecord {
        protocol_type,
        generation,
        protocol,
        leader,
        state_since_ms,
        members,
    })
}

fn put_string(out: &mut BytesMut, text: &str) {
    put_nullable(out, Some(text));
}

fn put_nullable(out: &mut BytesMut, text: Option<&str>) {
    match text {
        None => out.put_i16(-1),
        Some(text) => {
            out.put_i16(text.len() as i16);
            out.put_slice(text.as_bytes());
        }
    }
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(bytes.len() as i32);
    out.put_slice(bytes);
}

fn need(bytes: &Bytes, count: usize) -> Result<(), RecordDecodeError> {
    if bytes.remaining() >= count {
        Ok(())
    } else {
        Err(RecordDecodeError::Damaged)
    }
}

fn get_i16(bytes: &mut Bytes) -> Result<i16, RecordDecodeError> {
    need(bytes, 2)?;
    Ok(bytes.get_i16())
}

fn get_i32(bytes: &mut Bytes) -> Result<i32, RecordDecodeError> {
    need(bytes, 4)?;
    Ok(bytes.get_i32())
}

fn get_i64(bytes: &mut Bytes) -> Result<i64, RecordDecodeError> {
    need(bytes, 8)?;
    Ok(bytes.get_i64())
}

fn get_nullable(bytes: &mut Bytes) -> Result<Option<String>, RecordDecodeError> {
    let length = get_i16(bytes)?;
    if length < 0 {
        return Ok(None);
    }
    need(bytes, length as usize)?;
    let text = bytes.split_to(length as usize);
    String::from_utf8(text.to_vec())
        .map(Some)
        .map_err(|_| RecordDecodeError::Damaged)
}

fn get_string(bytes: &mut Bytes) -> Result<String, RecordDecodeError> {
    get_nullable(bytes)?.ok_or(RecordDecodeError::Damaged)
}

fn get_bytes(bytes: &mut Bytes) -> Result<Bytes, RecordDecodeError> {
    let length = get_i32(bytes)?.max(0) as usize;
    need(bytes, length)?;
    Ok(bytes.split_to(length))
}
