//! The groups of one partition of `__consumer_offsets` and what each request does to them.

use std::collections::BTreeMap;

use bytes::Bytes;
use strandline_types::{MonotonicMs, Now, TimestampMs, TopicPartition};
use strandline_wire::ErrorCode;

use crate::group::{Group, GroupState};
use crate::member::Member;
use crate::record::{CoordinatorRecord, GroupRecord, MemberRecord, OffsetAndMetadata};
use crate::reply::{
    CommitPartition, DescribedGroup, DescribedMember, JoinRequest, JoinedMember, LeaveMember,
    ListedGroup, MemberIdentity, Reply, SyncRequest,
};

/// Names a request that waits for its answer.
pub type Token = u64;

/// Kafka's `group.*` and `offset*` properties.
#[derive(Clone, Copy, Debug)]
pub struct GroupConfig {
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub initial_rebalance_delay_ms: i64,
    pub max_size: usize,
    pub offset_metadata_max_bytes: usize,
    pub offsets_retention_ms: i64,
}

/// Records to be made durable, and what follows from them.
#[derive(Debug)]
pub struct PendingAppend {
    pub records: Vec<CoordinatorRecord>,
    effect: Effect,
}

#[derive(Debug)]
enum Effect {
    /// The leader's assignment for this generation.
    Assign {
        group: String,
        generation: i32,
        assignments: BTreeMap<String, Bytes>,
    },
    /// Offsets to be set or removed, then a reply.
    Offsets { reply: Option<(Token, Reply)> },
    /// The record only mirrors what is in memory already.
    Nothing,
}

/// What a command leads to now.
#[derive(Debug, Default)]
pub struct Outcome {
    pub replies: Vec<(Token, Reply)>,
    pub appends: Vec<PendingAppend>,
}

impl Outcome {
    fn reply(&mut self, token: Token, reply: Reply) {
        self.replies.push((token, reply));
    }

    /// Replies once `records` are in the log; at once if there are none.
    fn append_offsets(&mut self, records: Vec<CoordinatorRecord>, token: Token, reply: Reply) {
        if records.is_empty() {
            self.reply(token, reply);
        } else {
            self.appends.push(PendingAppend {
                records,
                effect: Effect::Offsets {
                    reply: Some((token, reply)),
                },
            });
        }
    }
}

/// Groups by id.
#[derive(Debug)]
pub struct GroupCoordinator {
    config: GroupConfig,
    groups: BTreeMap<String, Group>,
}

type Check = Result<(), ErrorCode>;

impl GroupCoordinator {
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            groups: BTreeMap::new(),
        }
    }

    /// Replays one record of the log.
    pub fn load(&mut self, record: CoordinatorRecord, now: Now) {
        match record {
            CoordinatorRecord::Offset {
                group,
                partition,
                value,
            } => {
                let group = self
                    .groups
                    .entry(group.clone())
                    .or_insert_with(|| Group::new(&group, now.wall_ms));
                match value {
                    Some(value) => {
                        group.offsets.insert(partition, value);
                    }
                    None => {
                        group.offsets.remove(&partition);
                    }
                }
            }
            CoordinatorRecord::Group { group, value: None } => {
                self.groups.remove(&group);
            }
            CoordinatorRecord::Group {
                group,
                value: Some(value),
            } => {
                let offsets = self
                    .groups
                    .remove(&group)
                    .map(|g| g.offsets)
                    .unwrap_or_default();
                let mut loaded = restore(&group, value, now);
                loaded.offsets = offsets;
                self.groups.insert(group, loaded);
            }
        }
    }

    /// The log has been replayed: groups that nothing is left of go.
    pub fn finish_load(&mut self) {
        self.groups
            .retain(|_, g| !g.members.is_empty() || !g.offsets.is_empty() || g.generation > 0);
    }

    // --- JoinGroup

    pub fn join(&mut self, token: Token, request: JoinRequest, now: Now) -> Outcome {
        let mut out = Outcome::default();
        let config = self.config;
        if let Err((error, id)) = self.try_join(token, &request, config, now, &mut out) {
            out.reply(token, Reply::join_error(error, &id));
        }
        out
    }

    fn try_join(
        &mut self,
        token: Token,
        request: &JoinRequest,
        config: GroupConfig,
        now: Now,
        out: &mut Outcome,
    ) -> Result<(), (ErrorCode, String)> {
        let refuse = |error| Err((error, request.member_id.clone()));
        if request.group.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let sessions = config.min_session_timeout_ms..=config.max_session_timeout_ms;
        if !sessions.contains(&request.session_timeout_ms) {
            return refuse(ErrorCode::InvalidSessionTimeout);
        }
        if !self.groups.contains_key(&request.group) {
            if !request.member_id.is_empty() {
                return refuse(ErrorCode::UnknownMemberId);
            }
            self.groups.insert(
                request.group.clone(),
                Group::new(&request.group, now.wall_ms),
            );
        }
        let group = self
            .groups
            .get_mut(&request.group)
            .expect("it was just made sure of");
        if !group.supports(&request.protocol_type, &request.protocols) {
            return refuse(ErrorCode::InconsistentGroupProtocol);
        }
        if request.member_id.is_empty() {
            join_new(group, token, request, config, now, out)
        } else {
            join_known(group, token, request, config, now, out).or_else(refuse)
        }
    }

    // --- SyncGroup

    pub fn sync(&mut self, token: Token, request: SyncRequest, now: Now) -> Outcome {
        let mut out = Outcome::default();
        if let Err(error) = self.try_sync(token, request, now, &mut out) {
            out.reply(token, Reply::sync_error(error));
        }
        out
    }

    fn try_sync(
        &mut self,
        token: Token,
        request: SyncRequest,
        now: Now,
        out: &mut Outcome,
    ) -> Check {
        let group = self
            .groups
            .get_mut(&request.group)
            .ok_or(ErrorCode::UnknownMemberId)?;
        check_member(group, &request.member)?;
        let differs =
            |asked: &Option<String>, have: &Option<String>| asked.is_some() && asked != have;
        if differs(&request.protocol_type, &group.protocol_type)
            || differs(&request.protocol, &group.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let id = request.member.member_id.clone();
        let (protocol_type, protocol) = (group.protocol_type.clone(), group.protocol.clone());
        match group.state {
            GroupState::Empty | GroupState::Dead => Err(ErrorCode::UnknownMemberId),
            GroupState::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            GroupState::Stable => {
                let member = group.members.get_mut(&id).expect("it was checked");
                member.heartbeat(now.monotonic);
                let assignment = member.assignment.clone();
                out.reply(
                    token,
                    Reply::Sync {
                        error: ErrorCode::None,
                        protocol_type,
                        protocol,
                        assignment,
                    },
                );
                Ok(())
            }
            GroupState::CompletingRebalance => {
                let is_leader = group.leader.as_deref() == Some(id.as_str());
                let member = group.members.get_mut(&id).expect("it was checked");
                member.awaiting_sync = Some(token);
                member.heartbeat(now.monotonic);
                if is_leader {
                    let given: BTreeMap<String, Bytes> = request.assignments.into_iter().collect();
                    let assignments: BTreeMap<String, Bytes> = group
                        .members
                        .keys()
                        .map(|id| (id.clone(), given.get(id).cloned().unwrap_or_default()))
                        .collect();
                    let record = group_record(group, Some(&assignments));
                    out.appends.push(PendingAppend {
                        records: vec![record],
                        effect: Effect::Assign {
                            group: group.id.clone(),
                            generation: group.generation,
                            assignments,
                        },
                    });
                }
                Ok(())
            }
        }
    }

    // --- Heartbeat, LeaveGroup

    pub fn heartbeat(&mut self, group: &str, member: &MemberIdentity, now: Now) -> ErrorCode {
        let Some(group) = self.groups.get_mut(group) else {
            return ErrorCode::UnknownMemberId;
        };
        if let Err(error) = check_member(group, member) {
            return error;
        }
        let state = group.state;
        let found = group
            .members
            .get_mut(&member.member_id)
            .expect("it was checked");
        found.heartbeat(now.monotonic);
        match state {
            GroupState::Empty | GroupState::Dead => ErrorCode::UnknownMemberId,
            GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::None,
        }
    }

    pub fn leave(
        &mut self,
        token: Token,
        group: &str,
        members: &[LeaveMember],
        now: Now,
    ) -> Outcome {
        let mut out = Outcome::default();
        let config = self.config;
        let Some(group) = self.groups.get_mut(group) else {
            let each = members.iter().map(|_| ErrorCode::UnknownMemberId).collect();
            out.reply(
                token,
                Reply::Leave {
                    error: ErrorCode::None,
                    members: each,
                },
            );
            return out;
        };
        let mut results = Vec::with_capacity(members.len());
        let mut anyone = false;
        for leaving in members {
            let result = leaving_member(group, leaving);
            let error = match result {
                Ok(Some(id)) => {
                    remove_member(group, &id, ErrorCode::UnknownMemberId, &mut out);
                    anyone = true;
                    ErrorCode::None
                }
                Ok(None) => {
                    anyone = true;
                    ErrorCode::None
                }
                Err(error) => error,
            };
            results.push(error);
        }
        if anyone {
            after_removal(group, config, now, &mut out);
        }
        out.reply(
            token,
            Reply::Leave {
                error: ErrorCode::None,
                members: results,
            },
        );
        out
    }

    // --- Offsets

    pub fn commit_offsets(
        &mut self,
        token: Token,
        group_id: &str,
        member: &MemberIdentity,
        partitions: Vec<CommitPartition>,
        now: Now,
    ) -> Outcome {
        let mut out = Outcome::default();
        if let Err(error) = self.check_commit(group_id, member, now) {
            let each = partitions.iter().map(|_| error).collect();
            out.reply(token, Reply::OffsetCommit(each));
            return out;
        }
        let limit = self.config.offset_metadata_max_bytes;
        let mut results = Vec::with_capacity(partitions.len());
        let mut records = Vec::new();
        for commit in partitions {
            if commit.offset.metadata.len() > limit {
                results.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            results.push(ErrorCode::None);
            records.push(CoordinatorRecord::Offset {
                group: group_id.to_owned(),
                partition: TopicPartition::new(commit.topic, commit.partition),
                value: Some(commit.offset),
            });
        }
        let reply = Reply::OffsetCommit(results);
        out.append_offsets(records, token, reply);
        out
    }

    fn check_commit(&mut self, group_id: &str, member: &MemberIdentity, now: Now) -> Check {
        let Some(group) = self.groups.get_mut(group_id) else {
            // A consumer that assigns partitions itself commits without a group; it makes one.
            return if member.generation < 0 {
                Ok(())
            } else {
                Err(ErrorCode::IllegalGeneration)
            };
        };
        if member.generation < 0 && member.member_id.is_empty() {
            let free = group.state == GroupState::Empty;
            return if free {
                Ok(())
            } else {
                Err(ErrorCode::UnknownMemberId)
            };
        }
        check_member(group, member)?;
        let state = group.state;
        let found = group
            .members
            .get_mut(&member.member_id)
            .expect("it was checked");
        found.heartbeat(now.monotonic);
        match state {
            GroupState::Dead => Err(ErrorCode::CoordinatorNotAvailable),
            GroupState::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            GroupState::Empty | GroupState::Stable | GroupState::PreparingRebalance => Ok(()),
        }
    }

    /// A committed position.
    pub fn offset(&self, group: &str, partition: &TopicPartition) -> Option<&OffsetAndMetadata> {
        self.groups.get(group)?.offsets.get(partition)
    }

    /// All committed positions of a group.
    pub fn offsets(
        &self,
        group: &str,
    ) -> impl Iterator<Item = (&TopicPartition, &OffsetAndMetadata)> {
        self.groups
            .get(group)
            .into_iter()
            .flat_map(|g| g.offsets.iter())
    }

    pub fn delete_offsets(
        &mut self,
        token: Token,
        group_id: &str,
        partitions: &[TopicPartition],
    ) -> Outcome {
        let mut out = Outcome::default();
        let Some(group) = self.groups.get(group_id) else {
            out.reply(
                token,
                Reply::OffsetDelete(ErrorCode::GroupIdNotFound, Vec::new()),
            );
            return out;
        };
        let busy = !group.members.is_empty();
        if busy && group.protocol_type.as_deref() != Some("consumer") {
            out.reply(
                token,
                Reply::OffsetDelete(ErrorCode::NonEmptyGroup, Vec::new()),
            );
            return out;
        }
        let subscribed = group.subscribed_topics();
        let mut results = Vec::new();
        let mut records = Vec::new();
        for partition in partitions {
            let in_use = busy
                && subscribed
                    .as_ref()
                    .is_none_or(|topics| topics.contains(&*partition.topic));
            if in_use {
                results.push(ErrorCode::GroupSubscribedToTopic);
                continue;
            }
            results.push(ErrorCode::None);
            if group.offsets.contains_key(partition) {
                records.push(tombstone(group_id, partition));
            }
        }
        let reply = Reply::OffsetDelete(ErrorCode::None, results);
        out.append_offsets(records, token, reply);
        out
    }

    /// Forgets committed positions of partitions whose topic is gone.
    pub fn forget_topic(&mut self, topic: &str) -> Outcome {
        let mut records = Vec::new();
        for (id, group) in &self.groups {
            let gone = group.offsets.keys().filter(|tp| &*tp.topic == topic);
            records.extend(gone.map(|tp| tombstone(id, tp)));
        }
        let mut out = Outcome::default();
        if !records.is_empty() {
            out.appends.push(PendingAppend {
                records,
                effect: Effect::Offsets { reply: None },
            });
        }
        out
    }

    // --- Administration

    pub fn delete_group(&mut self, token: Token, group_id: &str) -> Outcome {
        let mut out = Outcome::default();
        let refused = match self.groups.get(group_id) {
            None => Some(ErrorCode::GroupIdNotFound),
            Some(group) if !group.members.is_empty() || !group.pending.is_empty() => {
                Some(ErrorCode::NonEmptyGroup)
            }
            Some(_) => None,
        };
        if let Some(error) = refused {
            out.reply(token, Reply::Delete(error));
            return out;
        }
        let records = group_tombstones(&self.groups[group_id]);
        out.append_offsets(records, token, Reply::Delete(ErrorCode::None));
        out
    }

    pub fn describe(&self, group: &str) -> Option<DescribedGroup> {
        let group = self.groups.get(group)?;
        let protocol = group.protocol.clone().unwrap_or_default();
        let stable = group.state == GroupState::Stable;
        let members = group.members.values().map(|m| DescribedMember {
            member_id: m.id.clone(),
            instance_id: m.instance_id.clone(),
            client_id: m.client_id.clone(),
            client_host: m.client_host.clone(),
            metadata: if stable {
                m.metadata(&protocol)
            } else {
                Bytes::new()
            },
            assignment: if stable {
                m.assignment.clone()
            } else {
                Bytes::new()
            },
        });
        Some(DescribedGroup {
            state: group.state,
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            members: members.collect(),
            protocol: if stable { protocol } else { String::new() },
        })
    }

    pub fn list(&self) -> impl Iterator<Item = ListedGroup> {
        self.groups.values().map(|g| ListedGroup {
            group: g.id.clone(),
            protocol_type: g.protocol_type.clone().unwrap_or_default(),
            state: g.state,
        })
    }

    // --- Commit

    /// Records that a command asked for are in the log.
    pub fn committed(&mut self, append: PendingAppend, now: Now) -> Outcome {
        let mut out = Outcome::default();
        match append.effect {
            Effect::Assign {
                group,
                generation,
                assignments,
            } => {
                if let Some(group) = self.groups.get_mut(&group)
                    && group.state == GroupState::CompletingRebalance
                    && group.generation == generation
                {
                    finish_sync(group, &assignments, now, &mut out);
                }
            }
            Effect::Offsets { reply } => {
                for record in append.records {
                    self.apply_committed(record, now);
                }
                out.replies.extend(reply);
            }
            Effect::Nothing => {}
        }
        out
    }

    fn apply_committed(&mut self, record: CoordinatorRecord, now: Now) {
        match record {
            CoordinatorRecord::Offset {
                group,
                partition,
                value: Some(value),
            } => {
                let group = self
                    .groups
                    .entry(group.clone())
                    .or_insert_with(|| Group::new(&group, now.wall_ms));
                group.offsets.insert(partition, value);
            }
            CoordinatorRecord::Offset {
                group,
                partition,
                value: None,
            } => {
                if let Some(group) = self.groups.get_mut(&group) {
                    group.offsets.remove(&partition);
                }
            }
            CoordinatorRecord::Group { group, value: None } => {
                let unused = |g: &Group| g.members.is_empty() && g.pending.is_empty();
                if self.groups.get(&group).is_some_and(unused) {
                    self.groups.remove(&group);
                }
            }
            CoordinatorRecord::Group { .. } => {}
        }
    }

    /// The log refused the records; whoever waits is told, and nothing has changed.
    pub fn failed(&mut self, append: PendingAppend, error: ErrorCode, now: Now) -> Outcome {
        let mut out = Outcome::default();
        match append.effect {
            Effect::Assign {
                group, generation, ..
            } => {
                let config = self.config;
                if let Some(group) = self.groups.get_mut(&group)
                    && group.state == GroupState::CompletingRebalance
                    && group.generation == generation
                {
                    fail_syncs(group, error, &mut out);
                    prepare_rebalance(group, config, now, &mut out);
                }
            }
            Effect::Offsets {
                reply: Some((token, reply)),
            } => {
                let reply = match reply {
                    Reply::OffsetCommit(each) => {
                        let failed = |e| if e == ErrorCode::None { error } else { e };
                        Reply::OffsetCommit(each.into_iter().map(failed).collect())
                    }
                    Reply::OffsetDelete(_, _) => Reply::OffsetDelete(error, Vec::new()),
                    _ => Reply::Delete(error),
                };
                out.reply(token, reply);
            }
            Effect::Offsets { reply: None } | Effect::Nothing => {}
        }
        out
    }

    // --- Time

    /// The earliest time at which [`GroupCoordinator::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<MonotonicMs> {
        self.groups.values().flat_map(deadlines).min()
    }

    /// Ends join and sync phases that are over and removes members that have fallen silent.
    pub fn tick(&mut self, now: Now) -> Outcome {
        let mut out = Outcome::default();
        let config = self.config;
        for group in self.groups.values_mut() {
            let lapsed = group.pending.len();
            group
                .pending
                .retain(|_, deadline| *deadline > now.monotonic);
            let silent: Vec<String> = group
                .members
                .values()
                .filter(|m| !m.is_waiting() && m.session_deadline <= now.monotonic)
                .map(|m| m.id.clone())
                .collect();
            for id in &silent {
                remove_member(group, id, ErrorCode::UnknownMemberId, &mut out);
            }
            if group.sync_deadline.is_some_and(|d| d <= now.monotonic) {
                expire_unsynced(group, config, now, &mut out);
            }
            if !silent.is_empty() || group.pending.len() < lapsed {
                after_removal(group, config, now, &mut out);
            }
            if group.state == GroupState::PreparingRebalance
                && group.join_deadline.is_some_and(|d| d <= now.monotonic)
            {
                complete_join(group, now, &mut out);
            }
        }
        out
    }

    /// Tombstones for committed positions that are older than `offsets.retention.minutes` in groups without members.
    pub fn expire_offsets(&mut self, now_ms: TimestampMs) -> Outcome {
        let mut out = Outcome::default();
        let oldest = now_ms.saturating_sub(self.config.offsets_retention_ms);
        for group in self.groups.values() {
            if group.state != GroupState::Empty || !group.pending.is_empty() {
                continue;
            }
            let mut records: Vec<_> = group
                .offsets
                .iter()
                .filter(|(_, o)| o.commit_timestamp_ms.max(group.state_since_ms) <= oldest)
                .map(|(tp, _)| tombstone(&group.id, tp))
                .collect();
            if records.len() == group.offsets.len() && group.state_since_ms <= oldest {
                records = group_tombstones(group);
            }
            if !records.is_empty() {
                out.appends.push(PendingAppend {
                    records,
                    effect: Effect::Offsets { reply: None },
                });
            }
        }
        out
    }
}

fn deadlines(group: &Group) -> impl Iterator<Item = MonotonicMs> + '_ {
    let sessions = group
        .members
        .values()
        .filter(|m| !m.is_waiting())
        .map(|m| m.session_deadline);
    sessions
        .chain(group.pending.values().copied())
        .chain(group.join_deadline)
        .chain(group.sync_deadline)
}

fn tombstone(group: &str, partition: &TopicPartition) -> CoordinatorRecord {
    CoordinatorRecord::Offset {
        group: group.to_owned(),
        partition: partition.clone(),
        value: None,
    }
}

fn group_tombstones(group: &Group) -> Vec<CoordinatorRecord> {
    let offsets = group.offsets.keys().map(|tp| tombstone(&group.id, tp));
    let itself = CoordinatorRecord::Group {
        group: group.id.clone(),
        value: None,
    };
    offsets.chain([itself]).collect()
}

/// The group's durable record, with other assignments than the members have now where they are given.
fn group_record(group: &Group, assignments: Option<&BTreeMap<String, Bytes>>) -> CoordinatorRecord {
    let protocol = group.protocol.clone().unwrap_or_default();
    let members = group.members.values().map(|m| MemberRecord {
        member_id: m.id.clone(),
        instance_id: m.instance_id.clone(),
        client_id: m.client_id.clone(),
        client_host: m.client_host.clone(),
        rebalance_timeout_ms: m.rebalance_timeout_ms,
        session_timeout_ms: m.session_timeout_ms,
        subscription: m.metadata(&protocol),
        assignment: assignments
            .and_then(|a| a.get(&m.id))
            .unwrap_or(&m.assignment)
            .clone(),
    });
    CoordinatorRecord::Group {
        group: group.id.clone(),
        value: Some(GroupRecord {
            protocol_type: group.protocol_type.clone().unwrap_or_default(),
            generation: group.generation,
            protocol: group.protocol.clone(),
            leader: group.leader.clone(),
            state_since_ms: group.state_since_ms,
            members: members.collect(),
        }),
    }
}

fn restore(id: &str, record: GroupRecord, now: Now) -> Group {
    let mut group = Group::new(id, now.wall_ms);
    group.generation = record.generation;
    group.protocol_type = Some(record.protocol_type).filter(|t| !t.is_empty());
    group.protocol = record.protocol.clone();
    for m in record.members {
        let protocol = record.protocol.clone().unwrap_or_default();
        group.insert(Member {
            id: m.member_id,
            instance_id: m.instance_id,
            client_id: m.client_id,
            client_host: m.client_host,
            rebalance_timeout_ms: m.rebalance_timeout_ms,
            session_timeout_ms: m.session_timeout_ms,
            protocols: vec![(protocol, m.subscription)],
            assignment: m.assignment,
            awaiting_join: None,
            awaiting_sync: None,
            session_deadline: now.monotonic.plus_ms(i64::from(m.session_timeout_ms)),
        });
    }
    group.leader = record.leader;
    let state = if group.members.is_empty() {
        GroupState::Empty
    } else {
        GroupState::Stable
    };
    group.enter(
        state,
        if record.state_since_ms >= 0 {
            record.state_since_ms
        } else {
            now.wall_ms
        },
    );
    group
}

/// Whether the sender is a member of this generation.
fn check_member(group: &Group, sender: &MemberIdentity) -> Check {
    if let Some(instance) = &sender.instance_id {
        match group.static_members.get(instance) {
            None => return Err(ErrorCode::UnknownMemberId),
            Some(id) if *id != sender.member_id => return Err(ErrorCode::FencedInstanceId),
            Some(_) => {}
        }
    }
    if !group.members.contains_key(&sender.member_id) {
        return Err(ErrorCode::UnknownMemberId);
    }
    if sender.generation != group.generation {
        return Err(ErrorCode::IllegalGeneration);
    }
    Ok(())
}

fn new_member(id: String, token: Token, request: &JoinRequest, now: Now) -> Member {
    Member {
        id,
        instance_id: request.instance_id.clone(),
        client_id: request.client_id.clone(),
        client_host: request.client_host.clone(),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        session_timeout_ms: request.session_timeout_ms,
        protocols: request.protocols.clone(),
        assignment: Bytes::new(),
        awaiting_join: Some(token),
        awaiting_sync: None,
        session_deadline: now.monotonic.plus_ms(i64::from(request.session_timeout_ms)),
    }
}

fn join_new(
    group: &mut Group,
    token: Token,
    request: &JoinRequest,
    config: GroupConfig,
    now: Now,
    out: &mut Outcome,
) -> Result<(), (ErrorCode, String)> {
    let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
    let id = format!("{prefix}-{}", request.new_member_suffix);
    if let Some(instance) = &request.instance_id
        && let Some(old) = group.static_members.get(instance).cloned()
    {
        replace_static(group, &old, id, token, request, config, now, out);
        return Ok(());
    }
    if group.members.len() + group.pending.len() >= config.max_size {
        return Err((ErrorCode::GroupMaxSizeReached, String::new()));
    }
    if request.instance_id.is_none() && request.require_known_member_id {
        let lapses = now.monotonic.plus_ms(i64::from(request.session_timeout_ms));
        group.pending.insert(id.clone(), lapses);
        return Err((ErrorCode::MemberIdRequired, id));
    }
    add_and_rebalance(
        group,
        new_member(id, token, request, now),
        request,
        config,
        now,
        out,
    );
    Ok(())
}

fn join_known(
    group: &mut Group,
    token: Token,
    request: &JoinRequest,
    config: GroupConfig,
    now: Now,
    out: &mut Outcome,
) -> Check {
    let id = request.member_id.clone();
    if request.instance_id.is_none() && group.pending.contains_key(&id) {
        add_and_rebalance(
            group,
            new_member(id, token, request, now),
            request,
            config,
            now,
            out,
        );
        return Ok(());
    }
    if let Some(instance) = &request.instance_id {
        match group.static_members.get(instance) {
            None => return Err(ErrorCode::UnknownMemberId),
            Some(known) if *known != id => return Err(ErrorCode::FencedInstanceId),
            Some(_) => {}
        }
    }
    let Some(member) = group.members.get_mut(&id) else {
        return Err(ErrorCode::UnknownMemberId);
    };
    member.heartbeat(now.monotonic);
    let same_protocols = member.protocols == request.protocols;
    let is_leader = group.leader.as_deref() == Some(id.as_str());
    let repeats = match group.state {
        GroupState::CompletingRebalance => same_protocols,
        GroupState::Stable => same_protocols && !is_leader,
        _ => false,
    };
    if repeats {
        out.reply(token, joined_reply(group, &id));
        return Ok(());
    }
    member.protocols.clone_from(&request.protocols);
    member.session_timeout_ms = request.session_timeout_ms;
    member.rebalance_timeout_ms = request.rebalance_timeout_ms;
    if let Some(older) = member.awaiting_join.replace(token) {
        out.reply(older, Reply::join_error(ErrorCode::UnknownMemberId, &id));
    }
    rebalance(group, config, now, out);
    Ok(())
}

/// A static member came back under a new id: it keeps its assignment, and the group its generation, if nothing changed.
#[allow(clippy::too_many_arguments)]
fn replace_static(
    group: &mut Group,
    old_id: &str,
    new_id: String,
    token: Token,
    request: &JoinRequest,
    config: GroupConfig,
    now: Now,
    out: &mut Outcome,
) {
    let was_leader = group.leader.as_deref() == Some(old_id);
    let old = group
        .members
        .remove(old_id)
        .expect("a static id names a member");
    if let Some(waiting) = old.awaiting_join {
        out.reply(
            waiting,
            Reply::join_error(ErrorCode::FencedInstanceId, old_id),
        );
    }
    if let Some(waiting) = old.awaiting_sync {
        out.reply(waiting, Reply::sync_error(ErrorCode::FencedInstanceId));
    }
    let mut member = new_member(new_id.clone(), token, request, now);
    member.assignment = old.assignment;
    let protocol = group.protocol.clone().unwrap_or_default();
    let same = member.metadata(&protocol)
        == old
            .protocols
            .iter()
            .find(|(n, _)| *n == protocol)
            .map_or(Bytes::new(), |(_, m)| m.clone());
    group.insert(member);
    if was_leader {
        group.leader = Some(new_id.clone());
    }
    if group.state == GroupState::Stable && same {
        group
            .members
            .get_mut(&new_id)
            .expect("it was just inserted")
            .awaiting_join = None;
        // A leader that comes back must not assign anew: it is shown its old id as the leader's.
        let reply = match joined_reply(group, &new_id) {
            Reply::Join {
                error,
                generation,
                protocol_type,
                protocol,
                member_id,
                ..
            } if was_leader => Reply::Join {
                error,
                generation,
                protocol_type,
                protocol,
                leader: old_id.to_owned(),
                member_id,
                members: Vec::new(),
            },
            other => other,
        };
        out.reply(token, reply);
        let records = vec![group_record(group, None)];
        out.appends.push(PendingAppend {
            records,
            effect: Effect::Nothing,
        });
    } else {
        rebalance(group, config, now, out);
    }
}

fn add_and_rebalance(
    group: &mut Group,
    member: Member,
    request: &JoinRequest,
    config: GroupConfig,
    now: Now,
    out: &mut Outcome,
) {
    if group.members.is_empty() {
        group.protocol_type = Some(request.protocol_type.clone());
    }
    group.insert(member);
    if group.state == GroupState::PreparingRebalance
        && let (Some(limit), Some(deadline)) = (group.initial_join_limit, group.join_deadline)
    {
        // The first rebalance waits for stragglers: each newcomer prolongs it, up to the rebalance timeout.
        let prolonged = now
            .monotonic
            .plus_ms(config.initial_rebalance_delay_ms)
            .min(limit);
        group.join_deadline = Some(deadline.max(prolonged));
    }
    rebalance(group, config, now, out);
}

/// Begins a join phase, or ends the current one if everybody is there.
fn rebalance(group: &mut Group, config: GroupConfig, now: Now, out: &mut Outcome) {
    if group.state == GroupState::PreparingRebalance {
        maybe_complete_join(group, now, out);
    } else {
        prepare_rebalance(group, config, now, out);
    }
}

fn prepare_rebalance(group: &mut Group, config: GroupConfig, now: Now, out: &mut Outcome) {
    if group.state == GroupState::CompletingRebalance {
        fail_syncs(group, ErrorCode::RebalanceInProgress, out);
    }
    group.sync_deadline = None;
    let timeout = group.rebalance_timeout_ms();
    if group.state == GroupState::Empty && config.initial_rebalance_delay_ms > 0 {
        group.initial_join_limit = Some(now.monotonic.plus_ms(timeout));
        group.join_deadline = Some(
            now.monotonic
                .plus_ms(config.initial_rebalance_delay_ms.min(timeout)),
        );
    } else {
        group.initial_join_limit = None;
        group.join_deadline = Some(now.monotonic.plus_ms(timeout));
    }
    group.enter(GroupState::PreparingRebalance, now.wall_ms);
    maybe_complete_join(group, now, out);
}

fn maybe_complete_join(group: &mut Group, now: Now, out: &mut Outcome) {
    // A group's first rebalance always waits for its deadline.
    if group.all_have_joined() && group.initial_join_limit.is_none() {
        complete_join(group, now, out);
    }
}

fn complete_join(group: &mut Group, now: Now, out: &mut Outcome) {
    let absent: Vec<String> = group
        .members
        .values()
        .filter(|m| m.awaiting_join.is_none() && m.instance_id.is_none())
        .map(|m| m.id.clone())
        .collect();
    for id in absent {
        remove_member(group, &id, ErrorCode::UnknownMemberId, out);
    }
    group.join_deadline = None;
    group.initial_join_limit = None;
    group.generation = if group.generation == i32::MAX {
        1
    } else {
        group.generation + 1
    };
    if group.members.is_empty() {
        become_empty(group, now, out);
        return;
    }
    let leader_joined = group
        .leader
        .as_ref()
        .and_then(|id| group.members.get(id))
        .is_some_and(|m| m.awaiting_join.is_some());
    if !leader_joined {
        group.elect_leader();
    }
    group.protocol = group.select_protocol();
    group.enter(GroupState::CompletingRebalance, now.wall_ms);
    group.sync_deadline = Some(now.monotonic.plus_ms(group.rebalance_timeout_ms()));
    let ids: Vec<String> = group.members.keys().cloned().collect();
    for id in ids {
        let member = group.members.get_mut(&id).expect("the id was just listed");
        member.heartbeat(now.monotonic);
        if let Some(token) = member.awaiting_join.take() {
            let reply = joined_reply(group, &id);
            out.reply(token, reply);
        }
    }
}

fn become_empty(group: &mut Group, now: Now, out: &mut Outcome) {
    group.protocol = None;
    group.leader = None;
    group.sync_deadline = None;
    group.enter(GroupState::Empty, now.wall_ms);
    let records = vec![group_record(group, None)];
    out.appends.push(PendingAppend {
        records,
        effect: Effect::Nothing,
    });
}

fn joined_reply(group: &Group, member_id: &str) -> Reply {
    let leader = group.leader.clone().unwrap_or_default();
    let protocol = group.protocol.clone();
    let members = if leader == member_id {
        let name = protocol.clone().unwrap_or_default();
        group
            .members
            .values()
            .map(|m| JoinedMember {
                member_id: m.id.clone(),
                instance_id: m.instance_id.clone(),
                metadata: m.metadata(&name),
            })
            .collect()
    } else {
        Vec::new()
    };
    Reply::Join {
        error: ErrorCode::None,
        generation: group.generation,
        protocol_type: group.protocol_type.clone(),
        protocol,
        leader,
        member_id: member_id.to_owned(),
        members,
    }
}

fn finish_sync(
    group: &mut Group,
    assignments: &BTreeMap<String, Bytes>,
    now: Now,
    out: &mut Outcome,
) {
    let (protocol_type, protocol) = (group.protocol_type.clone(), group.protocol.clone());
    for member in group.members.values_mut() {
        member.assignment = assignments.get(&member.id).cloned().unwrap_or_default();
        member.heartbeat(now.monotonic);
        if let Some(token) = member.awaiting_sync.take() {
            out.reply(
                token,
                Reply::Sync {
                    error: ErrorCode::None,
                    protocol_type: protocol_type.clone(),
                    protocol: protocol.clone(),
                    assignment: member.assignment.clone(),
                },
            );
        }
    }
    group.sync_deadline = None;
    group.enter(GroupState::Stable, now.wall_ms);
}

fn fail_syncs(group: &mut Group, error: ErrorCode, out: &mut Outcome) {
    for member in group.members.values_mut() {
        member.assignment = Bytes::new();
        if let Some(token) = member.awaiting_sync.take() {
            out.reply(token, Reply::sync_error(error));
        }
    }
}

/// The sync phase is over: who has not asked for its assignment is gone.
fn expire_unsynced(group: &mut Group, config: GroupConfig, now: Now, out: &mut Outcome) {
    group.sync_deadline = None;
    if group.state != GroupState::CompletingRebalance {
        return;
    }
    let absent: Vec<String> = group
        .members
        .values()
        .filter(|m| m.awaiting_sync.is_none())
        .map(|m| m.id.clone())
        .collect();
    for id in &absent {
        remove_member(group, id, ErrorCode::UnknownMemberId, out);
    }
    prepare_rebalance(group, config, now, out);
}

/// `Ok(Some(id))`: this member leaves; `Ok(None)`: it only had a pending id.
fn leaving_member(group: &mut Group, leaving: &LeaveMember) -> Result<Option<String>, ErrorCode> {
    if let Some(instance) = &leaving.instance_id {
        return match group.static_members.get(instance) {
            None => Err(ErrorCode::UnknownMemberId),
            Some(id) if !leaving.member_id.is_empty() && *id != leaving.member_id => {
                Err(ErrorCode::FencedInstanceId)
            }
            Some(id) => Ok(Some(id.clone())),
        };
    }
    if group.pending.remove(&leaving.member_id).is_some() {
        return Ok(None);
    }
    if group.members.contains_key(&leaving.member_id) {
        return Ok(Some(leaving.member_id.clone()));
    }
    Err(ErrorCode::UnknownMemberId)
}

fn remove_member(group: &mut Group, id: &str, error: ErrorCode, out: &mut Outcome) {
    if let Some(member) = group.remove(id) {
        if let Some(token) = member.awaiting_join {
            out.reply(token, Reply::join_error(error, id));
        }
        if let Some(token) = member.awaiting_sync {
            out.reply(token, Reply::sync_error(error));
        }
    }
}

fn after_removal(group: &mut Group, config: GroupConfig, now: Now, out: &mut Outcome) {
    match group.state {
        GroupState::Stable | GroupState::CompletingRebalance => {
            prepare_rebalance(group, config, now, out);
        }
        GroupState::PreparingRebalance => maybe_complete_join(group, now, out),
        GroupState::Empty | GroupState::Dead => {}
    }
}
