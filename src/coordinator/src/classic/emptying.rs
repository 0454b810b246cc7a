//! The last member is gone: a group becomes empty, in its next generation, once that is committed.

use strandline_types::{Now, TimestampMs};
use strandline_wire::ErrorCode;

use super::durable::empty_record;
use super::group::{Group, GroupState};
use super::rebalance::remove_member;
use crate::outcome::{Effect, Outcome, Token};
use crate::reply::Reply;

/// The delay before the record is appended again, if the log refused it and no waiting request triggers the append.
const RETRY_MS: i64 = 1000;

/// A group that becomes empty as soon as its record is committed.
#[derive(Debug)]
pub(crate) struct Emptying {
    generation: i32,
    since_ms: TimestampMs,
    /// The members that are removed when the record is committed.
    leaving: Vec<String>,
    pub reply: Option<(Token, Reply)>,
}

/// Appends that the group is empty. Members of `leaving` stay members until that is committed.
pub fn begin_emptying(
    group: &mut Group,
    leaving: Vec<String>,
    reply: Option<(Token, Reply)>,
    now: Now,
    out: &mut Outcome,
) {
    let emptying = Emptying {
        generation: group.next_generation(),
        since_ms: now.wall_ms,
        leaving,
        reply,
    };
    let record = empty_record(group, emptying.generation, emptying.since_ms);
    group.begin_append();
    let effect = Effect::Empty {
        group: group.id.clone(),
        emptying,
    };
    out.append(record, effect);
}

pub(crate) fn finish_emptying(group: &mut Group, emptying: Emptying, out: &mut Outcome) {
    for id in &emptying.leaving {
        remove_member(group, id, ErrorCode::UnknownMemberId, out);
    }
    group.generation = emptying.generation;
    group.protocol = None;
    group.leader = None;
    group.join_deadline = None;
    group.initial_join_limit = None;
    group.sync_deadline = None;
    group.enter(GroupState::Empty, emptying.since_ms);
    out.replies.extend(emptying.reply);
}

/// A group whose members are all gone tries again; where the last ones asked to leave, they are still there.
pub(crate) fn fail_emptying(group: &mut Group, now: Now) {
    if group.members.is_empty() {
        group.join_deadline = Some(now.monotonic.plus_ms(RETRY_MS));
    }
}
