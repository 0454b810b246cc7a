//! Fetch: hot records from the local log, cold ones from the remote tier, both through the same offsets.
//!
//! Local reads come first and never wait for the object store. Remote reads of one request run in parallel under the
//! bytes that are left, for at most `remote.fetch.max.wait.ms`; what is not there by then is still being loaded, and the
//! client's next fetch finds it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use strandline_log::{LogView, ReadError};
use strandline_tiering::cache::FetchError;
use strandline_wire::ErrorCode;
use strandline_wire::fetch::{FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse};
use strandline_wire::frame::{ResponseFrame, finish_response, start_response};
use strandline_wire::primitive::DecodeError;
use strandline_wire::produce::TopicKey;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Call;
use super::produce::find;
use super::read::read_batches;
use crate::connection::{Answer, PendingResponse};
use crate::fetch_session::FetchContext;
use crate::partition::Partition;

pub fn begin(call: Call, body: Bytes) -> Result<PendingResponse, DecodeError> {
    let request = FetchRequest::decode(call.version, body)?;
    Ok(async move { fetch(&call, request).await }.boxed())
}

async fn fetch(call: &Call, request: FetchRequest) -> Answer {
    let uses_topic_ids = call.version >= 13;
    if request.replica_id >= 0 {
        // Followers come with replication; nobody else may claim to be one.
        return refuse(call, ErrorCode::InvalidRequest);
    }
    let context = match call.context.fetch_sessions.begin(&request, uses_topic_ids) {
        Ok(context) => context,
        Err(error) => return refuse(call, error),
    };
    let readings = collect(call, &request, &context).await;
    let cold = readings.iter().any(|r| r.remote);
    let answers = readings.into_iter().map(|r| (r.topic, r.answer)).collect();
    let (session_id, answers) = context.finish(answers);
    let mut topics: Vec<(TopicKey, Vec<FetchPartitionResponse>)> = Vec::new();
    for (topic, answer) in answers {
        if !answer.records.is_empty() {
            call.context
                .metrics
                .fetched(&topic, answer.records_len() as u64);
        }
        match topics.last_mut() {
            Some((last, partitions)) if *last == topic => partitions.push(answer),
            _ => topics.push((topic, vec![answer])),
        }
    }
    let response = FetchResponse {
        throttle_time_ms: 0,
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

/// One partition of a request on its way.
struct Reading {
    topic: TopicKey,
    request: FetchPartition,
    partition: Option<Arc<Partition>>,
    answer: FetchPartitionResponse,
    /// Wanted from the cold tier.
    remote: bool,
}

/// Reads until there is enough, something failed, or the time is up.
async fn collect(call: &Call, request: &FetchRequest, context: &FetchContext) -> Vec<Reading> {
    let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let changed = Arc::new(Notify::new());
    loop {
        let mut readings = Vec::with_capacity(context.partitions.len());
        for (topic, wanted) in &context.partitions {
            let reading = start(call, topic, *wanted, request.isolation_level);
            if let Some(partition) = &reading.partition {
                partition.wake_on_change(&changed);
            }
            readings.push(reading);
        }
        // Views were taken before the wake-up was registered; take them again so that no change falls in between.
        for reading in &mut readings {
            if let Some(partition) = reading.partition.clone()
                && reading.answer.error == ErrorCode::None
                && !reading.remote
            {
                *reading = start(
                    call,
                    &reading.topic,
                    reading.request,
                    request.isolation_level,
                );
                reading.partition = Some(partition);
            }
        }
        let budget = request.max_bytes.max(0) as usize;
        let used = read_local(&mut readings, request.isolation_level, budget).await;
        let used = read_remote(call, &mut readings, budget, used).await;
        let failed = readings.iter().any(|r| r.answer.error != ErrorCode::None);
        let enough = used >= request.min_bytes.max(0) as usize;
        let waits = !readings.is_empty() && !enough && !failed && Instant::now() < deadline;
        // Woken before the time is up: records that were too few are read again together with the new ones.
        if waits
            && tokio::time::timeout_at(deadline, changed.notified())
                .await
                .is_ok()
        {
            continue;
        }
        return readings;
    }
}

/// Offset up to which this reader may see records.
fn limit(view: &LogView, isolation_level: i8) -> i64 {
    if isolation_level == 1 {
        view.last_stable_offset
    } else {
        view.high_watermark
    }
}

/// Finds the partition and checks epoch and range; decides which tier is asked.
fn start(call: &Call, topic: &TopicKey, wanted: FetchPartition, isolation_level: i8) -> Reading {
    let error = |code| Reading {
        topic: topic.clone(),
        request: wanted,
        partition: None,
        answer: FetchPartitionResponse::error(wanted.partition, code),
        remote: false,
    };
    let partition = match find(call, topic, wanted.partition) {
        Ok(partition) => partition,
        Err(code) => return error(code),
    };
    if let Err(code) = check_epoch(wanted.current_leader_epoch, partition.leader_epoch().0) {
        return error(code);
    }
    let view = partition.view();
    let mut answer = FetchPartitionResponse::error(wanted.partition, ErrorCode::None);
    answer.high_watermark = view.high_watermark;
    answer.last_stable_offset = view.last_stable_offset;
    answer.log_start_offset = view.log_start_offset;
    answer.aborted_transactions = (isolation_level == 1).then(Vec::new);
    let mut remote = false;
    if wanted.fetch_offset < view.log_start_offset || wanted.fetch_offset > view.log_end_offset {
        answer.error = ErrorCode::OffsetOutOfRange;
    } else if let Some(diverging) = diverging_epoch(&view, &wanted) {
        answer.diverging_epoch = Some(diverging);
    } else {
        remote = wanted.fetch_offset < view.local_log_start_offset;
    }
    Reading {
        topic: topic.clone(),
        request: wanted,
        partition: Some(partition),
        answer,
        remote,
    }
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
async fn read_local(readings: &mut [Reading], isolation_level: i8, budget: usize) -> usize {
    let mut used = 0;
    for reading in readings {
        let Some(partition) = reading.partition.clone() else {
            continue;
        };
        let skip = reading.remote
            || reading.answer.error != ErrorCode::None
            || reading.answer.diverging_epoch.is_some();
        // The first records of an answer come whatever the limits say, or a large batch would block for ever.
        let left = budget.saturating_sub(used);
        if skip || (left == 0 && used > 0) {
            continue;
        }
        let view = partition.view();
        let max = (reading.request.max_bytes.max(0) as usize).min(left);
        match read_one(
            &view,
            reading.request.fetch_offset,
            max,
            limit(&view, isolation_level),
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
            let max = (reading.request.max_bytes.max(0) as usize).min(share);
            let read = tier.read(&image, partition.id(), reading.request.fetch_offset, max);
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
                    offset = reading.request.fetch_offset,
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
