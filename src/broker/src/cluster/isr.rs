//! Wishes of leaders about their in-sync sets, on their way to the controller: all that have gathered go as one command.

use std::sync::Arc;
use std::time::Duration;

use strandline_metadata::controller::{Answer, Command, IsrChange};
use strandline_quorum::Quorum;
use strandline_types::{BrokerEpoch, BrokerId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::partition::IsrRequest;

/// Wishes that one command carries at the most.
const BATCH: usize = 10_000;
/// Before a refused or lost wish may be made again.
const RETRY: Duration = Duration::from_millis(100);

/// Takes wishes until the broker stops.
pub async fn forward_isr_requests(
    quorum: Arc<Quorum>,
    node_id: BrokerId,
    mut requests: mpsc::UnboundedReceiver<IsrRequest>,
    stop: CancellationToken,
) {
    let mut batch = Vec::new();
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = requests.recv_many(&mut batch, BATCH) => received,
        };
        if received == 0 {
            return;
        }
        let submitting = submit(&quorum, node_id, &batch);
        let Some(results) = stop.run_until_cancelled(submitting).await else {
            return;
        };
        let mut failed = Vec::new();
        for (request, result) in batch.drain(..).zip(results) {
            if let Err(reason) = result {
                tracing::debug!(partition = %request.partition.topic_partition, %reason, "the ISR stays as it is");
                failed.push(request);
            }
        }
        if failed.is_empty() {
            continue;
        }
        // A wish that was granted shows in the metadata; one that was not may be made again in a while.
        tokio::spawn(async move {
            tokio::time::sleep(RETRY).await;
            for request in failed {
                let epoch = request.wish.partition_epoch;
                let _ = request
                    .partition
                    .run(move |owned| owned.isr_wish_failed(epoch))
                    .await;
            }
        });
    }
}

async fn submit(
    quorum: &Quorum,
    node_id: BrokerId,
    batch: &[IsrRequest],
) -> Vec<Result<(), String>> {
    let image = quorum.image();
    let broker_epoch = image
        .brokers
        .get(&node_id)
        .map_or(BrokerEpoch(-1), |b| b.epoch);
    let changes = batch.iter().map(|request| IsrChange {
        partition: request.id(),
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
    let all = |reason: String| vec![Err(reason); batch.len()];
    match quorum.submit(command).await {
        Ok(change) => match change.answer {
            Answer::Results(results) => results
                .into_iter()
                .map(|r| r.map_err(|e| e.to_string()))
                .collect(),
            _ => all("the controller answered something else".into()),
        },
        Err(error) => all(error.to_string()),
    }
}
