//! A consumer: alone with partitions that it was given, or a member of a group (the classic protocol, range assignment).
//!
//! One fetch is under way to each leader; its answer is handed out by [`Consumer::poll`], which sends the next one first.
//! A task of its own keeps a member alive.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages as m;
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::protocol::{Decodable, Encodable};
use strandline_wire::batch::{Record, Records, split_batches};
use strandline_wire::{ErrorCode, StrBytes};
use tokio::task::{JoinHandle, JoinSet};

use crate::cluster::Cluster;
use crate::error::{ClientError, check};

/// Newest version that names topics, not ids.
const FETCH_VERSION: i16 = 12;
const PROTOCOL_TYPE: &str = "consumer";
const RANGE: &str = "range";
const RETRY: Duration = Duration::from_millis(100);
/// Special timestamps of `ListOffsets`.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

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

type Key = (Arc<str>, i32);

struct Position {
    offset: Option<i64>,
    leader: i32,
    /// Where `offset` is not known: the timestamp to look it up by.
    begin: i64,
    busy: bool,
    not_before: Instant,
    last_error: Option<ErrorCode>,
}

struct Fetched {
    leader: i32,
    asked: Vec<Key>,
    answer: Result<m::FetchResponse, ClientError>,
}

struct Membership {
    group: String,
    topics: Vec<String>,
    member_id: StrBytes,
    generation: i32,
    /// The coordinator wants everybody to join again.
    rejoin: Arc<AtomicBool>,
    heartbeats: Option<JoinHandle<()>>,
    /// Time that was spent joining, for the performance tool.
    joining: Duration,
}

pub struct Consumer {
    cluster: Arc<Cluster>,
    options: ConsumerOptions,
    membership: Option<Membership>,
    positions: BTreeMap<Key, Position>,
    fetches: JoinSet<Fetched>,
    /// Leaders with a fetch under way.
    busy: HashSet<i32>,
    ready: VecDeque<Consumed>,
    /// What has been handed out, exclusive, and is not committed.
    consumed: BTreeMap<Key, i64>,
    committed_at: Instant,
    aborted: HashMap<Key, AbortedTransactions>,
}

/// Of `read_committed`: whose records are not to be seen (KIP-98).
#[derive(Default)]
struct AbortedTransactions {
    /// First offset and producer id, ascending.
    to_come: VecDeque<(i64, i64)>,
    producers: HashSet<i64>,
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(heartbeats) = self.membership.as_mut().and_then(|m| m.heartbeats.take()) {
            heartbeats.abort();
        }
    }
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

impl Consumer {
    fn new(cluster: Arc<Cluster>, options: ConsumerOptions) -> Self {
        Self {
            cluster,
            options,
            membership: None,
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
        let mut consumer = Self::new(cluster, options);
        consumer.membership = Some(Membership {
            group: group.to_owned(),
            topics: topics.to_vec(),
            member_id: StrBytes::default(),
            generation: -1,
            rejoin: Arc::new(AtomicBool::new(true)),
            heartbeats: None,
            joining: Duration::ZERO,
        });
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
            last_error: None,
        };
        self.positions.insert(key, position);
    }

    /// Time spent joining its group so far.
    pub fn joining(&self) -> Duration {
        self.membership
            .as_ref()
            .map_or(Duration::ZERO, |m| m.joining)
    }

    /// Whether it has been given its partitions.
    pub fn is_assigned(&self) -> bool {
        !self.positions.is_empty()
    }

    /// Records, as soon as there are some; none when `max_wait` has passed. What the call before handed out counts as
    /// consumed.
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

    /// Of what has been handed out, only records before `offset` count as consumed.
    pub fn consumed_until(&mut self, topic: &Arc<str>, partition: i32, offset: i64) {
        if let Some(consumed) = self.consumed.get_mut(&(topic.clone(), partition)) {
            *consumed = (*consumed).min(offset);
        }
    }

    /// Commits what has been handed out.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        self.committed_at = Instant::now();
        let Some(membership) = &self.membership else {
            return Ok(());
        };
        if self.consumed.is_empty() || membership.generation < 0 {
            return Ok(());
        }
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, partition), offset) in &self.consumed {
            let committed = OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(StrBytes::default()));
            topics.entry(topic).or_default().push(committed);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            OffsetCommitRequestTopic::default()
                .with_name(m::TopicName(text(name)))
                .with_partitions(partitions)
        });
        let request = m::OffsetCommitRequest::default()
            .with_group_id(m::GroupId(text(&membership.group)))
            .with_member_id(membership.member_id.clone())
            .with_generation_id_or_member_epoch(membership.generation)
            .with_topics(topics.collect());
        let first = |answer: &m::OffsetCommitResponse| {
            let partitions = answer.topics.iter().flat_map(|t| &t.partitions);
            let mut codes = partitions.map(|p| p.error_code).filter(|c| *c != 0);
            codes.next().unwrap_or(0)
        };
        let group = membership.group.clone();
        let rejoin = membership.rejoin.clone();
        let answer = self
            .cluster
            .call_coordinator(&group, &request, first)
            .await?;
        match ErrorCode::from_code(first(&answer)) {
            Some(
                ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
                | ErrorCode::RebalanceInProgress,
            ) => rejoin.store(true, Ordering::Release),
            _ => check(&group, first(&answer), None)?,
        }
        self.consumed.clear();
        Ok(())
    }

    /// Commits, if it commits by itself, and leaves its group.
    pub async fn close(mut self) -> Result<(), ClientError> {
        if self.options.auto_commit.is_some() {
            self.commit().await?;
        }
        let Some(membership) = &mut self.membership else {
            return Ok(());
        };
        if let Some(heartbeats) = membership.heartbeats.take() {
            heartbeats.abort();
        }
        if membership.generation < 0 {
            return Ok(());
        }
        let member = m::leave_group_request::MemberIdentity::default()
            .with_member_id(membership.member_id.clone());
        let id = self.cluster.coordinator(&membership.group).await?;
        let channel = self.cluster.broker(id).await?;
        let batched = channel.version_of::<m::LeaveGroupRequest>()? >= 3;
        let request =
            m::LeaveGroupRequest::default().with_group_id(m::GroupId(text(&membership.group)));
        let request = if batched {
            request.with_members(vec![member])
        } else {
            request.with_member_id(membership.member_id.clone())
        };
        let limit = self.cluster.options.request_timeout;
        channel.call(&request, limit).await.map(|_| ())
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
        if !membership.rejoin.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.options.auto_commit.is_some() && membership.generation >= 0 {
            // Whoever gets these partitions next begins where this one has come to.
            self.commit().await?;
        }
        self.positions.clear();
        self.aborted.clear();
        self.ready.clear();
        self.consumed.clear();
        let began = Instant::now();
        let assignment = self.join().await?;
        let offsets = self.committed(&assignment).await?;
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
        if let Some(membership) = &mut self.membership {
            membership.joining += began.elapsed();
        }
        Ok(())
    }

    async fn join(&mut self) -> Result<Vec<Key>, ClientError> {
        loop {
            let membership = self.membership.as_mut().expect("only members join");
            if let Some(heartbeats) = membership.heartbeats.take() {
                heartbeats.abort();
            }
            membership.rejoin.store(false, Ordering::Release);
            let group = membership.group.clone();
            let subscription = subscription(&membership.topics);
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(StrBytes::from_static_str(RANGE))
                .with_metadata(subscription);
            let request = m::JoinGroupRequest::default()
                .with_group_id(m::GroupId(text(&group)))
                .with_session_timeout_ms(self.options.session_timeout.as_millis() as i32)
                .with_rebalance_timeout_ms(self.options.max_poll_interval.as_millis() as i32)
                .with_member_id(membership.member_id.clone())
                .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
                .with_protocols(vec![protocol]);
            let id = self.cluster.coordinator(&group).await?;
            let channel = self.cluster.broker(id).await;
            // The coordinator answers when everybody has joined.
            let limit = self.options.max_poll_interval + self.cluster.options.request_timeout;
            let joined = match channel {
                Ok(channel) => channel.call(&request, limit).await,
                Err(error) => Err(error),
            };
            let joined = match joined {
                Ok(joined) => joined,
                Err(error) if error.is_retriable() => {
                    self.cluster.forget_coordinator(&group);
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let membership = self.membership.as_mut().expect("only members join");
            match ErrorCode::from_code(joined.error_code) {
                Some(ErrorCode::None) => {}
                Some(ErrorCode::MemberIdRequired) => {
                    membership.member_id = joined.member_id;
                    continue;
                }
                Some(ErrorCode::UnknownMemberId) => {
                    membership.member_id = StrBytes::default();
                    continue;
                }
                Some(code) if code.is_retriable() => {
                    self.cluster.forget_coordinator(&group);
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                _ => check(&group, joined.error_code, None)?,
            }
            membership.member_id = joined.member_id.clone();
            membership.generation = joined.generation_id;
            let assignments = if joined.leader == joined.member_id {
                self.assign_ranges(&joined).await?
            } else {
                Vec::new()
            };
            let request = m::SyncGroupRequest::default()
                .with_group_id(m::GroupId(text(&group)))
                .with_generation_id(joined.generation_id)
                .with_member_id(joined.member_id.clone())
                .with_protocol_type(Some(StrBytes::from_static_str(PROTOCOL_TYPE)))
                .with_protocol_name(Some(StrBytes::from_static_str(RANGE)))
                .with_assignments(assignments);
            let synced = self.cluster.call_broker(id, &request).await;
            let synced = match synced {
                Ok(synced) => synced,
                Err(error) if error.is_retriable() => continue,
                Err(error) => return Err(error),
            };
            match ErrorCode::from_code(synced.error_code) {
                Some(ErrorCode::None) => {}
                Some(
                    ErrorCode::RebalanceInProgress
                    | ErrorCode::IllegalGeneration
                    | ErrorCode::UnknownMemberId
                    | ErrorCode::NotCoordinator
                    | ErrorCode::CoordinatorNotAvailable,
                ) => {
                    self.cluster.forget_coordinator(&group);
                    continue;
                }
                _ => check(&group, synced.error_code, None)?,
            }
            self.start_heartbeats();
            return Ok(decode_assignment(&synced.assignment)
                .unwrap_or_default()
                .into_iter()
                .map(|(topic, partition)| (topic.into(), partition))
                .collect());
        }
    }

    fn start_heartbeats(&mut self) {
        let interval = self.options.heartbeat_interval;
        let cluster = self.cluster.clone();
        let membership = self.membership.as_mut().expect("only members have a heart");
        let rejoin = membership.rejoin.clone();
        let group = membership.group.clone();
        let request = m::HeartbeatRequest::default()
            .with_group_id(m::GroupId(text(&group)))
            .with_generation_id(membership.generation)
            .with_member_id(membership.member_id.clone());
        membership.heartbeats = Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let code = |answer: &m::HeartbeatResponse| answer.error_code;
                let answer = cluster.call_coordinator(&group, &request, code).await;
                // Who cannot be reached is asked again; who refuses wants a new member.
                if answer.is_ok_and(|a| a.error_code != 0) {
                    rejoin.store(true, Ordering::Release);
                    return;
                }
            }
        }));
    }

    /// As the group's leader: each topic's partitions in consecutive ranges, by member id.
    async fn assign_ranges(
        &self,
        joined: &m::JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        let mut wanted: BTreeMap<String, Vec<StrBytes>> = BTreeMap::new();
        for member in &joined.members {
            for topic in decode_subscription(&member.metadata) {
                wanted
                    .entry(topic)
                    .or_default()
                    .push(member.member_id.clone());
            }
        }
        let names: Vec<String> = wanted.keys().cloned().collect();
        let metadata = self.cluster.metadata_creating(&names).await?;
        let mut counts: HashMap<String, usize> = HashMap::new();
        for topic in &metadata.topics {
            if let Some(name) = &topic.name {
                counts.insert(name.to_string(), topic.partitions.len());
            }
        }
        let mut given: BTreeMap<StrBytes, BTreeMap<String, Vec<i32>>> = BTreeMap::new();
        for member in &joined.members {
            given.entry(member.member_id.clone()).or_default();
        }
        for (topic, mut members) in wanted {
            members.sort();
            let count = counts.get(&topic).copied().unwrap_or(0);
            let (each, more) = (count / members.len(), count % members.len());
            let mut next = 0;
            for (index, member) in members.into_iter().enumerate() {
                let end = next + each + usize::from(index < more);
                let range: Vec<i32> = (next..end).map(|p| p as i32).collect();
                next = end;
                if !range.is_empty() {
                    let of_member = given.entry(member).or_default();
                    of_member.insert(topic.clone(), range);
                }
            }
        }
        let assignments = given.into_iter().map(|(member, topics)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(member)
                .with_assignment(encode_assignment(topics))
        });
        Ok(assignments.collect())
    }

    async fn committed(&self, keys: &[Key]) -> Result<HashMap<Key, i64>, ClientError> {
        let Some(membership) = self.membership.as_ref().filter(|_| !keys.is_empty()) else {
            return Ok(HashMap::new());
        };
        let mut topics: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
        for (topic, partition) in keys {
            topics.entry(topic.clone()).or_default().push(*partition);
        }
        let found =
            crate::offsets::committed(&self.cluster, &membership.group, Some(&topics)).await?;
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
            let found = self.list_offsets(leader, &keys).await;
            for (key, _) in &keys {
                let position = self.positions.get_mut(key).expect("it is asked for");
                let offset = found.as_ref().ok().and_then(|f| f.get(key));
                position.offset = offset.copied();
                if offset.is_none() {
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

    async fn list_offsets(
        &self,
        leader: i32,
        keys: &[(Key, i64)],
    ) -> Result<HashMap<Key, i64>, ClientError> {
        let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for ((topic, partition), timestamp) in keys {
            let asked = ListOffsetsPartition::default()
                .with_partition_index(*partition)
                .with_current_leader_epoch(-1)
                .with_timestamp(*timestamp);
            topics.entry(topic).or_default().push(asked);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            ListOffsetsTopic::default()
                .with_name(m::TopicName(text(name)))
                .with_partitions(partitions)
        });
        let request = m::ListOffsetsRequest::default()
            .with_replica_id(m::BrokerId(-1))
            .with_topics(topics.collect());
        let answer = self.cluster.call_broker(leader, &request).await?;
        let mut found = HashMap::new();
        for topic in &answer.topics {
            for p in &topic.partitions {
                if p.error_code == 0 {
                    found.insert(
                        (Arc::from(topic.name.as_str()), p.partition_index),
                        p.offset,
                    );
                }
            }
        }
        Ok(found)
    }

    /// Asks every leader that is not asked yet for what comes next.
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
                    .with_topic(m::TopicName(text(&name)))
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
                // It may have been given to somebody else in between.
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
                        position.last_error = Some(code);
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
            let listed = data.aborted_transactions.unwrap_or_default();
            let mut listed: Vec<(i64, i64)> = listed
                .iter()
                .map(|t| (t.first_offset, t.producer_id.0))
                .collect();
            listed.sort_unstable();
            aborted.to_come = listed.into();
        }
        for found in split_batches(&bytes) {
            let (at, header) = found.map_err(|e| damaged(&e))?;
            let batch = &bytes[at..at + header.size()];
            if self.options.check_crcs {
                strandline_wire::batch::verify_crc(&header, batch).map_err(|e| damaged(&e))?;
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
            let log_append_time =
                header.timestamp_type() == strandline_wire::batch::TimestampType::LogAppendTime;
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

impl AbortedTransactions {
    /// Whether a batch belongs to a transaction that was aborted.
    fn hides(
        &mut self,
        header: &strandline_wire::batch::BatchHeader,
        records: &mut Records<'_>,
    ) -> bool {
        while let Some((_, producer)) = self
            .to_come
            .pop_front_if(|(first, _)| *first <= header.last_offset())
        {
            self.producers.insert(producer);
        }
        if !header.has_producer_id() || !self.producers.contains(&header.producer_id) {
            return false;
        }
        if header.is_control() {
            // Version and type of the marker; 0 is an abort.
            let marker = records.next_record().ok().flatten().and_then(|r| r.key);
            let aborts = marker.is_some_and(|key| key.len() >= 4 && key[2..4] == [0, 0]);
            if aborts {
                self.producers.remove(&header.producer_id);
            }
            return true;
        }
        header.is_transactional()
    }
}

/// `ConsumerProtocolSubscription`, version 1.
fn subscription(topics: &[String]) -> Bytes {
    const VERSION: i16 = 1;
    let topics = topics.iter().map(|t| text(t)).collect();
    let body = m::ConsumerProtocolSubscription::default().with_topics(topics);
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    body.encode(&mut out, VERSION)
        .expect("version 1 has these fields");
    out.freeze()
}

fn decode_subscription(bytes: &Bytes) -> Vec<String> {
    let mut bytes = bytes.clone();
    if bytes.len() < 2 {
        return Vec::new();
    }
    let version = bytes.get_i16().clamp(0, 3);
    let decoded = m::ConsumerProtocolSubscription::decode(&mut bytes, version);
    decoded.map_or_else(
        |_| Vec::new(),
        |s| s.topics.iter().map(ToString::to_string).collect(),
    )
}

fn encode_assignment(topics: BTreeMap<String, Vec<i32>>) -> Bytes {
    const VERSION: i16 = 1;
    let assigned = topics.into_iter().map(|(topic, partitions)| {
        AssignedTopic::default()
            .with_topic(m::TopicName(text(&topic)))
            .with_partitions(partitions)
    });
    let body =
        m::ConsumerProtocolAssignment::default().with_assigned_partitions(assigned.collect());
    let mut out = BytesMut::new();
    out.put_i16(VERSION);
    body.encode(&mut out, VERSION)
        .expect("version 1 has these fields");
    out.freeze()
}

/// Topic and partition of everything in a `ConsumerProtocolAssignment`; `None` where it is none.
pub fn decode_assignment(bytes: &Bytes) -> Option<Vec<(String, i32)>> {
    let mut bytes = bytes.clone();
    if bytes.len() < 2 {
        return None;
    }
    let version = bytes.get_i16().clamp(0, 3);
    let decoded = m::ConsumerProtocolAssignment::decode(&mut bytes, version).ok()?;
    let all = decoded.assigned_partitions.iter().flat_map(|t| {
        let topic = t.topic.to_string();
        t.partitions.iter().map(move |p| (topic.clone(), *p))
    });
    Some(all.collect())
}
