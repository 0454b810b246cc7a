//! One classic group: its members, generation and state. Every method is a plain transition.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use strandline_types::{MonotonicMs, TimestampMs, TopicPartition};

use crate::member::Member;
use crate::record::OffsetAndMetadata;

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
    pub state_since_ms: TimestampMs,
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
}

impl Group {
    pub fn new(id: &str, now_ms: TimestampMs) -> Self {
        Self {
            id: id.to_owned(),
            state: GroupState::Empty,
            state_since_ms: now_ms,
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
        }
    }

    pub fn enter(&mut self, state: GroupState, now_ms: TimestampMs) {
        self.state = state;
        self.state_since_ms = now_ms;
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

    /// The first member that is joining leads; else whoever is there.
    pub fn elect_leader(&mut self) {
        let joining = self.members.values().find(|m| m.awaiting_join.is_some());
        self.leader = joining
            .or_else(|| self.members.values().next())
            .map(|m| m.id.clone());
    }

    pub fn all_have_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|m| m.awaiting_join.is_some())
    }

    pub fn rebalance_timeout_ms(&self) -> i64 {
        self.members
            .values()
            .map(|m| i64::from(m.rebalance_timeout_ms))
            .max()
            .unwrap_or(0)
    }

    /// Topics that the members subscribe to, where the protocol is the consumers' own; `None` if that is not known.
    pub fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if self.members.is_empty() || self.protocol_type.as_deref() != Some("consumer") {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(parse_subscription(&member.metadata(protocol))?);
        }
        Some(topics)
    }
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
