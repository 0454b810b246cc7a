//! One connection, one request at a time, to one broker: for the demonstration and the tests.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages as m;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use strandline_wire::batch::{BatchBuilder, Record, RecordToWrite, Records, split_batches};
use strandline_wire::compression::Compression;
use strandline_wire::{ApiKey, ErrorCode, text};

use crate::connection::Connection;
use crate::error::{ClientError, check};

/// Asks for a topic with the broker's default of replicas.
pub(crate) fn create_topic_request(
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> m::CreateTopicsRequest {
    let configs = configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(text(*name))
            .with_value(Some(text(*value)))
    });
    let topic = CreatableTopic::default()
        .with_name(m::TopicName(text(name)))
        .with_num_partitions(partitions)
        .with_replication_factor(-1)
        .with_configs(configs.collect());
    m::CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000)
}

/// A client of one broker.
pub struct Client {
    connection: Connection,
}

impl Client {
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        Ok(Self {
            connection: Connection::open(address).await?,
        })
    }

    /// The address that was connected to.
    pub fn address(&self) -> &str {
        self.connection.address()
    }

    /// Creates a topic; that it exists already is no error.
    pub async fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<(), ClientError> {
        let request = create_topic_request(name, partitions, configs);
        let response: m::CreateTopicsResponse = self
            .connection
            .call(ApiKey::CreateTopics, 5, &request)
            .await?;
        for topic in response.topics {
            if topic.error_code != ErrorCode::TopicAlreadyExists.code() {
                check(name, topic.error_code, topic.error_message.as_ref())?;
            }
        }
        Ok(())
    }

    /// Number of partitions of a topic.
    pub async fn partition_count(&mut self, topic: &str) -> Result<i32, ClientError> {
        let asked = MetadataRequestTopic::default().with_name(Some(m::TopicName(text(topic))));
        let request = m::MetadataRequest::default().with_topics(Some(vec![asked]));
        let response: m::MetadataResponse =
            self.connection.call(ApiKey::Metadata, 9, &request).await?;
        let found = response.topics.into_iter().next();
        let found = found.ok_or_else(|| ClientError::Broker {
            what: topic.to_owned(),
            code: ErrorCode::UnknownTopicOrPartition,
            message: None,
        })?;
        check(topic, found.error_code, None)?;
        Ok(found.partitions.len() as i32)
    }

    /// Appends one batch with `acks=all`; returns its base offset.
    pub async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        compression: Compression,
        records: &[RecordToWrite],
    ) -> Result<i64, ClientError> {
        let mut builder = BatchBuilder::new(compression);
        records.iter().for_each(|r| builder.push(r));
        let data = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(builder.build()));
        let topic_data = TopicProduceData::default()
            .with_name(m::TopicName(text(topic)))
            .with_partition_data(vec![data]);
        let request = m::ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic_data]);
        let response: m::ProduceResponse =
            self.connection.call(ApiKey::Produce, 9, &request).await?;
        let answer = response
            .responses
            .iter()
            .flat_map(|t| &t.partition_responses)
            .next();
        let answer = answer.ok_or_else(|| self.connection.bad_answer("no partition in it"))?;
        check(topic, answer.error_code, answer.error_message.as_ref())?;
        Ok(answer.base_offset)
    }

    /// The offset for a timestamp, or for one of Kafka's special ones (−1 latest, −2 earliest, …).
    pub async fn list_offset(
        &mut self,
        topic: &str,
        partition: i32,
        timestamp: i64,
    ) -> Result<i64, ClientError> {
        let asked = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topics = vec![
            ListOffsetsTopic::default()
                .with_name(m::TopicName(text(topic)))
                .with_partitions(vec![asked]),
        ];
        let request = m::ListOffsetsRequest::default()
            .with_replica_id(m::BrokerId(-1))
            .with_topics(topics);
        let response: m::ListOffsetsResponse = self
            .connection
            .call(ApiKey::ListOffsets, 9, &request)
            .await?;
        let answer = response.topics.iter().flat_map(|t| &t.partitions).next();
        let answer = answer.ok_or_else(|| self.connection.bad_answer("no partition in it"))?;
        check(topic, answer.error_code, None)?;
        Ok(answer.offset)
    }

    /// Records from `offset` on; empty when `max_wait` passes without any.
    pub async fn fetch(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_bytes: i32,
        max_wait: Duration,
    ) -> Result<Vec<Record>, ClientError> {
        let mut records = Vec::new();
        let bytes = self
            .fetch_bytes(topic, partition, offset, max_bytes, max_wait)
            .await?;
        for found in split_batches(&bytes) {
            let (at, header) = found.map_err(|e| self.connection.bad_answer(&e.to_string()))?;
            let batch = &bytes[at..at + header.size()];
            let mut batch = Records::new(header, batch)
                .map_err(|e| self.connection.bad_answer(&e.to_string()))?;
            while let Some(record) = batch
                .next_record()
                .map_err(|e| self.connection.bad_answer(&e.to_string()))?
            {
                if record.offset >= offset {
                    records.push(record);
                }
            }
        }
        Ok(records)
    }

    /// Whole record batches as they stand in the log, from the one that holds `offset` on.
    pub async fn fetch_bytes(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        max_bytes: i32,
        max_wait: Duration,
    ) -> Result<Bytes, ClientError> {
        let asked = FetchPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(max_bytes);
        let topics = vec![
            FetchTopic::default()
                .with_topic(m::TopicName(text(topic)))
                .with_partitions(vec![asked]),
        ];
        let request = m::FetchRequest::default()
            .with_replica_id(m::BrokerId(-1))
            .with_max_wait_ms(max_wait.as_millis() as i32)
            .with_min_bytes(1)
            .with_max_bytes(max_bytes)
            .with_session_epoch(-1)
            .with_topics(topics);
        let response: m::FetchResponse = self.connection.call(ApiKey::Fetch, 12, &request).await?;
        check(topic, response.error_code, None)?;
        let answer = response
            .responses
            .into_iter()
            .flat_map(|t| t.partitions)
            .next();
        let answer = answer.ok_or_else(|| self.connection.bad_answer("no partition in it"))?;
        check(topic, answer.error_code, None)?;
        Ok(answer.records.unwrap_or_default())
    }
}
