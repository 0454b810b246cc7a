//! The loop of a fetch: looks at partitions, reads them, and waits for news while there is too little.

use std::collections::BTreeMap;
use std::time::Duration;

use strandline_types::{BrokerEpoch, BrokerId, LeaderEpoch};
use strandline_wire::ErrorCode;
use strandline_wire::fetch::FetchRequest;
use tokio::time::Instant;

use super::available::available;
use super::cold::read_remote;
use super::local::read_local;
use super::plan::start;
use super::reader::Reader;
use super::reading::Reading;
use super::room::{Room, answer_limit};
use super::throttle::{hold_up_throttled, pay_throttle};
use crate::api::Call;
use crate::clock::monotonic;
use crate::fetch_session::FetchContext;
use crate::partition::{Partition, ReplicaFetch};

/// How long the first records of an answer wait for memory. Clients wait longer for an answer.
const MEMORY_WAIT: Duration = Duration::from_secs(10);
/// The same for a follower, which suspects a leader that is 400 ms late with an answer.
const FOLLOWER_MEMORY_WAIT: Duration = Duration::from_millis(200);

/// Until when the first records of an answer wait for memory, if the client waits until `deadline` for news.
fn memory_deadline(reader: &Reader, deadline: Instant, now: Instant) -> Instant {
    let wait = match reader {
        Reader::Consumer { .. } => MEMORY_WAIT,
        Reader::Follower { .. } => FOLLOWER_MEMORY_WAIT,
    };
    deadline.max(now + wait)
}

/// Waits until there is enough, something failed, or the time is up; then reads.
pub(super) async fn collect(
    call: &Call,
    request: &FetchRequest,
    context: &FetchContext,
    reader: &Reader,
) -> Vec<Reading> {
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let limit = answer_limit(call, request);
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0).min(limit);
    let watch = context.watch();
    // In the order of the session. A second reading of a partition replaces the first one.
    let mut all: BTreeMap<u64, Reading> = BTreeMap::new();
    loop {
        let mut readings = look(call, context, reader);
        if let Reader::Follower { id, broker_epoch } = reader {
            note_positions(&readings, *id, *broker_epoch).await;
        }
        let held_up = hold_up_throttled(call, &mut readings, reader);
        {
            let mut session = context.session();
            for reading in &readings {
                session.settle(reading.visit.slot, reading.may_have_more(reader));
            }
        }
        all.extend(readings.into_iter().map(|r| (r.visit.order, r)));
        let may_wait = !context.is_empty()
            && Instant::now() < deadline
            && !call.context.stopping.is_cancelled();
        let seen: Vec<&Reading> = all.values().collect();
        let has_news = seen.iter().any(|reading| reading.has_answer());
        if has_news || !may_wait || available(&seen, reader, limit, min_bytes) >= min_bytes {
            let mut readings: Vec<Reading> = std::mem::take(&mut all).into_values().collect();
            let for_memory = memory_deadline(reader, deadline, Instant::now());
            let mut room = Room::new(call, request, reader, for_memory);
            read_local(&mut readings, reader, &mut room).await;
            pay_throttle(call, &readings);
            read_remote(call, &mut readings, reader, &mut room).await;
            let done = !may_wait
                || Instant::now() >= deadline
                || room.is_cut()
                || room.used() >= min_bytes.min(1)
                || readings.iter().any(Reading::has_answer);
            if done {
                return readings;
            }
            // The records were gone before they were read.
            all.extend(readings.into_iter().map(|r| (r.visit.order, r)));
        }
        let until = held_up.map_or(deadline, |wait| deadline.min(Instant::now() + wait));
        tokio::select! {
            // When the time is up, the next look answers with the records that there are.
            _ = tokio::time::timeout_at(until, watch.woken()) => {}
            // When the broker stops, too.
            () = call.context.stopping.cancelled() => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_is_answered_before_it_suspects_its_leader() {
        let follower = Reader::Follower {
            id: BrokerId(2),
            broker_epoch: BrokerEpoch(1),
        };
        let consumer = Reader::Consumer {
            isolation_level: 0,
            rack: None,
            from_followers: false,
        };
        let now = Instant::now();
        for (reader, max_wait_ms, waits_ms) in [
            (&follower, 0, 200),
            (&follower, 500, 500),
            (&consumer, 0, 10_000),
            (&consumer, 500, 10_000),
            (&consumer, 30_000, 30_000),
        ] {
            let until = memory_deadline(reader, now + Duration::from_millis(max_wait_ms), now);
            assert_eq!(
                until - now,
                Duration::from_millis(waits_ms),
                "{max_wait_ms}"
            );
        }
    }
}
