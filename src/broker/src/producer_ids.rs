//! Producer ids from blocks that the quorum reserves. One request reserves a block at a time; the others wait for the
//! outcome, and no longer than it takes.

use std::future::Future;
use std::ops::Range;
use std::sync::Mutex;

use strandline_metadata::controller::{Answer, Command, PRODUCER_ID_BLOCK};
use strandline_quorum::Quorum;
use tokio::sync::watch;

/// Hands out producer ids; none is ever handed out twice in a cluster.
pub struct ProducerIds {
    block: Mutex<Block>,
    /// The outcome of the last reservation.
    reserved: watch::Sender<Result<(), String>>,
}

#[derive(Default)]
struct Block {
    left: Range<i64>,
    is_being_reserved: bool,
}

/// The part of a request that finds no id in the block.
enum Turn {
    Reserves,
    Waits(watch::Receiver<Result<(), String>>),
}

impl Default for ProducerIds {
    fn default() -> Self {
        Self {
            block: Mutex::default(),
            reserved: watch::Sender::new(Ok(())),
        }
    }
}

/// Ends a reservation, also where its request has gone away.
struct Reservation<'a> {
    ids: &'a ProducerIds,
    outcome: Result<i64, String>,
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        {
            let mut block = self.ids.block.lock().expect("no holder panics");
            block.is_being_reserved = false;
            if let Ok(first) = self.outcome {
                block.left = first..first.saturating_add(PRODUCER_ID_BLOCK);
            }
        }
        let outcome = self.outcome.as_ref().map(|_| ()).map_err(String::clone);
        let _ = self.ids.reserved.send_replace(outcome);
    }
}

impl ProducerIds {
    pub async fn next(&self, quorum: &Quorum) -> Result<i64, String> {
        self.next_by(|| async {
            let change = quorum.submit(Command::AllocateProducerIds).await;
            match change.map_err(|e| e.to_string())?.answer {
                Answer::FirstProducerId(first) => Ok(first),
                _ => Err("the controller answered something else".into()),
            }
        })
        .await
    }

    /// `reserve` gives the first id of a new block.
    async fn next_by<F>(&self, reserve: impl Fn() -> F) -> Result<i64, String>
    where
        F: Future<Output = Result<i64, String>>,
    {
        loop {
            let turn = {
                let mut block = self.block.lock().expect("no holder panics");
                if let Some(id) = block.left.next() {
                    return Ok(id);
                }
                if block.is_being_reserved {
                    Turn::Waits(self.reserved.subscribe())
                } else {
                    block.is_being_reserved = true;
                    Turn::Reserves
                }
            };
            match turn {
                Turn::Reserves => {
                    let mut reservation = Reservation {
                        ids: self,
                        outcome: Err("the request that reserved producer ids has ended".into()),
                    };
                    reservation.outcome = reserve().await;
                    let outcome = reservation.outcome.clone();
                    drop(reservation);
                    outcome?;
                }
                Turn::Waits(mut reserved) => {
                    // The sender lives as long as `self`.
                    let _ = reserved.changed().await;
                    reserved.borrow().clone()?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use futures::future::join_all;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_controller_that_does_not_answer_delays_every_request_once() {
        let ids = ProducerIds::default();
        let began = Instant::now();
        let reserve = || async {
            tokio::time::sleep(Duration::from_secs(15)).await;
            Err::<i64, _>("no controller".to_owned())
        };
        let all = join_all((0..10).map(|_| ids.next_by(reserve))).await;
        assert!(all.iter().all(Result::is_err));
        assert_eq!(began.elapsed(), Duration::from_secs(15));
    }

    #[tokio::test(start_paused = true)]
    async fn no_id_is_handed_out_twice_and_a_request_that_goes_away_blocks_nobody() {
        let ids = Arc::new(ProducerIds::default());
        let next_block = AtomicI64::new(0);
        let hangs = || async {
            std::future::pending::<()>().await;
            Err(String::new())
        };
        let gone = tokio::time::timeout(Duration::from_secs(1), ids.next_by(hangs)).await;
        assert!(gone.is_err());
        let reserve = || async {
            tokio::task::yield_now().await;
            Ok(next_block.fetch_add(PRODUCER_ID_BLOCK, Ordering::Relaxed))
        };
        let wanted = PRODUCER_ID_BLOCK * 2 + 7;
        let all = join_all((0..wanted).map(|_| ids.next_by(reserve))).await;
        let all: BTreeSet<i64> = all.into_iter().map(Result::unwrap).collect();
        assert_eq!(all, (0..wanted).collect());
    }
}
