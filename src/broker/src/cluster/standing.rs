//! Log directories that fail, fill up and have room again: their replicas are taken offline here, and the controller is
//! told, so that others lead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use strandline_metadata::controller::Command;
use strandline_quorum::SubmitError;
use strandline_types::{BrokerId, TopicIdPartition};
use tokio_util::sync::CancellationToken;

use crate::context::BrokerContext;
use crate::partition::{Standing, Statement, statement};

/// How often directories are looked at. Acknowledgements go no longer than this to a file system that was unmounted.
const LOOK: Duration = Duration::from_millis(250);
/// Replicas that one command names at the most.
const BATCH: usize = 10_000;
/// Before a controller that did not take a report is told again.
const RETRY: Duration = Duration::from_millis(100);
/// How long the controller may take to answer before it is asked again.
const ANSWER: Duration = Duration::from_secs(3);

/// Looks at the directories and takes replicas offline until the broker stops.
pub async fn watch_directories(context: Arc<BrokerContext>, stop: CancellationToken) {
    let mut looking: Option<tokio::task::JoinHandle<()>> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = context.partitions.log_dirs.health.changed() => context.standing_changed.notify_one(),
            () = tokio::time::sleep(LOOK) => {
                // A look at a disk that hangs does not end; the others are not looked at a second time meanwhile.
                if looking.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
                    let manager = context.partitions.clone();
                    looking = Some(tokio::task::spawn_blocking(move || manager.log_dirs.look()));
                }
            }
        }
        if context.partitions.take_failed_offline().await {
            context.standing_changed.notify_one();
        }
    }
    if let Some(looking) = looking {
        // A disk that hangs holds up no stop.
        let _ = tokio::time::timeout(LOOK, looking).await;
    }
}

/// Tells the controller which replicas cannot serve, cannot grow, or can again, until the broker stops.
pub async fn report_replicas(context: Arc<BrokerContext>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = context.standing_changed.notified() => {}
        }
        while let Some(told) = stop.run_until_cancelled(report(&context)).await {
            if told {
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Returns whether the controller has heard everything.
async fn report(context: &BrokerContext) -> bool {
    // Partitions that do not reflect the metadata yet are looked at again.
    let image = context.quorum.image();
    let mut told_all = context.partitions.applied_index() >= image.applied_index;
    let own = BrokerId(context.node_id());
    let epoch = context.broker_epoch();
    for (told, replicas) in statements(context, own) {
        for part in replicas.chunks(BATCH) {
            let (id, partitions) = (own, part.to_vec());
            let command = match told {
                Statement::Failed => Command::ReplicasFailed {
                    id,
                    epoch,
                    partitions,
                },
                Statement::Full => Command::ReplicasFull {
                    id,
                    epoch,
                    partitions,
                },
                Statement::Usable => Command::ReplicasUsable {
                    id,
                    epoch,
                    partitions,
                },
            };
            let count = part.len();
            let error = match tokio::time::timeout(ANSWER, context.quorum.submit(command)).await {
                Ok(Ok(_)) => {
                    tracing::info!(
                        ?told,
                        count,
                        "the controller knows the standing of replicas"
                    );
                    continue;
                }
                Ok(Err(SubmitError::Refused(refusal))) => refusal.to_string(),
                Ok(Err(SubmitError::Unavailable(reason))) => reason,
                Err(_) => "no answer".to_owned(),
            };
            told_all = false;
            tracing::debug!(?told, count, %error, "the controller could not be told of replicas");
        }
    }
    told_all
}

/// The replicas of which the metadata says something else than this broker finds.
fn statements(
    context: &BrokerContext,
    own: BrokerId,
) -> BTreeMap<Statement, Vec<TopicIdPartition>> {
    let mut all: BTreeMap<Statement, Vec<TopicIdPartition>> = BTreeMap::new();
    let image = context.quorum.image();
    if context.partitions.applied_index() < image.applied_index {
        return all;
    }
    let table = context.partitions.table();
    for topic in image.topics() {
        for (number, state) in &topic.partitions {
            if !state.replicas.contains(&own) {
                continue;
            }
            let standing = match table.get(&topic.name, *number) {
                Some(here) if here.is_offline() || here.is_on_failed_directory() => {
                    Standing::Offline
                }
                Some(here) if !here.has_room() => Standing::Full,
                Some(_) => Standing::Well,
                None => Standing::Offline,
            };
            if let Some(told) = statement(own, state, standing) {
                let id = TopicIdPartition {
                    topic_id: topic.id,
                    partition: *number,
                };
                all.entry(told).or_default().push(id);
            }
        }
    }
    all
}
