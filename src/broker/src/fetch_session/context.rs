//! The session of one request.

use std::sync::{Arc, Mutex, MutexGuard};

use strandline_wire::ErrorCode;
use strandline_wire::fetch::FetchPartitionResponse;
use strandline_wire::produce::TopicKey;

use super::session::{Session, lock};
use crate::partition::Watch;

/// The session of one request, and the change that its answer makes to it.
pub struct FetchContext {
    pub(super) session: Arc<Mutex<Session>>,
    pub(super) kept: Option<(i32, Answer)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Everything: the session is new.
    Full,
    /// Only partitions that have changed.
    Incremental,
}

impl FetchContext {
    pub fn session(&self) -> MutexGuard<'_, Session> {
        lock(&self.session)
    }

    /// The watch on which a fetch waits for news.
    pub fn watch(&self) -> Arc<Watch> {
        self.session().watch.clone()
    }

    pub fn is_empty(&self) -> bool {
        self.session().slots.is_empty()
    }

    /// The session's id for the answer, 0 without one; drops what an incremental answer leaves out.
    pub fn finish(
        self,
        answers: Vec<(u32, TopicKey, FetchPartitionResponse)>,
    ) -> (i32, Vec<(TopicKey, FetchPartitionResponse)>) {
        let Some((id, kind)) = self.kept else {
            let all = answers
                .into_iter()
                .map(|(_, topic, answer)| (topic, answer));
            return (0, all.collect());
        };
        let mut session = lock(&self.session);
        let mut kept = Vec::new();
        for (number, topic, answer) in answers {
            let next_order = session.next_order;
            let mut changed = true;
            if let Some(slot) = session.slots.get_mut(&number) {
                let has_records = !answer.records.is_empty();
                changed = has_records
                    || answer.error != ErrorCode::None
                    || slot.high_watermark != answer.high_watermark
                    || slot.log_start_offset != answer.log_start_offset
                    || answer.preferred_read_replica >= 0
                    || answer.diverging_epoch.is_some();
                slot.high_watermark = answer.high_watermark;
                slot.log_start_offset = answer.log_start_offset;
                if has_records {
                    // A partition that was served goes to the end, so that a small byte budget reaches all partitions
                    // in turn.
                    slot.order = next_order;
                    session.next_order += 1;
                }
            }
            if kind == Answer::Full || changed {
                kept.push((topic, answer));
            }
        }
        (id, kept)
    }
}
