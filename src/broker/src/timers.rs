//! The periodic work of a broker: looks at its disks and partitions, writes checkpoints. `retention` is a file of its own.

use std::sync::Arc;
use std::time::Duration;

use strandline_metadata::controller::Command;
use strandline_types::{BrokerId, TopicIdPartition, TopicPartition};
use tokio_util::sync::CancellationToken;

use crate::clock::now;
use crate::partition::Partition;
use crate::server::BrokerContext;

/// How often checkpoints are written.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// How often free space is measured and partitions are looked at for flushes and rolls by time.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

pub async fn housekeeping(context: Arc<BrokerContext>, stop: CancellationToken) {
    let mut timer = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timer.tick() => {}
        }
        context.partitions.refresh_disk_space();
        report_failed_replicas(&context).await;
        let broker = context.config();
        let max_lag_ms = broker.number("replica.lag.time.max.ms");
        let session_ms = broker.number("broker.session.timeout.ms");
        // No controller has answered this broker for so long that another broker may lead by now without its knowledge.
        let cut_off = context.quorum.controller_silence().as_millis() as i64 > session_ms;
        for partition in context.partitions.all() {
            let view = partition.view();
            let config = partition.config();
            let replicated = context.replicas_of(&partition) > 1;
            if replicated && is_assigned_leader(&context, &partition) {
                let watched = partition.run(move |owned| {
                    owned.review_isr(max_lag_ms);
                    owned.step_aside(cut_off && !owned.hears_from_followers(session_ms));
                });
                let _ = watched.await;
            }
            let unflushed = view.flushed_offset < view.log_end_offset && config.flush_ms < i64::MAX;
            let active_is_old = view.active_bytes > 0;
            if !unflushed && !active_is_old {
                continue;
            }
            let rolled = partition
                .run(|owned| owned.log.roll_if_overdue(now()))
                .await;
            if let Ok(Err(error)) = rolled {
                tracing::error!(partition = %partition.topic_partition, %error, "a segment was not rolled");
            }
        }
    }
}

/// Reports replicas that cannot serve any more to the controller, so that other leaders are elected.
async fn report_failed_replicas(context: &BrokerContext) {
    let image = context.quorum.image();
    if context.partitions.applied_index() < image.applied_index {
        return;
    }
    let own = BrokerId(context.node_id());
    let table = context.partitions.table();
    let mut failed = Vec::new();
    for topic in image.topics() {
        for (number, state) in &topic.partitions {
            if !state.replicas.contains(&own) || state.offline_replicas.contains(&own) {
                continue;
            }
            let tp = TopicPartition::new(topic.name.clone(), *number);
            if table.get(&tp).is_none_or(|p| p.is_offline()) {
                failed.push(TopicIdPartition {
                    topic_id: topic.id,
                    partition: *number,
                });
            }
        }
    }
    if failed.is_empty() {
        return;
    }
    let count = failed.len();
    let command = Command::ReplicasFailed {
        id: own,
        epoch: context.broker_epoch(),
        partitions: failed,
    };
    match context.quorum.submit(command).await {
        Ok(_) => tracing::error!(
            count,
            "replicas on this broker are offline; the controller elects other leaders"
        ),
        Err(error) => tracing::warn!(%error, "failed replicas could not be reported"),
    }
}

fn is_assigned_leader(context: &BrokerContext, partition: &Partition) -> bool {
    let own = BrokerId(context.node_id());
    partition.role().leader == Some(own)
}

pub async fn checkpoints(context: Arc<BrokerContext>, stop: CancellationToken) {
    let mut timer = tokio::time::interval(CHECKPOINT_INTERVAL);
    timer.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timer.tick() => {}
        }
        let manager = context.partitions.clone();
        let _ = tokio::task::spawn_blocking(move || manager.write_checkpoints()).await;
    }
}
