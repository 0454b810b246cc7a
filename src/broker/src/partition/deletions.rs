//! Deletions of records that wait for the followers. Pure but for the answers: no I/O, no clock.
//!
//! A leader raises its own log start at once. The deletion is answered when every member of the ISR reports a log start
//! that is at least as large. From then on, no election can bring a deleted record back (Kafka's low watermark).

use strandline_types::Offset;
use tokio::sync::oneshot;

/// Deletions of one partition that have no answer yet.
#[derive(Default)]
pub(super) struct WaitingDeletions {
    waiting: Vec<(Offset, oneshot::Sender<Offset>)>,
}

impl WaitingDeletions {
    /// Answered with the low watermark as soon as that is at least `to`. The channel closes if this broker stops leading.
    pub fn wait(&mut self, to: Offset) -> oneshot::Receiver<Offset> {
        // Drop requests whose caller has gone away.
        self.waiting.retain(|(_, reply)| !reply.is_closed());
        let (reply, receiver) = oneshot::channel();
        self.waiting.push((to, reply));
        receiver
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Every in-sync replica's log starts at or above `low_watermark`.
    pub fn reached(&mut self, low_watermark: Offset) {
        let done = self.waiting.extract_if(.., |(to, _)| *to <= low_watermark);
        for (_, reply) in done {
            let _ = reply.send(low_watermark);
        }
    }

    /// This broker does not lead any more: closes every channel.
    pub fn fail(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_answered_when_the_low_watermark_reaches_it_and_not_before() {
        let mut deletions = WaitingDeletions::default();
        let (mut early, mut late) = (deletions.wait(5), deletions.wait(9));
        deletions.reached(4);
        assert!(early.try_recv().is_err() && late.try_recv().is_err());
        deletions.reached(7);
        assert_eq!(early.try_recv(), Ok(7));
        assert!(late.try_recv().is_err() && !deletions.is_empty());
        deletions.fail();
        assert!(late.blocking_recv().is_err(), "the channel is closed");
    }
}
