//! The room of one answer: the bytes that the request allows, within those that the broker has memory for.

use strandline_wire::fetch::FetchRequest;
use tokio::time::Instant;

use super::reader::Reader;
use crate::api::Call;
use crate::memory::{AnswerMemory, Budget, Held};
use crate::stop::patience;

/// How much one answer may still hold.
pub(super) struct Room<'a> {
    call: &'a Call,
    budget: &'a Budget,
    /// Bytes that the request and `fetch.max.bytes` allow.
    limit: usize,
    /// Bytes of records in the answer so far.
    used: usize,
    /// Until when the first records wait for memory.
    deadline: Instant,
    /// The memory of the process made the answer smaller than the request allows.
    is_cut: bool,
}

impl<'a> Room<'a> {
    pub(super) fn new(
        call: &'a Call,
        request: &FetchRequest,
        reader: &Reader,
        deadline: Instant,
    ) -> Self {
        let memory = &call.context.memory.answers;
        let budget = match reader {
            Reader::Consumer { .. } => &memory.records,
            Reader::Follower { .. } => &memory.replicas,
        };
        Self {
            call,
            budget,
            limit: answer_limit(call, request),
            used: 0,
            deadline,
            is_cut: false,
        }
    }

    /// Bytes that the next records of the answer may have.
    pub(super) fn left(&self) -> usize {
        self.limit
            .min(AnswerMemory::share(self.budget))
            .saturating_sub(self.used)
    }

    /// Whether the answer has no records yet: the first batch of an answer may exceed every limit, or a large batch
    /// would block its reader for ever.
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Takes the memory for records. The first ones wait for it; later ones are left to the next fetch.
    pub(super) async fn take(&mut self, bytes: usize) -> Option<Held> {
        let held = if self.is_empty() {
            let patience = patience(&self.call.context.stopping, self.deadline);
            tokio::select! {
                biased;
                held = self.budget.take(bytes) => Some(held),
                () = patience => None,
            }
        } else {
            self.budget.try_take(bytes)
        };
        self.is_cut |= held.is_none();
        held
    }

    /// Counts records that are in the answer.
    pub(super) fn add(&mut self, bytes: usize) {
        self.used += bytes;
    }
}

/// The most bytes of records that an answer may have, but for its first batch.
pub(super) fn answer_limit(call: &Call, request: &FetchRequest) -> usize {
    let asked = usize::try_from(request.max_bytes).unwrap_or(0);
    asked.min(call.context.hot().fetch_max_bytes)
}
