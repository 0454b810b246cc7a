//! The outcome of a command: replies that may be sent now, and records that must be committed first.

use std::collections::BTreeMap;

use bytes::Bytes;
use strandline_wire::ErrorCode;

use crate::classic::{Emptying, Replacement};
use crate::forgetting::Forgotten;
use crate::record::CoordinatorRecord;
use crate::reply::Reply;

/// Names a request that waits for its answer.
pub type Token = u64;

/// Records to append, and the effect that follows when they are committed.
#[derive(Debug)]
pub struct PendingAppend {
    pub records: Vec<CoordinatorRecord>,
    pub(crate) effect: Effect,
}

/// A change of state, and its reply, that takes effect once the records of an append are committed.
#[derive(Debug)]
pub(crate) enum Effect {
    /// The leader's assignment for a generation.
    Assign {
        group: String,
        assignments: BTreeMap<String, Bytes>,
    },
    /// A static member has come back under a new id.
    Replace {
        group: String,
        replacement: Box<Replacement>,
    },
    /// The group has no members any more.
    Empty { group: String, emptying: Emptying },
    /// Offsets to be set or removed, then a reply.
    Offsets { reply: Option<(Token, Reply)> },
    /// Positions of a deleted topic are removed.
    Forget { positions: Vec<Forgotten> },
}

/// The immediate outcome of a command: replies to send, and records to append.
#[derive(Debug, Default)]
pub struct Outcome {
    pub replies: Vec<(Token, Reply)>,
    pub appends: Vec<PendingAppend>,
}

impl Outcome {
    pub(crate) fn reply(&mut self, token: Token, reply: Reply) {
        self.replies.push((token, reply));
    }

    pub(crate) fn append(&mut self, record: CoordinatorRecord, effect: Effect) {
        self.appends.push(PendingAppend {
            records: vec![record],
            effect,
        });
    }

    /// Replies once `records` are in the log; at once if there are none.
    pub(crate) fn append_offsets(
        &mut self,
        records: Vec<CoordinatorRecord>,
        token: Token,
        reply: Reply,
    ) {
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

    /// Appends records for which no client waits.
    pub(crate) fn append_upkeep(&mut self, records: Vec<CoordinatorRecord>) {
        if !records.is_empty() {
            self.appends.push(PendingAppend {
                records,
                effect: Effect::Offsets { reply: None },
            });
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.replies.extend(other.replies);
        self.appends.extend(other.appends);
    }
}

/// The reply to a request whose records were refused with `error`.
pub(crate) fn refused(reply: Reply, error: ErrorCode) -> Reply {
    match reply {
        Reply::OffsetCommit(each) => {
            let failed = |e| if e == ErrorCode::None { error } else { e };
            Reply::OffsetCommit(each.into_iter().map(failed).collect())
        }
        Reply::OffsetDelete(_, _) => Reply::OffsetDelete(error, Vec::new()),
        Reply::Leave { .. } => Reply::Leave {
            error,
            members: Vec::new(),
        },
        Reply::Join { member_id, .. } => Reply::join_error(error, &member_id),
        Reply::Sync { .. } => Reply::sync_error(error),
        Reply::Heartbeat(_) => Reply::Heartbeat(error),
        Reply::Delete(_) => Reply::Delete(error),
    }
}
