//! Makes one log of a new leader's log and its cold tier, where [`Comparison`] finds that they differ. Until the repair
//! is done the broker does not lead the partition: clients and followers ask again.
//!
//! | repair | a crash after it leaves | who repairs |
//! |---|---|---|
//! | `CutRemoteLog` committed | segments in `DeleteSegmentStarted` | the tier manager deletes their objects |
//! | lineage of the tier written | a lineage ahead of the log | opening cuts it at the log's end |
//! | old local segments deleted | a log shorter than the tier | the next takeover |
//! | first segment behind the tier made | nothing | – |

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strandline_metadata::RemoteLogImage;
use strandline_metadata::controller::{Command, RemoteLogCut};
use strandline_tiering::lineage::Comparison;
use strandline_types::{BrokerId, LeaderEpoch, Offset, RemoteLogSegmentId};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::state::{RemoteState, state_at};
use crate::clock::now_ms;
use crate::context::BrokerContext;
use crate::partition::Partition;

/// Between two attempts; doubled up to the second one.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Takes over the partitions for which the metadata name this broker the leader, until `stop`.
pub async fn take_over_partitions(context: Arc<BrokerContext>, stop: CancellationToken) {
    let busy = Arc::new(Mutex::new(HashSet::new()));
    // When the set is dropped at the end, it aborts running work.
    let mut work = JoinSet::new();
    let mut next = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = context.partitions.wait_until_applied(next) => {}
        }
        next = context.partitions.applied_index() + 1;
        while work.try_join_next().is_some() {}
        for partition in context.partitions.all() {
            let key = partition.key();
            if !partition.is_taking_over() || !busy.lock().is_ok_and(|mut busy| busy.insert(key)) {
                continue;
            }
            let (context, busy) = (context.clone(), busy.clone());
            work.spawn(async move {
                take_over(&context, &partition).await;
                if let Ok(mut busy) = busy.lock() {
                    busy.remove(&key);
                }
            });
        }
    }
}

/// Repairs until the broker leads the partition or need not.
async fn take_over(context: &Arc<BrokerContext>, partition: &Arc<Partition>) {
    let (mut wait, most) = RETRY;
    while partition.is_taking_over() {
        match step(context, partition).await {
            Ok(()) => {}
            Err(error) => {
                tracing::error!(partition = %partition.topic_partition, %error, "the partition has no leader yet: its log and its cold tier are not one log");
                tokio::time::sleep(wait).await;
                wait = wait.saturating_mul(2).min(most);
            }
        }
    }
}

/// Compares once, and does the repair if one is needed.
async fn step(context: &Arc<BrokerContext>, partition: &Arc<Partition>) -> Result<(), String> {
    let image = context.quorum.image();
    let log = image.remote_log(partition.id()).cloned();
    let log = log.unwrap_or_default();
    let compared = {
        let log = log.clone();
        let compared = partition.run(move |owned| {
            let epoch = owned.takeover_epoch()?;
            Some((epoch, owned.try_takeover(&log)))
        });
        compared.await.map_err(|e| e.to_string())?
    };
    match compared {
        None | Some((_, Comparison::Agrees)) => Ok(()),
        Some((epoch, Comparison::Diverges { from, resumes_at })) => {
            cut_remote_log(context, partition, epoch, (from, resumes_at)).await
        }
        Some((epoch, Comparison::TierIsAhead { end_offset })) => {
            let tier = context.tier.as_ref();
            let tier =
                tier.ok_or("this broker has no cold tier (remote.log.storage.system.enable)")?;
            let state = state_at(tier, &log, end_offset).await?;
            begin_behind_tier(context, partition, epoch, &log, end_offset, state).await
        }
    }
}

async fn cut_remote_log(
    context: &BrokerContext,
    partition: &Partition,
    leader_epoch: LeaderEpoch,
    (from, resumes_at): (Offset, Offset),
) -> Result<(), String> {
    let cut = RemoteLogCut {
        partition: partition.id(),
        broker_id: BrokerId(context.node_id()),
        leader_epoch,
        from,
        resumes_at,
        gap: RemoteLogSegmentId(Uuid::new_v4()),
        gap_leader_epochs: partition.view().epochs.range(from, resumes_at),
        event_timestamp_ms: now_ms(),
    };
    let committed = context.quorum.submit(Command::CutRemoteLog(cut)).await;
    committed.map_err(|e| e.to_string())?;
    tracing::warn!(partition = %partition.topic_partition, from, resumes_at, "the cold tier held another history than the leader's log; its segments end where the two diverge");
    Ok(())
}

async fn begin_behind_tier(
    context: &BrokerContext,
    partition: &Arc<Partition>,
    leader_epoch: LeaderEpoch,
    log: &RemoteLogImage,
    end_offset: Offset,
    (lineage, producers): RemoteState,
) -> Result<(), String> {
    let first_remote = log.readable().next().map_or(0, |s| s.base_offset);
    let begun = partition
        .run(move |owned| {
            if owned.takeover_epoch() != Some(leader_epoch) {
                return Ok(None);
            }
            let ended = owned.log().log_end_offset();
            let start = owned.log().log_start_offset().max(first_remote);
            owned.start_behind_cold_tier(end_offset, start, lineage, producers)?;
            Ok(Some(ended))
        })
        .await;
    let begun: Result<_, strandline_log::LogError> = begun.map_err(|e| e.to_string())?;
    if let Some(ended) = begun.map_err(|e| e.to_string())? {
        let manager = context.partitions.clone();
        let written = tokio::task::spawn_blocking(move || manager.write_checkpoints()).await;
        written.map_err(|e| e.to_string())?;
        tracing::warn!(partition = %partition.topic_partition, ended, end_offset, "the log ended below its cold tier and continues behind it");
    }
    Ok(())
}
