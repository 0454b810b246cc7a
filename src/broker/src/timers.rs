//! The periodic work of a broker: looks at its disks and partitions, writes checkpoints. `retention` is a file of its own.

use std::sync::Arc;
use std::time::Duration;

use strandline_types::BrokerId;
use tokio_util::sync::CancellationToken;

use crate::clock::now;
use crate::context::BrokerContext;
use crate::partition::Partition;

/// How often checkpoints are written.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
/// How often partitions are looked at for flushes and rolls by time.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

pub async fn housekeeping(context: Arc<BrokerContext>, stop: CancellationToken) {
    let mut timer = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timer.tick() => {}
        }
        // Directories that have failed meanwhile are told of again.
        context.standing_changed.notify_one();
        let broker = context.config();
        let max_lag_ms = broker.number("replica.lag.time.max.ms");
        // After this silence, the controller has let another broker lead.
        let session_ms = match broker.number("strandline.broker.silence.timeout.ms") {
            0 => broker.number("broker.session.timeout.ms"),
            silence_ms => silence_ms.min(broker.number("broker.session.timeout.ms")),
        };
        let cut_off = context.quorum.controller_silence().as_millis() as i64 > session_ms;
        for partition in context.partitions.all() {
            if partition.is_offline() {
                continue;
            }
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
                .run(|owned| owned.change_log(|log| log.roll_if_overdue(now())))
                .await;
            if let Ok(Err(error)) = rolled {
                tracing::error!(partition = %partition.topic_partition, %error, "a segment was not rolled");
            }
        }
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
