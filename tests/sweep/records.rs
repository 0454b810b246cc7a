//! Records that were acknowledged, positions that were committed, and whether a broker still has both.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka_protocol::messages as m;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use strandline_client::{Client, Connection};
use strandline_wire::batch::RecordToWrite;
use strandline_wire::compression::Compression;
use strandline_wire::special_timestamp::{EARLIEST, LATEST, LATEST_TIERED};
use strandline_wire::{ApiKey, StrBytes};

use crate::process::LIMIT;

/// Small segments in both tiers: a few batches fill several.
pub const TIERED: [(&str, &str); 3] = [
    ("remote.storage.enable", "true"),
    ("internal.segment.bytes", "4000"),
    ("local.retention.bytes", "1"),
];
pub const HOT: [(&str, &str); 1] = [("internal.segment.bytes", "4000")];
/// A copy is a matter of milliseconds, unless a setting slows it down.
const COPY: Duration = Duration::from_secs(2);
const GROUP: &str = "sweep";

/// A fault of a broker.
#[derive(Debug)]
pub enum Trouble {
    /// The broker refuses the request, or closes the connection.
    Refused(String),
    /// Records or positions have changed, or the broker does not answer in time.
    Wrong(String),
}

impl Trouble {
    pub fn text(self) -> String {
        match self {
            Self::Refused(text) | Self::Wrong(text) => text,
        }
    }
}

/// Where a topic begins or ends. A broker that has just started may not lead yet.
async fn list(client: &mut Client, topic: &str, timestamp: i64) -> Result<i64, Trouble> {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        let listed = timely("list", client.list_offset(topic, 0, timestamp)).await;
        match listed {
            Err(Trouble::Refused(reason))
                if reason.contains("NOT_LEADER_OR_FOLLOWER")
                    && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
}

/// Bounds a request.
async fn timely<T, E: ToString>(
    what: &str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(answer) => answer.map_err(|e| Trouble::Refused(format!("{what}: {}", e.to_string()))),
        Err(_) => Err(Trouble::Wrong(format!("{what}: no answer in {LIMIT:?}"))),
    }
}

pub async fn connect(address: &str) -> Result<Client, Trouble> {
    timely("connect", Client::connect(address)).await
}

/// Values that a topic must still hold, by offset.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged {
    values: BTreeMap<i64, Bytes>,
    /// A setting allows old records to be deleted.
    pub may_lose_the_oldest: bool,
}

impl Acknowledged {
    /// Produces batches; stops at the first that is refused.
    pub async fn produce(
        &mut self,
        client: &mut Client,
        topic: &str,
        batches: usize,
    ) -> Result<(), Trouble> {
        const RECORDS: usize = 5;
        for _ in 0..batches {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let timestamp = now.map_or(0, |d| d.as_millis() as i64);
            let first = self
                .values
                .last_key_value()
                .map_or(0, |(offset, _)| offset + 1);
            let records: Vec<RecordToWrite> = (0..RECORDS)
                .map(|i| RecordToWrite {
                    timestamp,
                    value: Some(format!("{topic} {first} {i} {}", "v".repeat(200)).into()),
                    ..RecordToWrite::default()
                })
                .collect();
            let produced = client.produce(topic, 0, Compression::None, &records);
            let base = timely("produce", produced).await?;
            let values = records.into_iter().filter_map(|r| r.value);
            self.values.extend((base..).zip(values));
        }
        Ok(())
    }

    /// Reads everything and compares. Records that were refused or not answered may be there or not.
    pub async fn check(&self, client: &mut Client, topic: &str) -> Result<(), Trouble> {
        if self.values.is_empty() {
            return Ok(());
        }
        let start = list(client, topic, EARLIEST).await?;
        let end = list(client, topic, LATEST).await?;
        let deadline = tokio::time::Instant::now() + LIMIT;
        let mut read: BTreeMap<i64, Option<Bytes>> = BTreeMap::new();
        let mut offset = start;
        while offset < end {
            if tokio::time::Instant::now() > deadline {
                return Err(Trouble::Wrong(format!(
                    "{topic} was not read in {LIMIT:?}: at {offset} of {end}"
                )));
            }
            let wait = Duration::from_millis(100);
            let records = client.fetch(topic, 0, offset, 1 << 20, wait);
            for record in timely("fetch", records).await? {
                offset = record.offset + 1;
                read.insert(record.offset, record.value);
            }
        }
        let missing = |offset: &i64| !self.may_lose_the_oldest || *offset >= start;
        for (offset, value) in self.values.iter().filter(|(offset, _)| missing(offset)) {
            if read.get(offset).and_then(Option::as_ref) != Some(value) {
                let reason = format!(
                    "{topic}: the record at {offset} is lost (the log has {start} to {end})"
                );
                return Err(Trouble::Wrong(reason));
            }
        }
        Ok(())
    }
}

/// Whether a part of the topic was copied to the cold tier in time.
pub async fn copied(client: &mut Client, topic: &str) -> Result<bool, Trouble> {
    let deadline = tokio::time::Instant::now() + COPY;
    loop {
        let tiered = list(client, topic, LATEST_TIERED).await?;
        if tiered >= 0 {
            return Ok(true);
        }
        if tokio::time::Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn name(topic: &str) -> m::TopicName {
    m::TopicName(StrBytes::from_string(topic.to_owned()))
}

/// Commits a position; the first time, that creates the topic of the groups.
pub async fn commit(address: &str, topic: &str, offset: i64) -> Result<(), Trouble> {
    let mut connection = timely("connect", Connection::open(address)).await?;
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let asked = OffsetCommitRequestTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![partition]);
        let request = m::OffsetCommitRequest::default()
            .with_group_id(m::GroupId(StrBytes::from_static_str(GROUP)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![asked]);
        let find = m::FindCoordinatorRequest::default().with_key(StrBytes::from_static_str(GROUP));
        let found = connection.call(ApiKey::FindCoordinator, 2, &find);
        let _: m::FindCoordinatorResponse = timely("find a coordinator", found).await?;
        let committed = connection.call(ApiKey::OffsetCommit, 2, &request);
        let answer: m::OffsetCommitResponse = timely("commit", committed).await?;
        let code = answer.topics.first().and_then(|t| t.partitions.first());
        match code.map(|p| p.error_code) {
            Some(0) => return Ok(()),
            code if tokio::time::Instant::now() > deadline => {
                return Err(Trouble::Refused(format!("commit: error {code:?}")));
            }
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Whether the broker still has the committed position.
pub async fn check_committed(address: &str, topic: &str, offset: i64) -> Result<(), Trouble> {
    let mut connection = timely("connect", Connection::open(address)).await?;
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        let asked = OffsetFetchRequestTopic::default()
            .with_name(name(topic))
            .with_partition_indexes(vec![0]);
        let request = m::OffsetFetchRequest::default()
            .with_group_id(m::GroupId(StrBytes::from_static_str(GROUP)))
            .with_topics(Some(vec![asked]));
        let fetched = connection.call(ApiKey::OffsetFetch, 2, &request);
        let answer: m::OffsetFetchResponse = timely("fetch a position", fetched).await?;
        let found = answer.topics.first().and_then(|t| t.partitions.first());
        let found = found.map(|p| p.committed_offset);
        if found == Some(offset) && answer.error_code == 0 {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            let reason = format!(
                "the position is {found:?}, not {offset}: error {}",
                answer.error_code
            );
            return Err(Trouble::Wrong(reason));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Kafka's numbers for resources.
pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;

/// Sets a key at run time; `None` deletes the setting.
pub async fn alter(
    connection: &mut Connection,
    (kind, resource): (i8, &str),
    key: &str,
    value: Option<&str>,
) -> Result<(), Trouble> {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    let text = |s: &str| StrBytes::from_string(s.to_owned());
    let config = AlterableConfig::default()
        .with_name(text(key))
        .with_config_operation(if value.is_some() { SET } else { DELETE })
        .with_value(value.map(text));
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(resource))
        .with_configs(vec![config]);
    let request = m::IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let call = connection.call(ApiKey::IncrementalAlterConfigs, 1, &request);
    let answer: m::IncrementalAlterConfigsResponse = timely("alter", call).await?;
    match answer.responses.first() {
        Some(answer) if answer.error_code == 0 => Ok(()),
        Some(answer) => {
            let message = answer.error_message.as_deref().unwrap_or_default();
            Err(Trouble::Refused(format!(
                "error {}: {message}",
                answer.error_code
            )))
        }
        None => Err(Trouble::Wrong("alter: no answer for the resource".into())),
    }
}

pub async fn connection(address: &str) -> Result<Connection, Trouble> {
    timely("connect", Connection::open(address)).await
}

pub async fn create(
    client: &mut Client,
    topic: &str,
    configs: &[(&str, &str)],
) -> Result<(), Trouble> {
    timely("create", client.create_topic(topic, 1, configs)).await
}
