//! Static membership (KIP-345): a member with an instance id comes back under a new member id.
//!
//! In a stable group the new id is committed first. Until then the old one is the member: it is fenced, and the new one is
//! answered, by the commit. During a rebalance nothing of the group is durable yet, and the change is part of it.

use strandline_types::Now;
use strandline_wire::ErrorCode;

use super::durable::replaced_record;
use super::group::{Group, GroupState};
use super::member::Member;
use super::rebalance::{joined_reply, rebalance};
use crate::config::GroupConfig;
use crate::outcome::{Effect, Outcome, Token};
use crate::reply::Reply;

/// A member that takes another one's place.
#[derive(Debug)]
pub(crate) struct Replacement {
    pub token: Token,
    pub old_id: String,
    /// Waits for its generation.
    pub member: Member,
}

pub fn begin_replacement(
    group: &mut Group,
    replacement: Replacement,
    config: GroupConfig,
    now: Now,
    out: &mut Outcome,
) {
    if group.state == GroupState::Stable {
        let Replacement { old_id, member, .. } = &replacement;
        let record = replaced_record(group, old_id, member);
        group.begin_append();
        let effect = Effect::Replace {
            group: group.id.clone(),
            replacement: Box::new(replacement),
        };
        out.append(record, effect);
    } else if replace(group, replacement, now, out).is_some() {
        rebalance(group, config, now, out);
    }
}

/// The new id is committed. The member keeps its assignment, and the group its generation, if the subscription is the same.
pub(crate) fn finish_replacement(
    group: &mut Group,
    replacement: Replacement,
    config: GroupConfig,
    now: Now,
    out: &mut Outcome,
) {
    let (token, new_id) = (replacement.token, replacement.member.id.clone());
    let Some(replaced) = replace(group, replacement, now, out) else {
        return;
    };
    if group.state != GroupState::Stable || !replaced.same_subscription {
        rebalance(group, config, now, out);
        return;
    }
    if let Some(member) = group.members.get_mut(&new_id) {
        member.awaiting_join = None;
    }
    let mut reply = joined_reply(group, &new_id);
    // A leader that comes back must not assign anew: it is shown its old id as the leader's.
    if let (
        true,
        Reply::Join {
            leader, members, ..
        },
    ) = (replaced.was_leader, &mut reply)
    {
        *leader = replaced.old_id;
        members.clear();
    }
    out.reply(token, reply);
}

/// The parts of the old member that the new one has taken over.
struct Replaced {
    old_id: String,
    was_leader: bool,
    same_subscription: bool,
}

/// Puts the new member into the old one's place. Returns `None`, after it has answered the request, if the old member
/// is gone.
fn replace(
    group: &mut Group,
    replacement: Replacement,
    now: Now,
    out: &mut Outcome,
) -> Option<Replaced> {
    let Replacement {
        token,
        old_id,
        mut member,
    } = replacement;
    let Some(old) = group.members.remove(&old_id) else {
        let refused = Reply::join_error(ErrorCode::UnknownMemberId, &member.id);
        out.reply(token, refused);
        return None;
    };
    let fenced = ErrorCode::FencedInstanceId;
    if let Some(waiting) = old.awaiting_join {
        out.reply(waiting, Reply::join_error(fenced, &old_id));
    }
    if let Some(waiting) = old.awaiting_sync {
        out.reply(waiting, Reply::sync_error(fenced));
    }
    let protocol = group.protocol.as_deref().unwrap_or_default();
    let same_subscription = member.metadata(protocol) == old.metadata(protocol);
    let was_leader = group.leader.as_deref() == Some(old_id.as_str());
    member.assignment = old.assignment;
    member.heartbeat(now.monotonic);
    if was_leader {
        group.leader = Some(member.id.clone());
    }
    group.insert(member);
    Some(Replaced {
        old_id,
        was_leader,
        same_subscription,
    })
}
