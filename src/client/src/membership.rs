//! A consumer as a member of its group (the classic protocol): joining, being alive, leaving.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka_protocol::messages as m;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use strandline_wire::{ErrorCode, StrBytes, text};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::error::{ClientError, check};
use crate::group_protocol::{
    decode_assignment, decode_subscription, encode_assignment, encode_subscription,
};
use crate::offsets::{Key, commit_offsets};

const PROTOCOL_TYPE: &str = "consumer";
const RANGE: &str = "range";
const RETRY: Duration = Duration::from_millis(100);

/// The three time-outs of a membership.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemberTimes {
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub heartbeat_interval: Duration,
}

pub(crate) struct Membership {
    cluster: Arc<Cluster>,
    pub group: String,
    topics: Vec<String>,
    times: MemberTimes,
    member_id: StrBytes,
    generation: i32,
    /// The coordinator asks all members to join again.
    rejoin: Arc<AtomicBool>,
    heartbeats: Option<JoinHandle<()>>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        if let Some(heartbeats) = self.heartbeats.take() {
            heartbeats.abort();
        }
    }
}

impl Membership {
    pub fn new(cluster: Arc<Cluster>, group: &str, topics: &[String], times: MemberTimes) -> Self {
        Self {
            cluster,
            group: group.to_owned(),
            topics: topics.to_vec(),
            times,
            member_id: StrBytes::default(),
            generation: -1,
            rejoin: Arc::new(AtomicBool::new(true)),
            heartbeats: None,
        }
    }

    /// The member has not joined yet, or the coordinator has started a rebalance.
    pub fn must_join(&self) -> bool {
        self.rejoin.load(Ordering::Acquire)
    }

    pub fn is_joined(&self) -> bool {
        self.generation >= 0
    }

    /// Leaves the group, so that the others have its partitions at once.
    pub async fn leave(&mut self) -> Result<(), ClientError> {
        if let Some(heartbeats) = self.heartbeats.take() {
            heartbeats.abort();
        }
        if !self.is_joined() {
            return Ok(());
        }
        let member = m::leave_group_request::MemberIdentity::default()
            .with_member_id(self.member_id.clone());
        let id = self.cluster.coordinator(&self.group).await?;
        let channel = self.cluster.broker(id).await?;
        let batched = channel.version_of::<m::LeaveGroupRequest>()? >= 3;
        let request = m::LeaveGroupRequest::default().with_group_id(m::GroupId(text(&self.group)));
        let request = if batched {
            request.with_members(vec![member])
        } else {
            request.with_member_id(self.member_id.clone())
        };
        let limit = self.cluster.options.request_timeout;
        channel.call(&request, limit).await.map(|_| ())
    }

    /// Commits as the member that this is. One that is none any more joins again.
    pub async fn commit(&self, offsets: &BTreeMap<Key, i64>) -> Result<(), ClientError> {
        let member = (&*self.member_id, self.generation);
        let committed = commit_offsets(&self.cluster, &self.group, member, offsets).await;
        match committed.as_ref().err().and_then(ClientError::code) {
            Some(
                ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
                | ErrorCode::RebalanceInProgress,
            ) => {
                self.rejoin.store(true, Ordering::Release);
                Ok(())
            }
            _ => committed,
        }
    }

    /// Joins the group; gives the partitions that this member is to read.
    pub async fn join(&mut self) -> Result<Vec<Key>, ClientError> {
        loop {
            if let Some(heartbeats) = self.heartbeats.take() {
                heartbeats.abort();
            }
            self.rejoin.store(false, Ordering::Release);
            let group = self.group.clone();
            let subscription = encode_subscription(&self.topics);
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(StrBytes::from_static_str(RANGE))
                .with_metadata(subscription);
            let request = m::JoinGroupRequest::default()
                .with_group_id(m::GroupId(text(&group)))
                .with_session_timeout_ms(self.times.session_timeout.as_millis() as i32)
                .with_rebalance_timeout_ms(self.times.rebalance_timeout.as_millis() as i32)
                .with_member_id(self.member_id.clone())
                .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
                .with_protocols(vec![protocol]);
            let id = self.cluster.coordinator(&group).await?;
            let channel = self.cluster.broker(id).await;
            // The coordinator answers when all members have joined.
            let limit = self.times.rebalance_timeout + self.cluster.options.request_timeout;
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
            match ErrorCode::from_code(joined.error_code) {
                Some(ErrorCode::None) => {}
                Some(ErrorCode::MemberIdRequired) => {
                    self.member_id = joined.member_id;
                    continue;
                }
                Some(ErrorCode::UnknownMemberId) => {
                    self.member_id = StrBytes::default();
                    continue;
                }
                Some(code) if code.is_retriable() => {
                    self.cluster.forget_coordinator(&group);
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                _ => check(&group, joined.error_code, None)?,
            }
            self.member_id = joined.member_id.clone();
            self.generation = joined.generation_id;
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
        let interval = self.times.heartbeat_interval;
        let cluster = self.cluster.clone();
        let rejoin = self.rejoin.clone();
        let group = self.group.clone();
        let request = m::HeartbeatRequest::default()
            .with_group_id(m::GroupId(text(&group)))
            .with_generation_id(self.generation)
            .with_member_id(self.member_id.clone());
        self.heartbeats = Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let code = |answer: &m::HeartbeatResponse| answer.error_code;
                let answer = cluster.call_coordinator(&group, &request, code).await;
                // An unreachable coordinator is tried again; a refusal means that the member must join again.
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
}
