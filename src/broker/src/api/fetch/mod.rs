//! Fetch: hot records from the local log, cold ones from the remote tier, both through the same offsets.
//!
//! Local reads come first and never wait for the object store. Remote reads of one request run in parallel under the
//! bytes that are left, for at most `remote.fetch.max.wait.ms`. Chunks that have not arrived by then are still being
//! loaded, and the client's next fetch finds them.
//!
//! Read next: `wait.rs` (the loop), `plan.rs` (which tier is asked), `local.rs`, `cold.rs`.

mod available;
mod cold;
mod local;
mod plan;
mod reader;
mod reading;
mod room;
mod throttle;
mod wait;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use strandline_wire::ErrorCode;
use strandline_wire::fetch::{FetchPartitionResponse, FetchRequest, FetchResponse};
use strandline_wire::frame::{ResponseFrame, finish_response, start_response};
use strandline_wire::primitive::DecodeError;
use strandline_wire::produce::TopicKey;

use super::Call;
use crate::answer::{Answer, PendingResponse};
use crate::quotas::QuotaKind;
pub(super) use cold::remote_error;
pub(super) use plan::check_epoch;
use reader::Reader;
use wait::collect;

pub fn begin(call: Call, body: Bytes) -> Result<PendingResponse, DecodeError> {
    let request = FetchRequest::decode(call.version, body)?;
    Ok(async move { fetch(&call, request).await }.boxed())
}

async fn fetch(call: &Call, mut request: FetchRequest) -> Answer {
    let uses_topic_ids = call.version >= 13;
    let reader = Reader::of(call, &request);
    let sessions = &call.context.fetch_sessions;
    let context = match sessions.begin(&request, uses_topic_ids, reader.interest()) {
        Ok(context) => context,
        Err(error) => return refuse(call, error),
    };
    // The session has what it needs, and the fetch may wait: the request's bytes are free from here on.
    request.topics = Vec::new();
    request.forgotten = Vec::new();
    request.rack_id = Bytes::new();
    let readings = collect(call, &request, &context, &reader).await;
    let cold = call.context.tier.is_some() && readings.iter().any(|r| r.remote);
    let answers = readings
        .into_iter()
        .map(|r| (r.visit.slot, r.visit.topic, r.answer));
    let answers = answers.collect();
    let (session_id, answers) = context.finish(answers);
    let mut read_bytes = 0;
    let mut topics: Vec<(TopicKey, Vec<FetchPartitionResponse>)> = Vec::new();
    for (topic, answer) in answers {
        call.context.metrics.answered(call.key, answer.error.code());
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
    call.context.metrics.answered(call.key, error.code());
    Answer::Frame(encode(call, FetchResponse::error(error)))
}

fn encode(call: &Call, response: FetchResponse) -> ResponseFrame {
    let mut writer = start_response(call.key, call.version, call.correlation_id);
    let parts = response.encode(call.version, &mut writer);
    finish_response(writer, parts)
}
