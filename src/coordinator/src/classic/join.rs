//! JoinGroup.

use strandline_types::Now;
use strandline_wire::ErrorCode;

use super::group::{Deferred, Group, GroupState};
use super::member::Member;
use super::rebalance::{joined_reply, rebalance};
use super::static_member::{Replacement, begin_replacement};
use crate::config::GroupConfig;
use crate::coordinator::GroupCoordinator;
use crate::outcome::{Outcome, Token};
use crate::reply::{JoinRequest, Reply};

/// Why a member may not join, and the member id that the answer names.
type Refusal = (ErrorCode, String);

impl GroupCoordinator {
    pub fn join(&mut self, token: Token, request: JoinRequest, now: Now) -> Outcome {
        let mut out = Outcome::default();
        if let Err((error, id)) = self.try_join(token, request, now, &mut out) {
            out.reply(token, Reply::join_error(error, &id));
        }
        out
    }

    fn try_join(
        &mut self,
        token: Token,
        request: JoinRequest,
        now: Now,
        out: &mut Outcome,
    ) -> Result<(), Refusal> {
        let config = self.config;
        let id = request.member_id.clone();
        let refuse = |error| Err((error, id.clone()));
        if request.group.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let sessions = config.min_session_timeout_ms..=config.max_session_timeout_ms;
        if !sessions.contains(&request.session_timeout_ms) {
            return refuse(ErrorCode::InvalidSessionTimeout);
        }
        let supports = |g: &Group| g.supports(&request.protocol_type, &request.protocols);
        // A refused request makes no group.
        if !self.groups.contains_key(&request.group) {
            if !request.member_id.is_empty() {
                return refuse(ErrorCode::UnknownMemberId);
            }
            if !supports(&Group::new(&request.group)) {
                return refuse(ErrorCode::InconsistentGroupProtocol);
            }
        }
        let group = self.group_or_new(&request.group);
        if !group.has_room_for(request.bytes()) {
            return refuse(ErrorCode::GroupMaxSizeReached);
        }
        if group.is_appending() {
            let deferred = Deferred::Join(token, request);
            return group.defer(deferred).or_else(refuse);
        }
        if !supports(group) {
            return refuse(ErrorCode::InconsistentGroupProtocol);
        }
        if request.member_id.is_empty() {
            join_new(group, token, &request, config, now, out)
        } else {
            join_known(group, token, &request, config, now, out).or_else(refuse)
        }
    }
}

fn join_new(
    group: &mut Group,
    token: Token,
    request: &JoinRequest,
    config: GroupConfig,
    now: Now,
    out: &mut Outcome,
) -> Result<(), Refusal> {
    let prefix = request.instance_id.as_ref().unwrap_or(&request.client_id);
    let id = format!("{prefix}-{}", request.new_member_suffix);
    let holder = request.instance_id.as_ref();
    let holder = holder.and_then(|instance| group.static_members.get(instance));
    if let Some(old_id) = holder.cloned() {
        let replacement = Replacement {
            token,
            old_id,
            member: Member::joining(id, token, request, now.monotonic),
        };
        begin_replacement(group, replacement, config, now, out);
        return Ok(());
    }
    if group.members.len() + group.pending.len() >= config.max_size {
        return Err((ErrorCode::GroupMaxSizeReached, String::new()));
    }
    if request.instance_id.is_none() && request.require_known_member_id {
        let timeout = i64::from(request.session_timeout_ms);
        let lapses = now.monotonic.plus_ms(timeout);
        group.pending.insert(id.clone(), lapses);
        return Err((ErrorCode::MemberIdRequired, id));
    }
    add_and_rebalance(group, id, token, request, config, now, out);
    Ok(())
}

fn join_known(
    group: &mut Group,
    token: Token,
    request: &JoinRequest,
    config: GroupConfig,
    now: Now,
    out: &mut Outcome,
) -> Result<(), ErrorCode> {
    let id = request.member_id.clone();
    if request.instance_id.is_none() && group.pending.contains_key(&id) {
        add_and_rebalance(group, id, token, request, config, now, out);
        return Ok(());
    }
    if let Some(instance) = &request.instance_id {
        match group.static_members.get(instance) {
            None => return Err(ErrorCode::UnknownMemberId),
            Some(known) if *known != id => return Err(ErrorCode::FencedInstanceId),
            Some(_) => {}
        }
    }
    let is_leader = group.leader.as_deref() == Some(id.as_str());
    let state = group.state;
    let Some(member) = group.members.get_mut(&id) else {
        return Err(ErrorCode::UnknownMemberId);
    };
    member.heartbeat(now.monotonic);
    let same_protocols = member.protocols == request.protocols;
    let repeats = match state {
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

fn add_and_rebalance(
    group: &mut Group,
    id: String,
    token: Token,
    request: &JoinRequest,
    config: GroupConfig,
    now: Now,
    out: &mut Outcome,
) {
    if group.members.is_empty() {
        group.protocol_type = Some(request.protocol_type.clone());
    }
    group.insert(Member::joining(id, token, request, now.monotonic));
    if group.state == GroupState::PreparingRebalance
        && let (Some(limit), Some(deadline)) = (group.initial_join_limit, group.join_deadline)
    {
        // The first rebalance waits for stragglers: each newcomer prolongs it, up to the rebalance timeout.
        let delay = config.initial_rebalance_delay_ms;
        let prolonged = now.monotonic.plus_ms(delay).min(limit);
        group.join_deadline = Some(deadline.max(prolonged));
    }
    rebalance(group, config, now, out);
}
