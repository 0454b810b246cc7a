//! Appends that wait for their acknowledgement. Pure but for the answers: no I/O, no clock.
//!
//! A producer's append with `acks=all` waits until the high watermark reaches its end. A follower's append waits until the
//! replica vouches for its end: until the view shows it, and until it is on disk where the topic flushes before it
//! acknowledges.

use std::collections::VecDeque;

use strandline_types::Offset;
use strandline_wire::ErrorCode;
use tokio::sync::oneshot;

use super::handle::{Acks, AppendReply, PartitionError};
use super::owned::not_enough_replicas;

/// Appends of one partition that have no answer yet.
#[derive(Default)]
pub(super) struct WaitingAppends {
    /// `acks=all` appends, and those with `acks=1` to a leader that is alone in sync, in order of their end offsets.
    produced: VecDeque<Waiting>,
    /// A follower's appends, with their end offsets.
    fetched: Vec<(Offset, oneshot::Sender<Result<(), PartitionError>>)>,
}

struct Waiting {
    end_offset: Offset,
    acks: Acks,
    answer: AppendReply,
    reply: oneshot::Sender<AppendReply>,
}

impl WaitingAppends {
    /// `answer` is sent when the high watermark reaches `end_offset`. Called in order of end offsets.
    pub fn produced(
        &mut self,
        end_offset: Offset,
        acks: Acks,
        answer: AppendReply,
        reply: oneshot::Sender<AppendReply>,
    ) {
        self.produced.push_back(Waiting {
            end_offset,
            acks,
            answer,
            reply,
        });
    }

    /// Answered when the replica vouches for everything below `end_offset`.
    pub fn fetched(
        &mut self,
        end_offset: Offset,
        reply: oneshot::Sender<Result<(), PartitionError>>,
    ) {
        self.fetched.push((end_offset, reply));
    }

    /// The replica vouches for everything below `vouched`: answers a follower's appends.
    pub fn vouched(&mut self, vouched: Offset) {
        let (done, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.fetched)
            .into_iter()
            .partition(|(end, _)| *end <= vouched);
        self.fetched = waiting;
        for (_, reply) in done {
            let _ = reply.send(Ok(()));
        }
    }

    /// The high watermark is at `high_watermark`: answers producers. Without `enough_acknowledgements`, the answer to `acks=all` is
    /// that the records are in the log, but on too few replicas.
    pub fn committed(&mut self, high_watermark: Offset, enough_acknowledgements: bool) {
        while let Some(done) = self
            .produced
            .pop_front_if(|waiting| waiting.end_offset <= high_watermark)
        {
            if enough_acknowledgements || done.acks != Acks::All {
                let _ = done.reply.send(done.answer);
            } else {
                let code = ErrorCode::NotEnoughReplicasAfterAppend;
                done.fail(&not_enough_replicas(code));
            }
        }
    }

    /// Answers everything that waits with `error`.
    pub fn fail(&mut self, error: &PartitionError) {
        for waiting in self.produced.drain(..) {
            waiting.fail(error);
        }
        for (_, reply) in self.fetched.drain(..) {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

impl Waiting {
    fn fail(self, error: &PartitionError) {
        let results = self.answer.results.iter();
        let results = results.map(|_| Err(error.clone())).collect();
        let _ = self.reply.send(AppendReply {
            results,
            ..self.answer
        });
    }
}
