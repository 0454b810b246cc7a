//! Requests to the leader of a partition, without the pauses and caches of a client library. Topics are named by id, so
//! that no request reaches a later topic of the same name.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages as m;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_quorum_request;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::protocol::{Decodable, Encodable};
use strandline_client::Connection;
use strandline_wire::batch::{BatchBuilder, RecordToWrite, Records, split_batches};
use strandline_wire::compression::Compression;
use strandline_wire::{ApiKey, ErrorCode, text};
use uuid::Uuid;

/// Every live node answers within this time.
const PATIENCE: Duration = Duration::from_secs(3);
const FETCH_BYTES: i32 = 1 << 20;
pub const EARLIEST: i64 = -2;
pub const LATEST: i64 = -1;

/// Why there is no answer that says yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A node answered with this error.
    Code(ErrorCode),
    /// No answer, or none that could be read: the request may have been carried out.
    Silence(String),
}

/// The nodes of a cluster, asked in turn until one of them knows.
pub struct Direct {
    addresses: Vec<String>,
    open: BTreeMap<usize, Connection>,
    turn: usize,
}

impl Direct {
    pub fn new(addresses: Vec<String>) -> Self {
        Self {
            addresses,
            open: BTreeMap::new(),
            turn: 0,
        }
    }

    /// The next request goes to another node.
    fn turn(&mut self) {
        self.turn = (self.turn + 1) % self.addresses.len();
    }

    async fn ask<T: Decodable>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &impl Encodable,
    ) -> Result<T, Refusal> {
        let at = self.turn;
        let address = self.addresses[at].clone();
        let open = self.open.remove(&at);
        let asking = async {
            let mut connection = match open {
                Some(open) => open,
                None => Connection::open(&address).await?,
            };
            let answer = connection.call(key, version, request).await?;
            Ok::<_, strandline_client::ClientError>((connection, answer))
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok((connection, answer))) => {
                self.open.insert(at, connection);
                Ok(answer)
            }
            Ok(Err(error)) => {
                self.turn();
                Err(Refusal::Silence(error.to_string()))
            }
            Err(_) => {
                self.turn();
                Err(Refusal::Silence(format!("no answer from {address}")))
            }
        }
    }

    /// After an error, turns to the next broker: another one may lead by now.
    fn check(&mut self, code: i16) -> Result<(), Refusal> {
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => Ok(()),
            other => {
                self.turn();
                Err(Refusal::Code(
                    other.unwrap_or(ErrorCode::UnknownServerError),
                ))
            }
        }
    }

    /// Creates a topic with three replicas; returns its id, also where it was there already.
    pub async fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<Uuid, Refusal> {
        let configs = configs.iter().map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(text(*key))
                .with_value(Some(text(*value)))
        });
        let topic = CreatableTopic::default()
            .with_name(m::TopicName(text(name)))
            .with_num_partitions(partitions)
            .with_replication_factor(3)
            .with_configs(configs.collect());
        let request = m::CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(2000);
        let answer: m::CreateTopicsResponse = self.ask(ApiKey::CreateTopics, 7, &request).await?;
        let topic = answer.topics.first().ok_or_else(no_answer)?;
        if topic.error_code == ErrorCode::TopicAlreadyExists.code() {
            // The answer to an earlier attempt was lost.
            return self.topic_id(name).await;
        }
        self.check(topic.error_code)?;
        Ok(topic.topic_id)
    }

    pub async fn topic_id(&mut self, name: &str) -> Result<Uuid, Refusal> {
        let answer = self.metadata(name).await?;
        let topic = answer.topics.first().ok_or_else(no_answer)?;
        self.check(topic.error_code)?;
        Ok(topic.topic_id)
    }

    pub async fn delete_topic(&mut self, id: Uuid) -> Result<(), Refusal> {
        let topic = DeleteTopicState::default()
            .with_name(None)
            .with_topic_id(id);
        let request = m::DeleteTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(2000);
        let answer: m::DeleteTopicsResponse = self.ask(ApiKey::DeleteTopics, 6, &request).await?;
        let topic = answer.responses.first().ok_or_else(no_answer)?;
        self.check(topic.error_code)
    }

    /// Appends one batch with `acks=all`; returns its base offset.
    pub async fn produce(
        &mut self,
        topic: Uuid,
        partition: i32,
        values: &[String],
    ) -> Result<i64, Refusal> {
        let mut builder = BatchBuilder::new(Compression::None);
        for value in values {
            builder.push(&RecordToWrite {
                timestamp: 0,
                key: None,
                value: Some(value.clone().into()),
                headers: Vec::new(),
            });
        }
        let data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(builder.build()));
        let topic = TopicProduceData::default()
            .with_topic_id(topic)
            .with_partition_data(vec![data]);
        let request = m::ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(2000)
            .with_topic_data(vec![topic]);
        let answer: m::ProduceResponse = self.ask(ApiKey::Produce, 13, &request).await?;
        let answers = answer.responses.iter();
        let answer = answers
            .flat_map(|t| &t.partition_responses)
            .next()
            .ok_or_else(no_answer)?;
        self.check(answer.error_code)?;
        Ok(answer.base_offset)
    }

    /// Deletes the records below `offset`; returns the partition's low watermark.
    pub async fn delete_records(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<i64, Refusal> {
        let asked = DeleteRecordsPartition::default()
            .with_partition_index(partition)
            .with_offset(offset);
        let topic = DeleteRecordsTopic::default()
            .with_name(m::TopicName(text(topic)))
            .with_partitions(vec![asked]);
        let request = m::DeleteRecordsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(2000);
        let answer: m::DeleteRecordsResponse = self.ask(ApiKey::DeleteRecords, 2, &request).await?;
        let answers = answer.topics.iter();
        let answer = answers
            .flat_map(|t| &t.partitions)
            .next()
            .ok_or_else(no_answer)?;
        self.check(answer.error_code)?;
        Ok(answer.low_watermark)
    }

    pub async fn leader_of_quorum(&mut self) -> Result<i32, Refusal> {
        let partition = describe_quorum_request::PartitionData::default();
        let topic = describe_quorum_request::TopicData::default()
            .with_topic_name(m::TopicName(text("__cluster_metadata")))
            .with_partitions(vec![partition]);
        let request = m::DescribeQuorumRequest::default().with_topics(vec![topic]);
        let answer: m::DescribeQuorumResponse =
            self.ask(ApiKey::DescribeQuorum, 2, &request).await?;
        self.check(answer.error_code)?;
        let topics = answer.topics.iter();
        let partition = topics.flat_map(|t| &t.partitions).next();
        Ok(partition.ok_or_else(no_answer)?.leader_id.0)
    }

    /// Gives a partition these replicas; the move goes on after the answer.
    pub async fn reassign(
        &mut self,
        topic: &str,
        partition: i32,
        replicas: &[i32],
    ) -> Result<(), Refusal> {
        let replicas = replicas.iter().copied().map(m::BrokerId).collect();
        let asked = ReassignablePartition::default()
            .with_partition_index(partition)
            .with_replicas(Some(replicas));
        let topic = ReassignableTopic::default()
            .with_name(m::TopicName(text(topic)))
            .with_partitions(vec![asked]);
        let request = m::AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(2000)
            .with_topics(vec![topic]);
        let answer: m::AlterPartitionReassignmentsResponse = self
            .ask(ApiKey::AlterPartitionReassignments, 0, &request)
            .await?;
        self.check(answer.error_code)?;
        let topics = answer.responses.iter();
        let moved = topics.flat_map(|t| &t.partitions).next();
        self.check(moved.ok_or_else(no_answer)?.error_code)
    }

    /// Moves the replica of the broker that is asked to another of its log directories; the move goes on after the answer.
    pub async fn move_to_directory(
        &mut self,
        topic: &str,
        partition: i32,
        directory: &str,
    ) -> Result<(), Refusal> {
        let topic = AlterReplicaLogDirTopic::default()
            .with_name(m::TopicName(text(topic)))
            .with_partitions(vec![partition]);
        let directory = AlterReplicaLogDir::default()
            .with_path(text(directory))
            .with_topics(vec![topic]);
        let request = m::AlterReplicaLogDirsRequest::default().with_dirs(vec![directory]);
        let answer: m::AlterReplicaLogDirsResponse =
            self.ask(ApiKey::AlterReplicaLogDirs, 2, &request).await?;
        let topics = answer.results.iter();
        let moved = topics.flat_map(|t| &t.partitions).next();
        self.check(moved.ok_or_else(no_answer)?.error_code)
    }

    /// The leader epoch of a partition as the node knows it that is asked now.
    pub async fn leader_epoch(&mut self, topic: &str, partition: i32) -> Result<i32, Refusal> {
        let answer = self.metadata(topic).await?;
        let topic = answer.topics.first().ok_or_else(no_answer)?;
        let known = topic.partitions.iter();
        let known = known
            .filter(|p| p.partition_index == partition)
            .map(|p| p.leader_epoch);
        known.max().ok_or_else(no_answer)
    }

    async fn metadata(&mut self, topic: &str) -> Result<m::MetadataResponse, Refusal> {
        let topic = MetadataRequestTopic::default().with_name(Some(m::TopicName(text(topic))));
        let request = m::MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(false);
        self.ask(ApiKey::Metadata, 12, &request).await
    }

    /// `timestamp` is [`EARLIEST`] or [`LATEST`]; with epoch −1 any broker that believes to lead may answer.
    pub async fn list_offset(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
        leader_epoch: i32,
    ) -> Result<i64, Refusal> {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(leader_epoch)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(m::TopicName(text(topic)))
            .with_partitions(vec![asked]);
        let request = m::ListOffsetsRequest::default()
            .with_replica_id(m::BrokerId(-1))
            .with_topics(vec![topic]);
        let answer: m::ListOffsetsResponse = self.ask(ApiKey::ListOffsets, 9, &request).await?;
        let answers = answer.topics.iter();
        let answer = answers
            .flat_map(|t| &t.partitions)
            .next()
            .ok_or_else(no_answer)?;
        self.check(answer.error_code)?;
        Ok(answer.offset)
    }

    /// Records from `from` up to `to`, in the order of the log.
    pub async fn read(
        &mut self,
        topic: Uuid,
        partition: i32,
        from: i64,
        to: i64,
    ) -> Result<Vec<(i64, String)>, Refusal> {
        let mut all = Vec::new();
        let mut next = from;
        while next < to {
            let bytes = self.fetch(topic, partition, next).await?;
            let unreadable = |e: String| Refusal::Silence(e);
            for found in split_batches(&bytes) {
                let (at, header) = found.map_err(|e| unreadable(e.to_string()))?;
                let batch = &bytes[at..at + header.size()];
                let mut records =
                    Records::new(header, batch).map_err(|e| unreadable(e.to_string()))?;
                while let Some(record) = records
                    .next_record()
                    .map_err(|e| unreadable(e.to_string()))?
                {
                    if (next..to).contains(&record.offset) {
                        let value = record.value.unwrap_or_default();
                        all.push((record.offset, String::from_utf8_lossy(&value).into_owned()));
                    }
                }
                next = next.max(header.end_offset());
            }
        }
        Ok(all)
    }

    async fn fetch(
        &mut self,
        topic: Uuid,
        partition: i32,
        offset: i64,
    ) -> Result<bytes::Bytes, Refusal> {
        let asked = FetchPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(FETCH_BYTES);
        let topic = FetchTopic::default()
            .with_topic_id(topic)
            .with_partitions(vec![asked]);
        let request = m::FetchRequest::default()
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(FETCH_BYTES)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let answer: m::FetchResponse = self.ask(ApiKey::Fetch, 13, &request).await?;
        self.check(answer.error_code)?;
        let answers = answer.responses.into_iter();
        let answer = answers
            .flat_map(|t| t.partitions)
            .next()
            .ok_or_else(no_answer)?;
        self.check(answer.error_code)?;
        Ok(answer.records.unwrap_or_default())
    }
}

fn no_answer() -> Refusal {
    Refusal::Silence("the answer is empty".into())
}
