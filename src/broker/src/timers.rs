//! The periodic work of a broker: looks at its disks and partitions, writes checkpoints, applies retention.

use std::sync::Arc;
use std::time::{Duration, Instant};

use strandline_metadata::controller::Command;
use strandline_types::{BrokerId, TopicIdPartition, TopicPartition};
use tokio_util::sync::CancellationToken;

use crate::clock::{monotonic, now, now_ms};
use crate::partition::Partition;
use crate::server::BrokerContext;

/// How often checkpoints are written.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// The shortest time between looks at retention, unless a shorter one is configured.
const RETENTION_TICK: Duration = Duration::from_secs(1);
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

/// Tells the controller which replicas here cannot serve any more, so that others lead.
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

/// How often retention is looked at: as configured, or, where a topic keeps its records for less, as often as they expire.
/// A change of a topic's retention (Kafka's recipe to empty one) so has its effect within seconds.
fn retention_interval(context: &BrokerContext, tiered: bool) -> Duration {
    let key = if tiered {
        "remote.log.manager.task.interval.ms"
    } else {
        "log.retention.check.interval.ms"
    };
    let configured = Duration::from_millis(context.config().number(key).max(1) as u64);
    if configured <= RETENTION_TICK {
        return configured;
    }
    let partitions = context.partitions.all();
    let kept = partitions.iter().filter_map(|partition| {
        let config = partition.config();
        let meant = config.cleanup_policy.delete && config.remote_storage_enable == tiered;
        (meant && config.retention_ms >= 0).then_some(config.retention_ms as u64)
    });
    let shortest = kept.min().map_or(configured, Duration::from_millis);
    configured.min(shortest.max(RETENTION_TICK))
}

/// Waits until retention is to be looked at again. The interval may become shorter meanwhile.
pub async fn retention_is_due(context: &BrokerContext, tiered: bool) {
    let began = Instant::now();
    loop {
        let interval = retention_interval(context, tiered);
        let left = interval.saturating_sub(began.elapsed());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(RETENTION_TICK)).await;
    }
}

/// Retention of topics without a cold tier, of producers, and of directories that were set aside.
pub async fn retention(context: Arc<BrokerContext>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = retention_is_due(&context, false) => {}
        }
        let (manager, age) = (
            context.partitions.clone(),
            context.config().number("strandline.stray.retention.ms"),
        );
        let _ = tokio::task::spawn_blocking(move || manager.remove_strays(age)).await;
        for partition in context.partitions.all() {
            if partition.is_offline() {
                continue;
            }
            // Followers and tiered topics remember producers, too. A partition that is gone has nothing to forget.
            let _ = partition
                .run(|owned| owned.log.expire_producers(monotonic()))
                .await;
            let tiered = !partition.is_leader()
                || partition.config().remote_storage_enable
                || context.quorum.image().remote_log(partition.id()).is_some();
            if tiered {
                continue;
            }
            if let Err(error) = apply_local_retention(&partition).await {
                tracing::error!(partition = %partition.topic_partition, %error, "retention failed");
            }
        }
    }
}

/// Seals the active segment where all of it has expired, so that it goes as any other.
pub async fn roll_if_expired(partition: &Partition) -> Result<(), String> {
    let config = partition.config();
    if !config.cleanup_policy.delete {
        return Ok(());
    }
    let retention_ms = config.retention_ms;
    let rolled = partition
        .run(move |owned| owned.log.roll_if_expired(retention_ms, now_ms()))
        .await;
    rolled
        .map_err(|e| e.to_string())?
        .map(|_| ())
        .map_err(|e| e.to_string())
}

/// Deletes whole segments that `retention.*` no longer wants, of a partition that has no copies elsewhere.
pub async fn apply_local_retention(partition: &Arc<Partition>) -> Result<(), String> {
    let config = partition.config();
    if !config.cleanup_policy.delete {
        return Ok(());
    }
    let (retention_ms, retention_bytes) = (config.retention_ms, config.retention_bytes);
    roll_if_expired(partition).await?;
    let applied = partition
        .run(move |owned| {
            let start = strandline_log::retention::new_log_start_offset(
                &owned.log.sealed_ages(),
                owned.log.active_bytes(),
                retention_ms,
                retention_bytes,
                owned.log.high_watermark(),
                now_ms(),
            );
            start.map_or(Ok(()), |to| owned.log.retain_from(to))
        })
        .await;
    applied
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())
}
