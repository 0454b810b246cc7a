//! Appends of one drain of a mailbox that go to the same partition: they share one write and one flush.

use strandline_wire::batch::ValidatedBatch;
use tokio::sync::oneshot;

use super::handle::{Acks, AppendReply, PartitionError};

/// Appends of one drain that go to the same partition.
#[derive(Default)]
pub(super) struct Gathered {
    pub batches: Vec<ValidatedBatch>,
    /// How many of the batches belong to each request.
    pub requests: Vec<(usize, Acks, oneshot::Sender<AppendReply>)>,
}

impl Gathered {
    /// Splits the appends into requests with `acks=all` and the others.
    pub fn split_by_acks(self) -> (Self, Self) {
        let (mut all, mut others) = (Self::default(), Self::default());
        let mut batches = self.batches.into_iter();
        for (count, acks, reply) in self.requests {
            let to = if acks == Acks::All {
                &mut all
            } else {
                &mut others
            };
            to.batches.extend(batches.by_ref().take(count));
            to.requests.push((count, acks, reply));
        }
        (all, others)
    }

    /// Answers every request with `error`.
    pub fn fail(self, error: &PartitionError) {
        for (count, _, reply) in self.requests {
            let results = (0..count).map(|_| Err(error.clone())).collect();
            let _ = reply.send(AppendReply {
                results,
                log_start_offset: -1,
            });
        }
    }
}
