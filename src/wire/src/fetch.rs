//! Fetch, versions 4 to 18, read and written by hand: records go out as slices, never copied into the response.

use bytes::Bytes;

use crate::ErrorCode;
use crate::primitive::{DecodeError, Reader, Writer};
use crate::produce::TopicKey;

const FLEXIBLE: i16 = 12;
const TOPIC_IDS: i16 = 13;

/// A decoded Fetch request.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// −1 for consumers.
    pub replica_id: i32,
    /// Broker epoch of a replica (from version 15), else −1.
    pub replica_epoch: i64,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub isolation_level: i8,
    pub session_id: i32,
    pub session_epoch: i32,
    pub topics: Vec<FetchTopic>,
    pub forgotten: Vec<(TopicKey, Vec<i32>)>,
    pub rack_id: Bytes,
}

#[derive(Clone, Debug)]
pub struct FetchTopic {
    pub topic: TopicKey,
    pub partitions: Vec<FetchPartition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    pub partition: i32,
    /// −1 where the client does not know it.
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    /// Epoch of the last record the replica has; −1 for consumers that do not say.
    pub last_fetched_epoch: i32,
    /// Only replicas send a log start.
    pub log_start_offset: i64,
    pub max_bytes: i32,
}

impl FetchRequest {
    pub fn decode(version: i16, body: Bytes) -> Result<Self, DecodeError> {
        let flexible = version >= FLEXIBLE;
        let mut reader = Reader::new(body);
        let mut replica_id = if version <= 14 { reader.i32()? } else { -1 };
        let mut replica_epoch = -1;
        let max_wait_ms = reader.i32()?;
        let min_bytes = reader.i32()?;
        let max_bytes = reader.i32()?;
        let isolation_level = reader.i8()?;
        let (session_id, session_epoch) = if version >= 7 {
            (reader.i32()?, reader.i32()?)
        } else {
            (0, -1)
        };
        let topic_count = reader.array_length(flexible)?;
        let mut topics = Vec::with_capacity(topic_count.min(64));
        for _ in 0..topic_count {
            let topic = TopicKey::read(&mut reader, version >= TOPIC_IDS, flexible)?;
            let partition_count = reader.array_length(flexible)?;
            let mut partitions = Vec::with_capacity(partition_count.min(64));
            for _ in 0..partition_count {
                partitions.push(FetchPartition::decode(version, flexible, &mut reader)?);
            }
            if flexible {
                reader.skip_tagged_fields()?;
            }
            topics.push(FetchTopic { topic, partitions });
        }
        let mut forgotten = Vec::new();
        if version >= 7 {
            for _ in 0..reader.array_length(flexible)? {
                let topic = TopicKey::read(&mut reader, version >= TOPIC_IDS, flexible)?;
                let mut partitions = Vec::new();
                for _ in 0..reader.array_length(flexible)? {
                    partitions.push(reader.i32()?);
                }
                if flexible {
                    reader.skip_tagged_fields()?;
                }
                forgotten.push((topic, partitions));
            }
        }
        let rack_id = if version >= 11 {
            reader.string(flexible)?
        } else {
            Bytes::new()
        };
        if flexible {
            reader.tagged_fields(|tag, mut value| {
                if tag == 1 && version >= 15 {
                    replica_id = value.i32()?;
                    replica_epoch = value.i64()?;
                }
                Ok(())
            })?;
        }
        Ok(Self {
            replica_id,
            replica_epoch,
            max_wait_ms,
            min_bytes,
            max_bytes,
            isolation_level,
            session_id,
            session_epoch,
            topics,
            forgotten,
            rack_id,
        })
    }
}

impl FetchPartition {
    fn decode(version: i16, flexible: bool, reader: &mut Reader) -> Result<Self, DecodeError> {
        let partition = reader.i32()?;
        let current_leader_epoch = if version >= 9 { reader.i32()? } else { -1 };
        let fetch_offset = reader.i64()?;
        let last_fetched_epoch = if version >= 12 { reader.i32()? } else { -1 };
        let log_start_offset = if version >= 5 { reader.i64()? } else { -1 };
        let max_bytes = reader.i32()?;
        if flexible {
            reader.skip_tagged_fields()?;
        }
        Ok(Self {
            partition,
            current_leader_epoch,
            fetch_offset,
            last_fetched_epoch,
            log_start_offset,
            max_bytes,
        })
    }
}

/// The part of a Fetch response that answers for one partition.
#[derive(Clone, Debug)]
pub struct FetchPartitionResponse {
    pub partition: i32,
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// `None` is null: the fetch was not `read_committed`. Pairs of producer id and first offset.
    pub aborted_transactions: Option<Vec<(i64, i64)>>,
    pub preferred_read_replica: i32,
    /// Epoch and end offset where the replica's log and the leader's part.
    pub diverging_epoch: Option<(i32, i64)>,
    /// Leader id and epoch to go to instead (KIP-951).
    pub current_leader: Option<(i32, i32)>,
    /// Whole record batches, in order; sent one after the other.
    pub records: Vec<Bytes>,
}

impl FetchPartitionResponse {
    pub fn error(partition: i32, error: ErrorCode) -> Self {
        Self {
            partition,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted_transactions: None,
            preferred_read_replica: -1,
            diverging_epoch: None,
            current_leader: None,
            records: Vec::new(),
        }
    }

    pub fn records_len(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

#[derive(Clone, Debug)]
pub struct FetchResponse {
    pub throttle_time_ms: i32,
    pub error: ErrorCode,
    pub session_id: i32,
    pub topics: Vec<(TopicKey, Vec<FetchPartitionResponse>)>,
}

impl FetchResponse {
    pub fn error(error: ErrorCode) -> Self {
        Self {
            throttle_time_ms: 0,
            error,
            session_id: 0,
            topics: Vec::new(),
        }
    }

    /// Appends the body to `writer` and returns the parts behind it. The first part, the response header included,
    /// is what `writer` holds when this returns.
    pub fn encode(self, version: i16, writer: &mut Writer) -> Vec<Bytes> {
        let flexible = version >= FLEXIBLE;
        // Parts before the last record batch, in order; `writer` is split at every run of records.
        let mut parts: Vec<Bytes> = Vec::new();
        let mut head: Option<Bytes> = None;
        let mut cut = |writer: &mut Writer, records: Vec<Bytes>, parts: &mut Vec<Bytes>| {
            let written = writer.split();
            if head.is_none() {
                head = Some(written);
            } else {
                parts.push(written);
            }
            parts.extend(records);
        };
        writer.i32(self.throttle_time_ms);
        if version >= 7 {
            writer.i16(self.error.code());
            writer.i32(self.session_id);
        }
        writer.array_length(self.topics.len(), flexible);
        for (topic, partitions) in self.topics {
            topic.write(writer, flexible);
            writer.array_length(partitions.len(), flexible);
            for partition in partitions {
                partition.encode_head(version, flexible, writer);
                if partition.records.is_empty() {
                    encode_partition_tags(
                        version,
                        flexible,
                        partition.diverging_epoch,
                        partition.current_leader,
                        writer,
                    );
                } else {
                    let (diverging, leader) = (partition.diverging_epoch, partition.current_leader);
                    cut(writer, partition.records, &mut parts);
                    encode_partition_tags(version, flexible, diverging, leader, writer);
                }
            }
            writer.empty_tagged_fields(flexible);
        }
        writer.empty_tagged_fields(flexible);
        if let Some(head) = head {
            parts.push(writer.split());
            writer.buffer = head.into();
        }
        parts
    }
}

impl FetchPartitionResponse {
    fn encode_head(&self, version: i16, flexible: bool, writer: &mut Writer) {
        writer.i32(self.partition);
        writer.i16(self.error.code());
        writer.i64(self.high_watermark);
        writer.i64(self.last_stable_offset);
        if version >= 5 {
            writer.i64(self.log_start_offset);
        }
        match &self.aborted_transactions {
            None if flexible => writer.unsigned_varint(0),
            None => writer.i32(-1),
            Some(aborted) => {
                writer.array_length(aborted.len(), flexible);
                for (producer_id, first_offset) in aborted {
                    writer.i64(*producer_id);
                    writer.i64(*first_offset);
                    writer.empty_tagged_fields(flexible);
                }
            }
        }
        if version >= 11 {
            writer.i32(self.preferred_read_replica);
        }
        // An empty field rather than null: Kafka's own answer, and not every client forgives null.
        writer.array_length(self.records_len(), flexible);
    }
}

fn encode_partition_tags(
    version: i16,
    flexible: bool,
    diverging_epoch: Option<(i32, i64)>,
    current_leader: Option<(i32, i32)>,
    writer: &mut Writer,
) {
    if !flexible {
        return;
    }
    debug_assert!(version >= FLEXIBLE);
    let count = u32::from(diverging_epoch.is_some()) + u32::from(current_leader.is_some());
    writer.unsigned_varint(count);
    if let Some((epoch, end_offset)) = diverging_epoch {
        writer.unsigned_varint(0);
        writer.unsigned_varint(13);
        writer.i32(epoch);
        writer.i64(end_offset);
        writer.empty_tagged_fields(true);
    }
    if let Some((leader_id, leader_epoch)) = current_leader {
        writer.unsigned_varint(1);
        writer.unsigned_varint(9);
        writer.i32(leader_id);
        writer.i32(leader_epoch);
        writer.empty_tagged_fields(true);
    }
}
