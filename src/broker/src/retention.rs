//! Local retention: its schedule, and the segments that it deletes of a partition without copies. Retention of tiered
//! partitions also depends on the cold tier: `tier/retention`. Both count a record's age by the same rule (ADR 23).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::clock::{monotonic, now_ms};
use crate::context::BrokerContext;
use crate::partition::Partition;

/// The shortest time between looks at retention, unless a shorter one is configured.
const RETENTION_TICK: Duration = Duration::from_secs(1);

/// How often retention is applied: as configured, or, where a topic keeps its records for less, as often as they expire.
/// So a change of a topic's retention (Kafka's recipe to empty a topic) takes effect within seconds.
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

/// Waits until retention is due again. The interval may become shorter meanwhile.
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
                .run(|owned| owned.expire_producers(monotonic()))
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

/// Seals the active segment if all its records have expired, so that it can be deleted.
pub async fn roll_if_expired(partition: &Partition) -> Result<(), String> {
    let config = partition.config();
    if !config.cleanup_policy.delete {
        return Ok(());
    }
    let retention_ms = config.retention_ms;
    let rolled = partition
        .run(move |owned| owned.change_log(|log| log.roll_if_expired(retention_ms, now_ms())))
        .await;
    rolled
        .map_err(|e| e.to_string())?
        .map(|_| ())
        .map_err(|e| e.to_string())
}

/// Deletes whole segments that `retention.*` has expired, of a partition without copies in the cold tier.
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
                &owned.log().sealed_ages(),
                owned.log().active_bytes(),
                retention_ms,
                retention_bytes,
                owned.log().high_watermark(),
                now_ms(),
            );
            start.map_or(Ok(()), |to| owned.change_log(|log| log.retain_from(to)))
        })
        .await;
    applied
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())
}
