//! A consumer: alone with partitions that it was given, or a member of a group (the classic protocol, range assignment).
//!
//! One fetch is under way to each leader; its answer is handed out by [`Consumer::poll`], which sends the next one first.
//! How it is a member of a group is in `membership`.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages as m;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use strandline_wire::batch::{Record, Records, TimestampType, split_batches, verify_crc};
use strandline_wire::special_timestamp::{EARLIEST, LATEST};
use strandline_wire::{ErrorCode, text};
use tokio::task::JoinSet;

use crate::aborted::AbortedTransactions;
use crate::cluster::Cluster;
use crate::error::{ClientError, check};
use crate::membership::{MemberTimes, Membership};
use crate::offsets::{Key, list_offsets_of};

/// Newest version that names topics, not ids.
const FETCH_VERSION: i16 = 12;
const RETRY: Duration = Duration::from_millis(100);

/// Where to begin without a committed offset (`auto.offset.reset`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    Earliest,
    Latest,
    None,
}

#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    pub reset: OffsetReset,
    /// `fetch.max.wait.ms`
    pub max_wait: Duration,
    /// `fetch.min.bytes`
    pub min_bytes: i32,
    /// `fetch.max.bytes`
    pub max_bytes: i32,
    /// `max.partition.fetch.bytes`
    pub max_partition_bytes: i32,
    /// `session.timeout.ms`
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`
    pub max_poll_interval: Duration,
    /// `auto.commit.interval.ms`; `None`: `enable.auto.commit=false`.
    pub auto_commit: Option<Duration>,
    /// `isolation.level=read_committed`
    pub read_committed: bool,
    /// `client.rack`
    pub rack: String,
    /// `check.crcs`
    pub check_crcs: bool,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            reset: OffsetReset::Latest,
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 50 << 20,
            max_partition_bytes: 1 << 20,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            auto_commit: Some(Duration::from_secs(5)),
            read_committed: false,
            rack: String::new(),
            check_crcs: true,
        }
    }
}

/// A record and where it was.
#[derive(Clone, Debug)]
pub struct Consumed {
    pub topic: Arc<str>,
    pub partition: i32,
    /// The topic stamps its records itself.
    pub log_append_time: bool,
    pub record: Record,
}

struct Position {
    offset: Option<i64>,
    leader: i32,
    /// Where `offset` is not known: the timestamp to look it up by.
    begin: i64,
    busy: bool,
    not_before: Instant,
}

struct Fetched {
    leader: i32,
    asked: Vec<Key>,
    answer: Result<m::FetchResponse, ClientError>,
}

pub struct Consumer {
    cluster: Arc<Cluster>,
    options: ConsumerOptions,
    membership: Option<Membership>,
    joining: Duration,
    positions: BTreeMap<Key, Position>,
    fetches: JoinSet<Fetched>,
    /// Leaders with a fetch under way.
    busy: HashSet<i32>,
    ready: VecDeque<Consumed>,
    /// The end offsets of the records that the caller has received and that are not committed, exclusive.
    consumed: BTreeMap<Key, i64>,
    committed_at: Instant,
    aborted: HashMap<Key, AbortedTransactions>,
}

impl Consumer {
    fn new(cluster: Arc<Cluster>, options: ConsumerOptions) -> Self {
        Self {
            cluster,
            options,
            membership: None,
            joining: Duration::ZERO,
            positions: BTreeMap::new(),
            fetches: JoinSet::new(),
            busy: HashSet::new(),
            ready: VecDeque::new(),
            consumed: BTreeMap::new(),
            committed_at: Instant::now(),
            aborted: HashMap::new(),
        }
    }

    /// A member of `group` that reads `topics`.
    pub fn subscribe(
        cluster: Arc<Cluster>,
        group: &str,
        topics: &[String],
        options: ConsumerOptions,
    ) -> Self {
        let times = MemberTimes {
            session_timeout: options.session_timeout,
            rebalance_timeout: options.max_poll_interval,
            heartbeat_interval: options.heartbeat_interval,
        };
        let mut consumer = Self::new(cluster.clone(), options);
        consumer.membership = Some(Membership::new(cluster, group, topics, times));
        consumer
    }

    /// A consumer of one partition from an offset on, or from where a (special) timestamp of `ListOffsets` says.
    pub fn assign(
        cluster: Arc<Cluster>,
        topic: &str,
        partition: i32,
        offset: Option<i64>,
        timestamp: i64,
        options: ConsumerOptions,
    ) -> Self {
        let mut consumer = Self::new(cluster, options);
        consumer.place((topic.into(), partition), offset, timestamp);
        consumer
    }

    fn place(&mut self, key: Key, offset: Option<i64>, begin: i64) {
        let position = Position {
            offset,
            leader: -1,
            begin,
            busy: false,
            not_before: Instant::now(),
        };
        self.positions.insert(key, position);
    }

    /// Time spent joining its group so far.
    pub fn joining(&self) -> Duration {
        self.joining
    }

    /// Returns records as soon as there are some, or none when `max_wait` has passed. Records that the previous call
    /// returned count as consumed.
    pub async fn poll(&mut self, max_wait: Duration) -> Result<Vec<Consumed>, ClientError> {
        let deadline = Instant::now() + max_wait;
        loop {
            self.keep_membership().await?;
            self.commit_if_due().await?;
            self.find_positions().await?;
            self.send_fetches();
            if !self.ready.is_empty() {
                let handed: Vec<Consumed> = std::mem::take(&mut self.ready).into();
                for one in &handed {
                    let key = (one.topic.clone(), one.partition);
                    self.consumed.insert(key, one.record.offset + 1);
                }
                return Ok(handed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            let pause = left.min(RETRY);
            if self.fetches.is_empty() {
                tokio::time::sleep(pause).await;
                continue;
            }
            let next = tokio::time::timeout(pause, self.fetches.join_next()).await;
            if let Ok(Some(Ok(fetched))) = next {
                self.take(fetched).await?;
            }
        }
    }

    /// Of the records that were returned, only those before `offset` count as consumed.
    pub fn consumed_until(&mut self, topic: &Arc<str>, partition: i32, offset: i64) {
        if let Some(consumed) = self.consumed.get_mut(&(topic.clone(), partition)) {
            *consumed = (*consumed).min(offset);
        }
    }

    /// Commits the positions of all records that count as consumed.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        self.committed_at = Instant::now();
        let Some(membership) = &self.membership else {
            return Ok(());
        };
        if !self.consumed.is_empty() && membership.is_joined() {
            membership.commit(&self.consumed).await?;
            self.consumed.clear();
        }
        Ok(())
    }

    /// Commits, if it commits by itself, and leaves its group.
    pub async fn close(mut self) -> Result<(), ClientError> {
        if self.options.auto_commit.is_some() {
            self.commit().await?;
        }
        match &mut self.membership {
            Some(membership) => membership.leave().await,
            None => Ok(()),
        }
    }

    async fn commit_if_due(&mut self) -> Result<(), ClientError> {
        match self.options.auto_commit {
            Some(interval) if self.committed_at.elapsed() >= interval => self.commit().await,
            _ => Ok(()),
        }
    }

    /// Joins the group, again if its coordinator wants that.
    async fn keep_membership(&mut self) -> Result<(), ClientError> {
        let Some(membership) = &self.membership else {
            return Ok(());
        };
        if !membership.must_join() {
            return Ok(());
        }
        if self.options.auto_commit.is_some() && membership.is_joined() {
            // The next owner of these partitions begins at the offsets that are committed here.
            self.commit().await?;
        }
        self.positions.clear();
        self.aborted.clear();
        self.ready.clear();
        self.consumed.clear();
        let began = Instant::now();
        let membership = self.membership.as_mut().expect("it was looked at");
        let assignment = membership.join().await?;
        let group = membership.group.clone();
        let offsets = self.committed(&group, &assignment).await?;
        let begin = match self.options.reset {
            OffsetReset::Earliest => EARLIEST,
            OffsetReset::Latest | OffsetReset::None => LATEST,
        };
        for key in assignment {
            let offset = offsets.get(&key).copied();
            if offset.is_none() && self.options.reset == OffsetReset::None {
                return Err(ClientError::Broker {
                    what: format!("{}-{}", key.0, key.1),
                    code: ErrorCode::OffsetOutOfRange,
                    message: Some(format!(
                        "Undefined offset with no reset policy for partitions: [{}-{}]",
                        key.0, key.1
                    )),
                });
            }
            self.place(key, offset, begin);
        }
        self.joining += began.elapsed();
        Ok(())
    }

    async fn committed(&self, group: &str, keys: &[Key]) -> Result<HashMap<Key, i64>, ClientError> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let mut topics: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in keys {
            topics.entry(topic.clone()).or_default().push(*partition);
        }
        let found = crate::offsets::committed(&self.cluster, group, Some(&topics)).await?;
        Ok(found.into_iter().map(|(key, c)| (key, c.offset)).collect())
    }

    /// Learns leaders, and offsets where only a timestamp is known.
    async fn find_positions(&mut self) -> Result<(), ClientError> {
        let now = Instant::now();
        let lost = |p: &Position| p.not_before <= now && (p.leader < 0 || p.offset.is_none());
        if !self.positions.values().any(lost) {
            return Ok(());
        }
        let names: HashSet<String> = self.positions.keys().map(|(t, _)| t.to_string()).collect();
        let names: Vec<String> = names.into_iter().collect();
        let metadata = match self.cluster.metadata_creating(&names).await {
            Ok(metadata) => metadata,
            Err(error) if error.is_retriable() => return Ok(()),
            Err(error) => return Err(error),
        };
        for topic in &metadata.topics {
            let Some(name) = &topic.name else { continue };
            for p in &topic.partitions {
                let key = (Arc::from(name.as_str()), p.partition_index);
                if let Some(position) = self.positions.get_mut(&key) {
                    position.leader = p.leader_id.0;
                }
            }
        }
        let mut to_find: BTreeMap<i32, Vec<(Key, i64)>> = BTreeMap::new();
        for (key, position) in &mut self.positions {
            if position.leader < 0 {
                position.not_before = now + RETRY;
            } else if position.offset.is_none() && position.not_before <= now {
                to_find
                    .entry(position.leader)
                    .or_default()
                    .push((key.clone(), position.begin));
            }
        }
        for (leader, keys) in to_find {
            let found = list_offsets_of(&self.cluster, leader, &keys).await;
            for (key, _) in &keys {
                let position = self.positions.get_mut(key).expect("it is asked for");
                let known = found.as_ref().ok().and_then(|f| f.get(key));
                let known = known.and_then(|k| k.as_ref().ok());
                position.offset = known.map(|(offset, _)| *offset);
                if known.is_none() {
                    position.leader = -1;
                    position.not_before = now + RETRY;
                }
            }
            if let Err(error) = found
                && !error.is_retriable()
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Sends a fetch to every leader that has none outstanding.
    fn send_fetches(&mut self) {
        let now = Instant::now();
        let mut by_leader: BTreeMap<i32, Vec<Key>> = BTreeMap::new();
        for (key, position) in &self.positions {
            let idle = !position.busy && position.not_before <= now;
            if idle && position.offset.is_some() && position.leader >= 0 {
                by_leader
                    .entry(position.leader)
                    .or_default()
                    .push(key.clone());
            }
        }
        for (leader, keys) in by_leader {
            if self.busy.contains(&leader) {
                continue;
            }
            let mut topics: BTreeMap<Arc<str>, Vec<FetchPartition>> = BTreeMap::new();
            for key in &keys {
                let position = self.positions.get_mut(key).expect("it is known");
                position.busy = true;
                let asked = FetchPartition::default()
                    .with_partition(key.1)
                    .with_current_leader_epoch(-1)
                    .with_fetch_offset(position.offset.unwrap_or(0))
                    .with_partition_max_bytes(self.options.max_partition_bytes);
                topics.entry(key.0.clone()).or_default().push(asked);
            }
            let topics = topics.into_iter().map(|(name, partitions)| {
                FetchTopic::default()
                    .with_topic(m::TopicName(text(&*name)))
                    .with_partitions(partitions)
            });
            let request = m::FetchRequest::default()
                .with_replica_id(m::BrokerId(-1))
                .with_max_wait_ms(self.options.max_wait.as_millis() as i32)
                .with_min_bytes(self.options.min_bytes)
                .with_max_bytes(self.options.max_bytes)
                .with_isolation_level(i8::from(self.options.read_committed))
                .with_session_epoch(-1)
                .with_topics(topics.collect())
                .with_rack_id(text(&self.options.rack));
            let cluster = self.cluster.clone();
            let limit = self.options.max_wait + cluster.options.request_timeout;
            self.busy.insert(leader);
            self.fetches.spawn(async move {
                let asking = async {
                    let channel = cluster.broker(leader).await?;
                    let version = channel.version_of::<m::FetchRequest>()?.min(FETCH_VERSION);
                    channel.call_version(&request, version, limit).await
                };
                Fetched {
                    leader,
                    answer: asking.await,
                    asked: keys,
                }
            });
        }
    }

    async fn take(&mut self, fetched: Fetched) -> Result<(), ClientError> {
        self.busy.remove(&fetched.leader);
        let later = Instant::now() + RETRY;
        for key in &fetched.asked {
            if let Some(position) = self.positions.get_mut(key) {
                position.busy = false;
            }
        }
        let answer = match fetched.answer {
            Ok(answer) if answer.error_code == 0 => answer,
            Ok(answer) => {
                check("fetch", answer.error_code, None)?;
                return Ok(());
            }
            Err(error) if error.is_retriable() => {
                for key in &fetched.asked {
                    if let Some(position) = self.positions.get_mut(key) {
                        position.leader = -1;
                        position.not_before = later;
                    }
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for topic in answer.responses {
            let name: Arc<str> = topic.topic.as_str().into();
            for data in topic.partitions {
                let key = (name.clone(), data.partition_index);
                // The partition may have been assigned to another member in between.
                if !self.positions.contains_key(&key) {
                    continue;
                }
                match ErrorCode::from_code(data.error_code) {
                    Some(ErrorCode::None) => self.take_records(&key, data)?,
                    Some(ErrorCode::OffsetOutOfRange) => {
                        let reset = self.options.reset;
                        let position = self.positions.get_mut(&key).expect("it is known");
                        if reset == OffsetReset::None {
                            check(&format!("{}-{}", key.0, key.1), data.error_code, None)?;
                        }
                        position.begin = if reset == OffsetReset::Earliest {
                            EARLIEST
                        } else {
                            LATEST
                        };
                        position.offset = None;
                    }
                    Some(code) if code.is_retriable() => {
                        let position = self.positions.get_mut(&key).expect("it is known");
                        position.leader = -1;
                        position.not_before = later;
                    }
                    _ => check(&format!("{}-{}", key.0, key.1), data.error_code, None)?,
                }
            }
        }
        Ok(())
    }

    fn take_records(
        &mut self,
        key: &Key,
        data: m::fetch_response::PartitionData,
    ) -> Result<(), ClientError> {
        let position = self.positions.get_mut(key).expect("it is known");
        let from = position.offset.unwrap_or(0);
        let bytes = data.records.unwrap_or_default();
        let damaged = |e: &dyn std::fmt::Display| ClientError::Decode {
            address: format!("{}-{}", key.0, key.1),
            reason: e.to_string(),
        };
        if self.options.read_committed {
            let aborted = self.aborted.entry(key.clone()).or_default();
            aborted.learn(&data.aborted_transactions.unwrap_or_default());
        }
        for found in split_batches(&bytes) {
            let (at, header) = found.map_err(|e| damaged(&e))?;
            let batch = &bytes[at..at + header.size()];
            if self.options.check_crcs {
                verify_crc(&header, batch).map_err(|e| damaged(&e))?;
            }
            position.offset = Some(header.end_offset().max(position.offset.unwrap_or(0)));
            let mut records = Records::new(header, batch).map_err(|e| damaged(&e))?;
            let hidden = self
                .aborted
                .get_mut(key)
                .is_some_and(|aborted| aborted.hides(&header, &mut records));
            if hidden || header.is_control() {
                continue;
            }
            let log_append_time = header.timestamp_type() == TimestampType::LogAppendTime;
            while let Some(record) = records.next_record().map_err(|e| damaged(&e))? {
                if record.offset >= from {
                    self.ready.push_back(Consumed {
                        topic: key.0.clone(),
                        partition: key.1,
                        log_append_time,
                        record,
                    });
                }
            }
        }
        Ok(())
    }
}
