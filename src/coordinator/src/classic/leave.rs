//! LeaveGroup. A member that leaves others behind is removed at once, as in Kafka nothing of that is durable; where the group
//! becomes empty, the answer follows the record of it.

use std::collections::BTreeSet;

use strandline_types::Now;
use strandline_wire::ErrorCode;

use super::emptying::begin_emptying;
use super::group::{Deferred, Group, GroupState};
use super::rebalance::{after_removal, remove_member};
use crate::coordinator::GroupCoordinator;
use crate::outcome::{Outcome, Token};
use crate::reply::{LeaveMember, Reply};

impl GroupCoordinator {
    pub fn leave(
        &mut self,
        token: Token,
        group: &str,
        members: &[LeaveMember],
        now: Now,
    ) -> Outcome {
        let mut out = Outcome::default();
        let config = self.config;
        let answer = |members| Reply::Leave {
            error: ErrorCode::None,
            members,
        };
        let Some(group) = self.groups.get_mut(group) else {
            let each = members.iter().map(|_| ErrorCode::UnknownMemberId);
            out.reply(token, answer(each.collect()));
            return out;
        };
        if group.is_appending() {
            let deferred = Deferred::Leave(token, members.to_vec());
            if let Err(error) = group.defer(deferred) {
                let members = Vec::new();
                out.reply(token, Reply::Leave { error, members });
            }
            return out;
        }
        let pending = group.pending.len();
        let mut leaving = BTreeSet::new();
        let results = members.iter().map(|m| note_leaving(group, m, &mut leaving));
        let reply = answer(results.collect());
        if !leaving.is_empty() && becomes_empty(group, leaving.len()) {
            let leaving = leaving.into_iter().collect();
            begin_emptying(group, leaving, Some((token, reply)), now, &mut out);
            return out;
        }
        for id in &leaving {
            remove_member(group, id, ErrorCode::UnknownMemberId, &mut out);
        }
        if !leaving.is_empty() || group.pending.len() < pending {
            after_removal(group, config, now, &mut out);
        }
        out.reply(token, reply);
        out
    }
}

/// Whether the group is empty at once when so many of its members are gone.
fn becomes_empty(group: &Group, leaving: usize) -> bool {
    let waits = match group.state {
        GroupState::Stable | GroupState::CompletingRebalance => false,
        // The first rebalance waits for its deadline.
        GroupState::PreparingRebalance => group.initial_join_limit.is_some(),
        GroupState::Empty | GroupState::Dead => true,
    };
    leaving == group.members.len() && group.pending.is_empty() && !waits
}

/// Adds a member to those that leave; one that only had a pending id loses it.
fn note_leaving(
    group: &mut Group,
    member: &LeaveMember,
    leaving: &mut BTreeSet<String>,
) -> ErrorCode {
    let id = &member.member_id;
    let found = match &member.instance_id {
        Some(instance) => match group.static_members.get(instance) {
            None => return ErrorCode::UnknownMemberId,
            Some(holder) if !id.is_empty() && holder != id => return ErrorCode::FencedInstanceId,
            Some(holder) => holder,
        },
        None if group.pending.remove(id).is_some() => return ErrorCode::None,
        None if group.members.contains_key(id) => id,
        None => return ErrorCode::UnknownMemberId,
    };
    if leaving.insert(found.clone()) {
        ErrorCode::None
    } else {
        ErrorCode::UnknownMemberId
    }
}
