//! Fetch: hot records from the local log, cold ones from the remote tier, both through the same offsets.
//!
//! Local reads come first and never wait for the object store. Remote reads of one request run in parallel under the
//! bytes that are left, for at most `remote.fetch.max.wait.ms`; what is not there by then is still being loaded, and the
//! client's next fetch finds it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use strandline_log::{LogView, ReadError};
use strandline_tiering::cache::FetchError;
use strandline_types::{BrokerEpoch, BrokerId, LeaderEpoch};
use strandline_wire::ErrorCode;
use strandline_wire::fetch::{FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse};
use strandline_wire::frame::{ResponseFrame, finish_response, start_response};
use strandline_wire::primitive::DecodeError;
use strandline_wire::produce::TopicKey;
use tokio::time::Instant;

use super::Call;
use super::produce::{current_leader, find};
use super::read::read_batches;
use crate::clock::monotonic;
use crate::connection::{Answer, PendingResponse};
use crate::fetch_session::{FetchContext, Visit};
use crate::partition::{Interest, Partition, ReplicaFetch, Role};
use crate::quotas::QuotaKind;

pub fn begin(call: Call, body: Bytes) -> Result<PendingResponse, DecodeError> {
    let request = FetchRequest::decode(call.version, body)?;
    Ok(async move { fetch(&call, request).await }.boxed())
}

async fn fetch(call: &Call, request: FetchRequest) -> Answer {
    let uses_topic_ids = call.version >= 13;
    let reader = Reader::of(call, &request);
    let sessions = &call.context.fetch_sessions;
    let context = match sessions.begin(&request, uses_topic_ids, reader.interest()) {
        Ok(context) => context,
        Err(error) => return refuse(call, error),
    };
    let readings = collect(call, &request, &context, &reader).await;
    let cold = readings.iter().any(|r| r.remote);
    let answers = readings
        .into_iter()
        .map(|r| (r.visit.slot, r.visit.topic, r.answer));
    let answers = answers.collect();
    let (session_id, answers) = context.finish(answers);
    let mut read_bytes = 0;
    let mut topics: Vec<(TopicKey, Vec<FetchPartitionResponse>)> = Vec::new();
    for (topic, answer) in answers {
        read_bytes += answer.records_len();
        let (metrics, bytes) = (&call.context.metrics, answer.records_len() as u64);
        if request.replica_id >= 0 {
            let counter = &metrics.replication_bytes_out;
            counter.fetch_add(bytes, Ordering::Relaxed);
        } else if bytes > 0 {
            metrics.fetched(&topic, bytes);
        }
        match topics.last_mut() {
            Some((last, partitions)) if *last == topic => partitions.push(answer),
            _ => topics.push((topic, vec![answer])),
        }
    }
    // Followers have throttles of their own.
    let wait = if request.replica_id < 0 {
        let quotas = &call.context.quotas;
        let wait = quotas.spend(QuotaKind::Fetch, &call.client_id, read_bytes);
        wait.max(call.spend_time())
    } else {
        Duration::ZERO
    };
    call.peer.mute(wait);
    let response = FetchResponse {
        throttle_time_ms: wait.as_millis() as i32,
        error: ErrorCode::None,
        session_id,
        topics,
    };
    let frame = encode(call, response);
    if cold {
        Answer::ColdFrame(frame)
    } else {
        Answer::Frame(frame)
    }
}

fn refuse(call: &Call, error: ErrorCode) -> Answer {
    Answer::Frame(encode(call, FetchResponse::error(error)))
}

fn encode(call: &Call, response: FetchResponse) -> ResponseFrame {
    let mut writer = start_response(call.key, call.version, call.correlation_id);
    let parts = response.encode(call.version, &mut writer);
    finish_response(writer, parts)
}

/// Who reads.
#[derive(Clone, Debug)]
enum Reader {
    Consumer {
        isolation_level: i8,
        /// May be sent to, and served by, followers (KIP-392).
        rack: Option<String>,
        from_followers: bool,
    },
    Follower {
        id: BrokerId,
        broker_epoch: BrokerEpoch,
    },
}

impl Reader {
    fn of(call: &Call, request: &FetchRequest) -> Self {
        if request.replica_id >= 0 {
            return Self::Follower {
                id: BrokerId(request.replica_id),
                broker_epoch: BrokerEpoch(request.replica_epoch),
            };
        }
        let rack = String::from_utf8_lossy(&request.rack_id).into_owned();
        Self::Consumer {
            isolation_level: request.isolation_level,
            rack: Some(rack).filter(|r| !r.is_empty()),
            from_followers: call.version >= 11,
        }
    }

    fn interest(&self) -> Interest {
        match self {
            Self::Consumer { .. } => Interest::Committed,
            Self::Follower { .. } => Interest::Appended,
        }
    }

    /// Offset up to which this reader may see records.
    fn limit(&self, view: &LogView) -> i64 {
        match self {
            Self::Consumer {
                isolation_level: 1, ..
            } => view.last_stable_offset,
            Self::Consumer { .. } => view.high_watermark,
            Self::Follower { .. } => view.log_end_offset,
        }
    }
}

/// One partition of a request on its way.
struct Reading {
    visit: Visit,
    partition: Option<Arc<Partition>>,
    answer: FetchPartitionResponse,
    /// Wanted from the cold tier.
    remote: bool,
    throttle: Throttled,
}

/// What a replication throttle says to a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Throttled {
    No,
    /// Its bytes count.
    Counts,
    /// It waits for its turn.
    Waits,
}

/// Reads until there is enough, something failed, or the time is up.
async fn collect(
    call: &Call,
    request: &FetchRequest,
    context: &FetchContext,
    reader: &Reader,
) -> Vec<Reading> {
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let watch = context.watch();
    // In the order of the session. What is looked at again takes the place of what was seen before.
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
        let used = read_remote(call, &mut readings, budget, used).await;
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
        // Woken before the time is up: records that were too few are read again together with the new ones.
        if waits {
            let woken = tokio::time::timeout_at(until, watch.woken()).await;
            if woken.is_ok() || until < deadline {
                continue;
            }
        }
        return all.into_values().collect();
    }
}

/// Looks at every partition that may have something to say.
fn look(call: &Call, context: &FetchContext, reader: &Reader) -> Vec<Reading> {
    let mut session = context.session();
    let visits = session.visits();
    let mut watch = |slot: u32, partition: &Partition| session.watch(slot, partition);
    visits
        .into_iter()
        .map(|visit| start(call, visit, reader, &mut watch))
        .collect()
}

impl Reading {
    /// Whether another look may find something although the partition has told of no news.
    fn may_have_more(&self, reader: &Reader) -> bool {
        let Some(partition) = &self.partition else {
            return true;
        };
        self.answer.error != ErrorCode::None
            || self.remote
            || self.answer.diverging_epoch.is_some()
            || self.answer.preferred_read_replica >= 0
            || self.visit.request.fetch_offset < reader.limit(&partition.view())
    }
}

/// Tells the owners where a follower is. One whose log has parted from this one is nowhere yet.
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
        };
        partition.note_replica_fetch(fetch, now).await;
    }
}

/// Finds the partition and checks epoch and range; decides which tier is asked.
fn start(
    call: &Call,
    visit: Visit,
    reader: &Reader,
    watch: &mut impl FnMut(u32, &Partition),
) -> Reading {
    let wanted = visit.request;
    let mut reading = Reading {
        answer: FetchPartitionResponse::error(wanted.partition, ErrorCode::None),
        visit,
        partition: None,
        remote: false,
        throttle: Throttled::No,
    };
    let answer = &mut reading.answer;
    let (partition, role) = match readable(call, &reading.visit, reader, watch) {
        Ok(readable) => readable,
        Err(code) => {
            answer.error = code;
            if matches!(
                code,
                ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
            ) {
                answer.current_leader =
                    current_leader(call, &reading.visit.topic, wanted.partition);
            }
            return reading;
        }
    };
    let view = partition.view();
    answer.high_watermark = view.high_watermark;
    answer.last_stable_offset = view.last_stable_offset;
    answer.log_start_offset = view.log_start_offset;
    let committed = matches!(
        reader,
        Reader::Consumer {
            isolation_level: 1,
            ..
        }
    );
    answer.aborted_transactions = committed.then(Vec::new);
    if let Reader::Consumer {
        rack: Some(rack), ..
    } = reader
        && role.is_leader
        && let Some(nearer) = nearest_replica(call, &partition, rack)
    {
        answer.preferred_read_replica = nearer.0;
        reading.partition = Some(partition);
        return reading;
    }
    let is_follower = matches!(reader, Reader::Follower { .. });
    if let Some(diverging) = diverging_epoch(&view, &wanted) {
        // First of all: a log that has parted from this one may well be longer.
        answer.diverging_epoch = Some(diverging);
    } else if wanted.fetch_offset > view.log_end_offset && !role.is_leader {
        // The leader may have it.
        answer.error = ErrorCode::OffsetNotAvailable;
    } else if wanted.fetch_offset < view.log_start_offset
        || wanted.fetch_offset > view.log_end_offset
    {
        answer.error = ErrorCode::OffsetOutOfRange;
    } else if is_follower && wanted.fetch_offset < view.local_log_start_offset {
        // It takes epochs and producer state from the cold tier and begins where this log begins.
        answer.error = ErrorCode::OffsetMovedToTieredStorage;
    } else {
        reading.remote = wanted.fetch_offset < view.local_log_start_offset;
    }
    reading.partition = Some(partition);
    reading
}

/// The partition that is meant, with what this broker is to it, if `reader` may read it here.
fn readable(
    call: &Call,
    visit: &Visit,
    reader: &Reader,
    watch: &mut impl FnMut(u32, &Partition),
) -> Result<(Arc<Partition>, Arc<Role>), ErrorCode> {
    let wanted = visit.request;
    let partition = find(call, &visit.topic, wanted.partition)?;
    watch(visit.slot, &partition);
    let role = partition.role();
    check_epoch(wanted.current_leader_epoch, role.leader_epoch.0)?;
    let may_read = match reader {
        Reader::Consumer { from_followers, .. } => {
            role.is_leader || *from_followers && role.leader.is_some() && !is_mine(call, &role)
        }
        // An epoch must have been named, or a follower of an older leader might pass for one of this.
        Reader::Follower { .. } => role.is_leader && wanted.current_leader_epoch >= 0,
    };
    if may_read {
        Ok((partition, role))
    } else {
        Err(ErrorCode::NotLeaderOrFollower)
    }
}

/// Marks what is read for replicas that `leader.replication.throttled.replicas` names and that are not in sync; gives the
/// time that they have to wait, if they do.
fn hold_up_throttled(call: &Call, readings: &mut [Reading], reader: &Reader) -> Option<Duration> {
    let Reader::Follower { id, .. } = reader else {
        return None;
    };
    let own = BrokerId(call.context.node_id());
    let mut wait = None;
    for reading in readings {
        let Some(partition) = &reading.partition else {
            continue;
        };
        let number = partition.topic_partition.partition;
        let config = partition.config();
        let named = config
            .leader_replication_throttled_replicas
            .contains(number, own);
        if !named || call.context.is_in_sync(partition.id(), *id) {
            continue;
        }
        wait = wait.or_else(|| call.context.leader_throttle.wait(Instant::now().into_std()));
        reading.throttle = if wait.is_some() {
            Throttled::Waits
        } else {
            Throttled::Counts
        };
    }
    wait
}

fn pay_throttle(call: &Call, readings: &[Reading]) {
    let counted = readings.iter().filter(|r| r.throttle == Throttled::Counts);
    let bytes = counted.map(|r| r.answer.records_len()).sum();
    // Most fetches have nothing to do with it.
    if bytes > 0 {
        call.context.leader_throttle.spend(bytes);
    }
}

/// The metadata names this broker as the leader, whatever it dares to be at the moment.
fn is_mine(call: &Call, role: &Role) -> bool {
    role.leader.map(|l| l.0) == Some(call.context.node_id())
}

/// An in-sync replica in the reader's rack, where the leader is in another one and `replica.selector.class` asks for it.
fn nearest_replica(call: &Call, partition: &Partition, rack: &str) -> Option<BrokerId> {
    if !call.context.prefers_near_replicas() {
        return None;
    }
    let image = call.context.quorum.image();
    let is_here = |id: &BrokerId| {
        let broker = image.brokers.get(id);
        broker.is_some_and(|b| !b.fenced && b.rack.as_deref() == Some(rack))
    };
    if is_here(&BrokerId(call.context.node_id())) {
        return None;
    }
    let state = image.partition(partition.id())?;
    state.isr.iter().copied().find(is_here)
}

/// A client that knows an older or a newer leader is told so.
pub(super) fn check_epoch(claimed: i32, current: i32) -> Result<(), ErrorCode> {
    match claimed {
        -1 => Ok(()),
        n if n < current => Err(ErrorCode::FencedLeaderEpoch),
        n if n > current => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// Where the reader's log and this one part, if the epoch of its last record says that they do (KIP-320, KIP-595).
fn diverging_epoch(view: &LogView, wanted: &FetchPartition) -> Option<(i32, i64)> {
    if wanted.last_fetched_epoch < 0 {
        return None;
    }
    let last = strandline_types::LeaderEpoch(wanted.last_fetched_epoch);
    let (epoch, end) = view.epochs.end_offset_for(last, view.log_end_offset)?;
    (epoch < last || end < wanted.fetch_offset).then_some((epoch.0, end))
}

/// Reads hot records in order; returns the bytes read.
async fn read_local(readings: &mut [Reading], reader: &Reader, budget: usize) -> usize {
    let mut used = 0;
    for reading in readings {
        let Some(partition) = reading.partition.clone() else {
            continue;
        };
        let skip = reading.remote
            || reading.throttle == Throttled::Waits
            || reading.answer.error != ErrorCode::None
            || reading.answer.diverging_epoch.is_some()
            || reading.answer.preferred_read_replica >= 0;
        // The first records of an answer come whatever the limits say, or a large batch would block for ever.
        let left = budget.saturating_sub(used);
        if skip || (left == 0 && used > 0) {
            continue;
        }
        let view = partition.view();
        let max = (reading.visit.request.max_bytes.max(0) as usize).min(left);
        match read_one(
            &view,
            reading.visit.request.fetch_offset,
            max,
            reader.limit(&view),
        )
        .await
        {
            Ok(bytes) if bytes.len() > left && used > 0 => {}
            Ok(bytes) => {
                used += bytes.len();
                if !bytes.is_empty() {
                    reading.answer.records = vec![bytes];
                }
            }
            Err(ReadError::OffsetOutOfRange { .. }) => {
                // The local start moved past the offset since the view was taken: it is in the cold tier now.
                reading.remote = true;
            }
            Err(ReadError::Log(error)) => {
                tracing::error!(partition = %partition.topic_partition, %error, "a fetch failed");
                reading.answer.error = match error {
                    strandline_log::LogError::Corrupt { .. } => ErrorCode::CorruptMessage,
                    strandline_log::LogError::Io { .. } => ErrorCode::KafkaStorageError,
                };
            }
        }
    }
    used
}

async fn read_one(
    view: &LogView,
    offset: i64,
    max_bytes: usize,
    limit: i64,
) -> Result<Bytes, ReadError> {
    let Some(slice) = view.slice(offset, max_bytes, limit)? else {
        return Ok(Bytes::new());
    };
    Ok(read_batches(slice).await?)
}

/// Reads cold records, all partitions at once, each with an equal share of what is left.
async fn read_remote(call: &Call, readings: &mut [Reading], budget: usize, used: usize) -> usize {
    let wanted = readings.iter().filter(|r| r.remote).count();
    let Some(tier) = call.context.tier.clone().filter(|_| wanted > 0) else {
        for reading in readings.iter_mut().filter(|r| r.remote) {
            reading.answer.error = ErrorCode::OffsetOutOfRange;
        }
        return used;
    };
    let share = budget.saturating_sub(used) / wanted;
    let image = call.context.quorum.image();
    let wait = Duration::from_millis(
        call.context
            .config()
            .number("remote.fetch.max.wait.ms")
            .max(1) as u64,
    );
    let reads = readings.iter_mut().filter(|r| r.remote).map(|reading| {
        let (tier, image) = (tier.clone(), image.clone());
        async move {
            let partition = reading
                .partition
                .clone()
                .expect("a remote read has a partition");
            let max = (reading.visit.request.max_bytes.max(0) as usize).min(share);
            let read = tier.read(
                &image,
                partition.id(),
                reading.visit.request.fetch_offset,
                max,
            );
            let result = tokio::time::timeout(wait, read).await;
            (reading, result)
        }
    });
    let mut used = used;
    for (reading, result) in join_all(reads).await {
        match result {
            // Still loading; the client asks again.
            Err(_) => {}
            Ok(Ok(Some(records))) => {
                // Only the first records of an answer may exceed the budget.
                if used == 0 || used + records.bytes <= budget {
                    used += records.bytes;
                    reading.answer.records = records.slices;
                }
            }
            Ok(Ok(None)) => reading.answer.error = ErrorCode::OffsetOutOfRange,
            Ok(Err(error)) => {
                tracing::warn!(
                    partition = ?reading.partition,
                    offset = reading.visit.request.fetch_offset,
                    %error,
                    "a remote read failed"
                );
                reading.answer.error = remote_error(&error);
            }
        }
    }
    used
}

/// Damaged bytes are said to be so; a store that does not answer makes the client try again.
pub(super) fn remote_error(error: &FetchError) -> ErrorCode {
    match error {
        FetchError::Store { .. } => ErrorCode::KafkaStorageError,
        FetchError::Corrupt { .. } | FetchError::Side { .. } | FetchError::OutOfBounds { .. } => {
            ErrorCode::CorruptMessage
        }
    }
}
