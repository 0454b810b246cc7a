//! SyncGroup and Heartbeat: the leader's assignment is committed before any member receives it.

use std::collections::BTreeMap;

use bytes::Bytes;
use strandline_types::Now;
use strandline_wire::ErrorCode;

use super::durable::assigned_record;
use super::group::{Deferred, Group, GroupState, check_member};
use super::rebalance::{prepare_rebalance, remove_member};
use crate::config::GroupConfig;
use crate::coordinator::GroupCoordinator;
use crate::outcome::{Effect, Outcome, Token};
use crate::reply::{MemberIdentity, Reply, SyncRequest};

impl GroupCoordinator {
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
    ) -> Result<(), ErrorCode> {
        let group = self.groups.get_mut(&request.group);
        let group = group.ok_or(ErrorCode::UnknownMemberId)?;
        if !group.has_room_for(request.bytes()) {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        if group.is_appending() {
            return group.defer(Deferred::Sync(token, request));
        }
        check_member(group, &request.member)?;
        let differs =
            |asked: &Option<String>, have: &Option<String>| asked.is_some() && asked != have;
        if differs(&request.protocol_type, &group.protocol_type)
            || differs(&request.protocol, &group.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let is_leader = group.leader.as_deref() == Some(request.member.member_id.as_str());
        let (state, protocol_type) = (group.state, group.protocol_type.clone());
        let protocol = group.protocol.clone();
        let member = check_member(group, &request.member)?;
        match state {
            GroupState::Empty | GroupState::Dead => Err(ErrorCode::UnknownMemberId),
            GroupState::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            GroupState::Stable => {
                member.heartbeat(now.monotonic);
                let reply = Reply::Sync {
                    error: ErrorCode::None,
                    protocol_type,
                    protocol,
                    assignment: member.assignment.clone(),
                };
                out.reply(token, reply);
                Ok(())
            }
            GroupState::CompletingRebalance => {
                member.awaiting_sync = Some(token);
                member.heartbeat(now.monotonic);
                if is_leader {
                    begin_assignment(group, request.assignments, out);
                }
                Ok(())
            }
        }
    }

    pub fn heartbeat(&mut self, group: &str, member: &MemberIdentity, now: Now) -> ErrorCode {
        let Some(group) = self.groups.get_mut(group) else {
            return ErrorCode::UnknownMemberId;
        };
        let state = group.state;
        match check_member(group, member) {
            Ok(member) => member.heartbeat(now.monotonic),
            Err(error) => return error,
        }
        match state {
            GroupState::Empty | GroupState::Dead => ErrorCode::UnknownMemberId,
            GroupState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::None,
        }
    }
}

/// Appends the leader's assignment; members that it leaves out get an empty one.
fn begin_assignment(group: &mut Group, given: Vec<(String, Bytes)>, out: &mut Outcome) {
    let given: BTreeMap<String, Bytes> = given.into_iter().collect();
    let ids = group.members.keys();
    let assignments: BTreeMap<String, Bytes> = ids
        .map(|id| (id.clone(), given.get(id).cloned().unwrap_or_default()))
        .collect();
    let record = assigned_record(group, &assignments);
    group.begin_append();
    let effect = Effect::Assign {
        group: group.id.clone(),
        assignments,
    };
    out.append(record, effect);
}

/// The assignment is committed: the members that wait for it are answered.
pub(crate) fn finish_sync(
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
            let reply = Reply::Sync {
                error: ErrorCode::None,
                protocol_type: protocol_type.clone(),
                protocol: protocol.clone(),
                assignment: member.assignment.clone(),
            };
            out.reply(token, reply);
        }
    }
    group.sync_deadline = None;
    group.enter(GroupState::Stable, now.wall_ms);
}

/// The log refused the assignment: the rebalance begins again.
pub(crate) fn fail_sync(
    group: &mut Group,
    error: ErrorCode,
    config: GroupConfig,
    now: Now,
    out: &mut Outcome,
) {
    fail_syncs(group, error, out);
    prepare_rebalance(group, config, now, out);
}

pub fn fail_syncs(group: &mut Group, error: ErrorCode, out: &mut Outcome) {
    for member in group.members.values_mut() {
        member.assignment = Bytes::new();
        if let Some(token) = member.awaiting_sync.take() {
            out.reply(token, Reply::sync_error(error));
        }
    }
}

/// The sync phase is over: members that have not asked for their assignment are removed.
pub fn expire_unsynced(group: &mut Group, config: GroupConfig, now: Now, out: &mut Outcome) {
    group.sync_deadline = None;
    if group.state != GroupState::CompletingRebalance {
        return;
    }
    let absent = group.members.values().filter(|m| m.awaiting_sync.is_none());
    let absent: Vec<String> = absent.map(|m| m.id.clone()).collect();
    for id in &absent {
        remove_member(group, id, ErrorCode::UnknownMemberId, out);
    }
    prepare_rebalance(group, config, now, out);
}
