//! The records that the quorum replicates. New variants are added at the end, because the encoding numbers variants by
//! position.

use serde::{Deserialize, Serialize};
use strandline_types::{
    BrokerId, PartitionId, RemoteLogSegmentId, RemoteLogSegmentMetadata, TopicId, TopicIdPartition,
};
use thiserror::Error;

use crate::image::{BrokerImage, PartitionImage};
use crate::quota::{QuotaEntity, QuotaRate};

/// A change of the cluster's metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MetadataRecord {
    ClusterId(String),
    /// A new incarnation of a broker, or a change of its standing (fenced, shutting down).
    Broker(BrokerImage),
    /// The broker is gone for good.
    UnregisterBroker(BrokerId),
    Topic {
        id: TopicId,
        name: String,
    },
    Partition {
        topic_id: TopicId,
        partition: PartitionId,
        state: PartitionImage,
    },
    /// The topic is gone for clients; its remote data waits to be purged.
    RemoveTopic {
        id: TopicId,
    },
    /// The deleted topic's objects are gone as well.
    TopicPurged {
        id: TopicId,
    },
    /// `None` removes the key.
    Config {
        resource: ConfigResource,
        key: String,
        value: Option<String>,
    },
    /// Producer ids below this one have been handed out.
    NextProducerId(i64),
    /// Adds a remote segment or moves it to its next state.
    RemoteSegment(RemoteLogSegmentMetadata),
    /// The segment's objects are deleted; forget it.
    RemoveRemoteSegment {
        partition: TopicIdPartition,
        id: RemoteLogSegmentId,
    },
    /// Whether a controller is to vote in the metadata quorum, whatever `controller.quorum.voters` says.
    Voter {
        node_id: BrokerId,
        votes: bool,
    },
    /// `None` removes the key.
    Quota {
        entity: QuotaEntity,
        key: String,
        rate: Option<QuotaRate>,
    },
    /// All replicas of a partition that lost everything and have not been in sync since.
    LostReplicas {
        partition: TopicIdPartition,
        replicas: Vec<BrokerId>,
    },
}

/// The resource that a configuration belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConfigResource {
    Topic(String),
    /// `None`: the default of all brokers.
    Broker(Option<BrokerId>),
    Group(String),
    ClientMetrics(String),
}

/// A named endpoint of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub name: String,
    pub host: String,
    pub port: u16,
    /// `PLAINTEXT`, `SSL`, …
    pub security_protocol: String,
}

/// Bytes that are no batch of metadata records.
#[derive(Debug, Error)]
pub enum RecordBatchError {
    #[error("metadata records of format {0} are newer than this broker")]
    Version(u8),
    #[error("damaged metadata records: {0}")]
    Damaged(#[from] postcard::Error),
}

const FORMAT: u8 = 1;

pub fn encode_records(records: &[MetadataRecord]) -> Vec<u8> {
    let mut out = vec![FORMAT];
    out.extend(postcard::to_stdvec(records).expect("records encode to memory"));
    out
}

pub fn decode_records(bytes: &[u8]) -> Result<Vec<MetadataRecord>, RecordBatchError> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => Ok(postcard::from_bytes(rest)?),
        Some((version, _)) => Err(RecordBatchError::Version(*version)),
        None => Err(RecordBatchError::Version(0)),
    }
}
