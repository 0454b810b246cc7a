//! A rebalance from its first join to the answers with the new generation, and its deadlines.

use strandline_types::Now;
use strandline_wire::ErrorCode;

use super::emptying::begin_emptying;
use super::group::{Group, GroupState};
use super::member::Member;
use super::sync::{expire_unsynced, fail_syncs};
use crate::config::GroupConfig;
use crate::outcome::Outcome;
use crate::reply::{JoinedMember, Reply};

/// Begins a join phase, or ends the current one if all members have joined.
pub fn rebalance(group: &mut Group, config: GroupConfig, now: Now, out: &mut Outcome) {
    if group.state == GroupState::PreparingRebalance {
        maybe_complete_join(group, now, out);
    } else {
        prepare_rebalance(group, config, now, out);
    }
}

pub fn prepare_rebalance(group: &mut Group, config: GroupConfig, now: Now, out: &mut Outcome) {
    if group.state == GroupState::CompletingRebalance {
        fail_syncs(group, ErrorCode::RebalanceInProgress, out);
    }
    group.sync_deadline = None;
    let timeout = group.rebalance_timeout_ms();
    let delay = config.initial_rebalance_delay_ms;
    if group.state == GroupState::Empty && delay > 0 {
        group.initial_join_limit = Some(now.monotonic.plus_ms(timeout));
        group.join_deadline = Some(now.monotonic.plus_ms(delay.min(timeout)));
    } else {
        group.initial_join_limit = None;
        group.join_deadline = Some(now.monotonic.plus_ms(timeout));
    }
    group.enter(GroupState::PreparingRebalance, now.wall_ms);
    maybe_complete_join(group, now, out);
}

pub fn maybe_complete_join(group: &mut Group, now: Now, out: &mut Outcome) {
    // A group's first rebalance always waits for its deadline.
    if group.all_have_joined() && group.initial_join_limit.is_none() {
        complete_join(group, now, out);
    }
}

fn complete_join(group: &mut Group, now: Now, out: &mut Outcome) {
    let is_absent = |m: &&Member| m.awaiting_join.is_none() && m.instance_id.is_none();
    let absent = group.members.values().filter(is_absent);
    let absent: Vec<String> = absent.map(|m| m.id.clone()).collect();
    for id in absent {
        remove_member(group, &id, ErrorCode::UnknownMemberId, out);
    }
    group.join_deadline = None;
    group.initial_join_limit = None;
    if group.members.is_empty() {
        begin_emptying(group, Vec::new(), None, now, out);
        return;
    }
    group.generation = group.next_generation();
    let leader = group.leader.as_ref();
    let leader = leader.and_then(|id| group.members.get(id));
    if leader.is_none_or(|m| m.awaiting_join.is_none()) {
        group.elect_leader();
    }
    group.protocol = group.select_protocol();
    group.enter(GroupState::CompletingRebalance, now.wall_ms);
    let timeout = group.rebalance_timeout_ms();
    group.sync_deadline = Some(now.monotonic.plus_ms(timeout));
    let mut joined = Vec::new();
    for member in group.members.values_mut() {
        member.heartbeat(now.monotonic);
        let waiting = member.awaiting_join.take();
        joined.extend(waiting.map(|token| (token, member.id.clone())));
    }
    for (token, id) in joined {
        out.reply(token, joined_reply(group, &id));
    }
}

/// A member's answer to JoinGroup: its generation, and to the leader all members.
pub fn joined_reply(group: &Group, member_id: &str) -> Reply {
    let leader = group.leader.clone().unwrap_or_default();
    let protocol = group.protocol.clone();
    let members = if leader == member_id {
        let name = protocol.as_deref().unwrap_or_default();
        let members = group.members.values().map(|m| JoinedMember {
            member_id: m.id.clone(),
            instance_id: m.instance_id.clone(),
            metadata: m.metadata(name),
        });
        members.collect()
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

pub fn remove_member(group: &mut Group, id: &str, error: ErrorCode, out: &mut Outcome) {
    let Some(member) = group.remove(id) else {
        return;
    };
    if let Some(token) = member.awaiting_join {
        out.reply(token, Reply::join_error(error, id));
    }
    if let Some(token) = member.awaiting_sync {
        out.reply(token, Reply::sync_error(error));
    }
}

pub fn after_removal(group: &mut Group, config: GroupConfig, now: Now, out: &mut Outcome) {
    match group.state {
        GroupState::Stable | GroupState::CompletingRebalance => {
            prepare_rebalance(group, config, now, out);
        }
        GroupState::PreparingRebalance => maybe_complete_join(group, now, out),
        GroupState::Empty | GroupState::Dead => {}
    }
}

/// Ends expired phases and sessions in one group, unless a record of the group is being appended: then the log answers
/// first.
pub(crate) fn tick(group: &mut Group, config: GroupConfig, now: Now, out: &mut Outcome) {
    if group.is_appending() {
        return;
    }
    let pending = group.pending.len();
    group.pending.retain(|_, lapses| *lapses > now.monotonic);
    let silent = group.members.values();
    let silent = silent.filter(|m| !m.is_waiting() && m.session_deadline <= now.monotonic);
    let silent: Vec<String> = silent.map(|m| m.id.clone()).collect();
    for id in &silent {
        remove_member(group, id, ErrorCode::UnknownMemberId, out);
    }
    if group.sync_deadline.is_some_and(|d| d <= now.monotonic) {
        expire_unsynced(group, config, now, out);
    }
    let removed = !silent.is_empty() || group.pending.len() < pending;
    if removed && !group.is_appending() {
        after_removal(group, config, now, out);
    }
    if !group.is_appending()
        && group.state == GroupState::PreparingRebalance
        && group.join_deadline.is_some_and(|d| d <= now.monotonic)
    {
        complete_join(group, now, out);
    }
}
