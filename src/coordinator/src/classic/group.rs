//! One classic group: its members, generation and state, and the requests that wait for its append. Every method is a
//! plain transition.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use strandline_types::{MonotonicMs, TimestampMs, TopicPartition};
use strandline_wire::ErrorCode;

use super::member::Member;
use crate::outcome::Token;
use crate::record::OffsetAndMetadata;
use crate::reply::{JoinRequest, LeaveMember, MemberIdentity, SyncRequest};

/// Requests that may wait for one append of a group.
const MAX_DEFERRED: usize = 4096;
/// Bytes of the members of a group, of their metadata and their assignments, and of requests that wait for an append.
const MAX_BYTES: usize = 32 << 20;

/// Kafka's states of a classic group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    Dead,
}

impl GroupState {
    /// The name that `DescribeGroups` and `ListGroups` show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub id: String,
    pub state: GroupState,
    /// The time of the last change of state; `None` where no record has it.
    pub state_since_ms: Option<TimestampMs>,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub members: BTreeMap<String, Member>,
    pub static_members: BTreeMap<String, String>,
    /// Ids handed out by `MEMBER_ID_REQUIRED` and not used yet, with the time at which they lapse.
    pub pending: BTreeMap<String, MonotonicMs>,
    /// When the current join phase ends at the latest.
    pub join_deadline: Option<MonotonicMs>,
    /// In the first rebalance of an empty group: the phase is prolonged up to here while members come.
    pub initial_join_limit: Option<MonotonicMs>,
    /// When members that have not sent SyncGroup are removed.
    pub sync_deadline: Option<MonotonicMs>,
    pub offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
    /// A record of the group is being appended: nothing in this record is true yet.
    appending: bool,
    /// Requests that came during the append, in order of arrival.
    deferred: Vec<Deferred>,
}

/// A request that waits until the group's record is committed or refused.
#[derive(Clone, Debug)]
pub(crate) enum Deferred {
    Join(Token, JoinRequest),
    Sync(Token, SyncRequest),
    Leave(Token, Vec<LeaveMember>),
}

impl Deferred {
    fn bytes(&self) -> usize {
        match self {
            Self::Join(_, request) => request.bytes(),
            Self::Sync(_, request) => request.bytes(),
            Self::Leave(_, members) => members.iter().map(|m| m.member_id.len() + 100).sum(),
        }
    }
}

/// The topics that the members of a group subscribe to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subscription {
    Topics(BTreeSet<String>),
    /// A member's metadata cannot be read, or no protocol is chosen yet.
    Unknown,
}

impl Subscription {
    /// A topic counts as subscribed where that is not known.
    pub fn may_contain(&self, topic: &str) -> bool {
        match self {
            Self::Topics(topics) => topics.contains(topic),
            Self::Unknown => true,
        }
    }
}

impl Group {
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            state: GroupState::Empty,
            state_since_ms: None,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            join_deadline: None,
            initial_join_limit: None,
            sync_deadline: None,
            offsets: BTreeMap::new(),
            appending: false,
            deferred: Vec::new(),
        }
    }

    /// Whether the group may keep so many bytes more.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let members: usize = self.members.values().map(Member::bytes).sum();
        let deferred: usize = self.deferred.iter().map(Deferred::bytes).sum();
        members + deferred + bytes <= MAX_BYTES
    }

    /// Defers requests until the append is committed or refused.
    pub fn begin_append(&mut self) {
        self.appending = true;
    }

    pub fn end_append(&mut self) {
        self.appending = false;
    }

    pub fn is_appending(&self) -> bool {
        self.appending
    }

    pub fn defer(&mut self, request: Deferred) -> Result<(), ErrorCode> {
        if self.deferred.len() >= MAX_DEFERRED {
            return Err(ErrorCode::CoordinatorLoadInProgress);
        }
        self.deferred.push(request);
        Ok(())
    }

    pub fn take_deferred(&mut self) -> Vec<Deferred> {
        std::mem::take(&mut self.deferred)
    }

    /// Whether the group has no members and no process is about to become one.
    pub fn is_unused(&self) -> bool {
        self.state == GroupState::Empty && self.members.is_empty() && self.pending.is_empty()
    }

    pub fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some("consumer")
    }

    /// The next moment at which time changes the group. A group whose record is being appended waits for the log.
    pub fn next_deadline(&self) -> Option<MonotonicMs> {
        if self.appending {
            return None;
        }
        let sessions = self.members.values().filter(|m| !m.is_waiting());
        sessions
            .map(|m| m.session_deadline)
            .chain(self.pending.values().copied())
            .chain(self.join_deadline)
            .chain(self.sync_deadline)
            .min()
    }

    pub fn enter(&mut self, state: GroupState, now_ms: TimestampMs) {
        self.state = state;
        self.state_since_ms = Some(now_ms);
    }

    /// Whether a member with these protocols could join beside the others.
    pub fn supports(&self, protocol_type: &str, protocols: &[(String, Bytes)]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|(name, _)| self.members.values().all(|m| m.supports(name)))
    }

    /// The protocol that all members know and most prefer; ties go to the name that sorts first.
    pub fn select_protocol(&self) -> Option<String> {
        let first = self.members.values().next()?;
        let candidates: BTreeSet<&str> = first
            .protocols
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| self.members.values().all(|m| m.supports(name)))
            .collect();
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member
                .protocols
                .iter()
                .find(|(name, _)| candidates.contains(name.as_str()));
            if let Some((name, _)) = choice {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .rev()
            .max_by_key(|(_, n)| *n)
            .map(|(name, _)| name.to_owned())
    }

    pub fn insert(&mut self, member: Member) {
        if let Some(instance) = &member.instance_id {
            self.static_members
                .insert(instance.clone(), member.id.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.pending.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    pub fn remove(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        if let Some(instance) = &member.instance_id
            && self
                .static_members
                .get(instance)
                .is_some_and(|id| id == member_id)
        {
            self.static_members.remove(instance);
        }
        if self.leader.as_deref() == Some(member_id) {
            self.elect_leader();
        }
        Some(member)
    }

    /// Elects the first member that is joining; if none is, any member.
    pub fn elect_leader(&mut self) {
        let joining = self.members.values().find(|m| m.awaiting_join.is_some());
        self.leader = joining
            .or_else(|| self.members.values().next())
            .map(|m| m.id.clone());
    }

    pub fn all_have_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|m| m.awaiting_join.is_some())
    }

    /// Wraps to 1 behind the largest number.
    pub fn next_generation(&self) -> i32 {
        self.generation.checked_add(1).unwrap_or(1)
    }

    pub fn rebalance_timeout_ms(&self) -> i64 {
        self.members
            .values()
            .map(|m| i64::from(m.rebalance_timeout_ms))
            .max()
            .unwrap_or(0)
    }

    /// Topics that the members subscribe to, where the protocol is the consumers' own.
    pub fn subscription(&self) -> Subscription {
        if self.members.is_empty() || !self.uses_consumer_protocol() {
            return Subscription::Topics(BTreeSet::new());
        }
        let Some(protocol) = self.protocol.as_deref() else {
            return Subscription::Unknown;
        };
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let Some(subscribed) = parse_subscription(&member.metadata(protocol)) else {
                return Subscription::Unknown;
            };
            topics.extend(subscribed);
        }
        Subscription::Topics(topics)
    }
}

/// The sender, if it is a member of this generation.
pub(crate) fn check_member<'a>(
    group: &'a mut Group,
    sender: &MemberIdentity,
) -> Result<&'a mut Member, ErrorCode> {
    if let Some(instance) = &sender.instance_id {
        match group.static_members.get(instance) {
            None => return Err(ErrorCode::UnknownMemberId),
            Some(id) if *id != sender.member_id => return Err(ErrorCode::FencedInstanceId),
            Some(_) => {}
        }
    }
    let generation = group.generation;
    let member = group.members.get_mut(&sender.member_id);
    let member = member.ok_or(ErrorCode::UnknownMemberId)?;
    if sender.generation != generation {
        return Err(ErrorCode::IllegalGeneration);
    }
    Ok(member)
}

/// Topic names of a `ConsumerProtocolSubscription`: version i16, then an array of strings in every version.
fn parse_subscription(metadata: &Bytes) -> Option<Vec<String>> {
    let mut reader = strandline_wire::primitive::Reader::new(metadata.clone());
    reader.i16().ok()?;
    let count = reader.array_length(false).ok()?;
    (0..count)
        .map(|_| {
            reader
                .string(false)
                .ok()
                .and_then(|s| String::from_utf8(s.to_vec()).ok())
        })
        .collect()
}
