//! Wishes of leaders about their in-sync sets, on their way to the controller: all that have gathered go as one command.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use strandline_metadata::controller::{Answer, Command, IsrChange, Refusal};
use strandline_quorum::{Quorum, SubmitError};
use strandline_types::{BrokerEpoch, BrokerId};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::partition::IsrRequest;

/// Wishes that one command carries at the most.
const BATCH: usize = 10_000;
/// Before a wish whose answer was lost is made again.
const RETRY: Duration = Duration::from_millis(100);

/// Takes wishes until the broker stops.
pub async fn forward_isr_requests(
    quorum: Arc<Quorum>,
    node_id: BrokerId,
    metrics: Arc<Metrics>,
    mut requests: mpsc::UnboundedReceiver<IsrRequest>,
    stop: CancellationToken,
) {
    let mut batch = Vec::new();
    let mut later = JoinSet::new();
    loop {
        while later.try_join_next().is_some() {}
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = requests.recv_many(&mut batch, BATCH) => received,
        };
        if received == 0 {
            return;
        }
        let before = quorum.image();
        let submitting = submit(&quorum, node_id, &batch);
        let Some(results) = stop.run_until_cancelled(submitting).await else {
            return;
        };
        let mut refused = Vec::new();
        let mut unanswered = Vec::new();
        for (request, outcome) in batch.drain(..).zip(results) {
            let partition = &request.partition.topic_partition;
            tracing::debug!(%partition, wish = ?request.wish, ?outcome, "the controller answered an ISR change");
            match outcome {
                Outcome::Granted => {
                    let state = before.partition(request.partition.id());
                    let shrinks = state.is_some_and(|s| request.wish.new_isr.len() < s.isr.len());
                    let counter = if shrinks {
                        &metrics.isr_shrinks
                    } else {
                        &metrics.isr_expands
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                Outcome::Overtaken => {}
                Outcome::Refused => refused.push(request),
                Outcome::Unanswered => unanswered.push(request),
            }
        }
        for request in refused {
            let epoch = request.wish.partition_epoch;
            let told = request.partition.run(move |o| o.isr_wish_refused(epoch));
            let _ = told.await;
        }
        if unanswered.is_empty() {
            continue;
        }
        later.spawn(async move {
            tokio::time::sleep(RETRY).await;
            for request in unanswered {
                let epoch = request.wish.partition_epoch;
                let told = request.partition.run(move |o| o.isr_wish_unanswered(epoch));
                let _ = told.await;
            }
        });
    }
}

/// The outcome of a leader's wish to change the ISR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The metadata shows it, and until then the wish counts.
    Granted,
    /// A newer state came first; the metadata shows it.
    Overtaken,
    Refused,
    /// The wish may have been granted.
    Unanswered,
}

fn outcome(result: Result<(), Refusal>) -> Outcome {
    match result {
        Ok(()) => Outcome::Granted,
        Err(Refusal::InvalidUpdateVersion | Refusal::Fenced(_)) => Outcome::Overtaken,
        // The controller is behind this broker, or knows another incarnation of it.
        Err(Refusal::NotController | Refusal::StaleBrokerEpoch(_)) => Outcome::Unanswered,
        Err(_) => Outcome::Refused,
    }
}

async fn submit(quorum: &Quorum, node_id: BrokerId, batch: &[IsrRequest]) -> Vec<Outcome> {
    let image = quorum.image();
    let broker_epoch = image
        .brokers
        .get(&node_id)
        .map_or(BrokerEpoch(-1), |b| b.epoch);
    let changes = batch.iter().map(|request| IsrChange {
        partition: request.partition.id(),
        leader_epoch: request.wish.leader_epoch,
        partition_epoch: request.wish.partition_epoch,
        new_isr: request.wish.new_isr.clone(),
        recovered: request.wish.recovered,
    });
    let command = Command::AlterIsr {
        broker: node_id,
        broker_epoch,
        changes: changes.collect(),
    };
    let all = |outcome: Outcome| vec![outcome; batch.len()];
    match quorum.submit(command).await {
        Ok(change) => match change.answer {
            Answer::Results(results) => results.into_iter().map(outcome).collect(),
            _ => all(Outcome::Unanswered),
        },
        Err(SubmitError::Refused(refusal)) => all(outcome(Err(refusal))),
        Err(SubmitError::Unavailable(reason)) => {
            tracing::debug!(%reason, "the controller's answer to an ISR change was lost");
            all(Outcome::Unanswered)
        }
    }
}
