//! The loop of a fetch: looks at partitions, reads them, and waits for news while there is too little.

use std::collections::BTreeMap;
use std::time::Duration;

use strandline_types::{BrokerEpoch, BrokerId, LeaderEpoch};
use strandline_wire::ErrorCode;
use strandline_wire::fetch::FetchRequest;
use tokio::time::Instant;

use super::cold::read_remote;
use super::local::read_local;
use super::plan::start;
use super::reader::Reader;
use super::reading::Reading;
use super::throttle::{hold_up_throttled, pay_throttle};
use crate::api::Call;
use crate::clock::monotonic;
use crate::fetch_session::FetchContext;
use crate::partition::{Partition, ReplicaFetch};

/// Reads until there is enough, something failed, or the time is up.
pub(super) async fn collect(
    call: &Call,
    request: &FetchRequest,
    context: &FetchContext,
    reader: &Reader,
) -> Vec<Reading> {
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let watch = context.watch();
    // In the order of the session. A second reading of a partition replaces the first one.
    let mut all: BTreeMap<u64, Reading> = BTreeMap::new();
    loop {
        let mut readings = look(call, context, reader);
        if let Reader::Follower { id, broker_epoch } = reader {
            note_positions(&readings, *id, *broker_epoch).await;
        }
        let budget = request.max_bytes.max(0) as usize;
        let held_up = hold_up_throttled(call, &mut readings, reader);
        let used = read_local(&mut readings, reader, budget).await;
        pay_throttle(call, &readings);
        let used = read_remote(call, &mut readings, reader, budget, used).await;
        {
            let mut session = context.session();
            for reading in &readings {
                session.settle(reading.visit.slot, reading.may_have_more(reader));
            }
        }
        all.extend(readings.into_iter().map(|r| (r.visit.order, r)));
        let is_news = |r: &Reading| {
            r.answer.error != ErrorCode::None
                || r.answer.diverging_epoch.is_some()
                || r.answer.preferred_read_replica >= 0
        };
        let enough = used >= request.min_bytes.max(0) as usize || all.values().any(is_news);
        let waits = !enough && !context.is_empty() && Instant::now() < deadline;
        let until = held_up.map_or(deadline, |wait| deadline.min(Instant::now() + wait));
        // Woken before the deadline: records that were too few are read again, together with the new ones.
        if waits && !call.context.stopping.is_cancelled() {
            let woken = tokio::select! {
                woken = tokio::time::timeout_at(until, watch.woken()) => woken,
                // The broker stops: answer with the records that there are.
                () = call.context.stopping.cancelled() => continue,
            };
            if woken.is_ok() || until < deadline {
                continue;
            }
        }
        return all.into_values().collect();
    }
}

/// Looks at every partition that may have news.
fn look(call: &Call, context: &FetchContext, reader: &Reader) -> Vec<Reading> {
    let mut session = context.session();
    let visits = session.visits();
    let mut watch = |slot: u32, partition: &Partition| session.watch(slot, partition);
    visits
        .into_iter()
        .map(|visit| start(call, visit, reader, &mut watch))
        .collect()
}

/// Reports a follower's positions to the owners. The position of a log that has diverged from this one does not count.
async fn note_positions(readings: &[Reading], id: BrokerId, broker_epoch: BrokerEpoch) {
    let now = monotonic();
    for reading in readings {
        let parted = reading.answer.diverging_epoch.is_some();
        let Some(partition) = &reading.partition else {
            continue;
        };
        if reading.answer.error != ErrorCode::None || parted {
            continue;
        }
        let fetch = ReplicaFetch {
            replica: id,
            broker_epoch,
            leader_epoch: LeaderEpoch(reading.visit.request.current_leader_epoch),
            offset: reading.visit.request.fetch_offset,
            log_start_offset: reading.visit.request.log_start_offset,
        };
        partition.note_replica_fetch(fetch, now).await;
    }
}
