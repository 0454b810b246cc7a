//! Produce: validate without copying, hand to the partitions' owners in order of arrival, answer when `acks` is met.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use strandline_wire::ErrorCode;
use strandline_wire::batch::BatchHeader;
use strandline_wire::frame::{finish_response, start_response};
use strandline_wire::primitive::DecodeError;
use strandline_wire::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, TopicKey,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::codec_threads::validated;
use super::internal_topics::{Act, refuse};
use super::look_up::{current_leader, find};
use super::{Call, transactions};
use crate::answer::{Answer, PendingResponse};
use crate::disconnects::Cause;
use crate::partition::{Acks, AppendReply};
use crate::quotas::QuotaKind;
use crate::stop::{commit_timeout, patience};

/// The state of one partition of a request before the request is answered.
enum Outcome {
    Failed(ProducePartitionResponse),
    Appending {
        index: i32,
        reply: oneshot::Receiver<AppendReply>,
    },
}

type TopicOutcomes = Vec<(TopicKey, Vec<Outcome>)>;

/// Validates and appends. When this returns, the order of the batches is settled.
pub async fn begin(call: Call, body: Bytes) -> Result<PendingResponse, DecodeError> {
    let used = body.len();
    let request = ProduceRequest::decode(call.version, body)?;
    let acks = request.acks;
    let deadline = Instant::now() + commit_timeout(request.timeout_ms);
    let refused = if !(-1..=1).contains(&acks) {
        Some((ErrorCode::InvalidRequiredAcks, "acks must be -1, 0 or 1"))
    } else if request.transactional_id.is_some() {
        Some((transactions::REFUSED, transactions::REASON))
    } else {
        None
    };
    let wait = call
        .context
        .quotas
        .spend(QuotaKind::Produce, &call.client_id, used);
    call.peer.mute(wait);
    let mut topics: TopicOutcomes = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut outcomes = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.index;
            let outcome = match refused {
                Some((code, message)) => Outcome::Failed(ProducePartitionResponse::error(
                    index,
                    code,
                    Some(message.into()),
                )),
                None => append(&call, &topic.topic, partition, acks).await,
            };
            outcomes.push(outcome);
        }
        // The request's bytes are free as soon as its batches are in their logs.
        topics.push((topic.topic.detached(), outcomes));
    }
    Ok(async move { answer(&call, topics, acks, deadline, wait).await }.boxed())
}

async fn append(call: &Call, topic: &TopicKey, partition: ProducePartition, acks: i16) -> Outcome {
    let index = partition.index;
    let fail = |code, message: Option<String>| {
        Outcome::Failed(ProducePartitionResponse::error(index, code, message))
    };
    let found = match find(call, topic, index) {
        Ok(found) => found,
        Err(code) => return fail(code, None),
    };
    if let Err((code, reason)) = refuse(&found.topic_partition.topic, Act::Produce) {
        return fail(code, Some(reason));
    }
    if !found.is_leader() {
        let code = ErrorCode::NotLeaderOrFollower;
        if let Ok(header) = BatchHeader::decode(&partition.records) {
            found.refusals.note(&header, code);
        }
        return fail(code, None);
    }
    let bytes = partition.records.len() as u64;
    let batch = match validated(call, &found, partition.records).await {
        Ok(batch) => batch,
        Err(failed) => return Outcome::Failed(ProducePartitionResponse { index, ..*failed }),
    };
    if acks == -1 && !found.role().enough_in_sync {
        let message = format!(
            "fewer replicas are in sync than min.insync.replicas = {} asks for",
            found.config().min_insync_replicas
        );
        found
            .refusals
            .note(&batch.header, ErrorCode::NotEnoughReplicas);
        return fail(ErrorCode::NotEnoughReplicas, Some(message));
    }
    if !found.take_room(bytes) {
        let message =
            "the log directory is full: strandline.log.dir.reserved.bytes stay free".to_owned();
        found
            .refusals
            .note(&batch.header, ErrorCode::KafkaStorageError);
        return fail(ErrorCode::KafkaStorageError, Some(message));
    }
    let records = batch.header.record_count;
    let wait = match acks {
        0 => Acks::None,
        1 => Acks::Leader,
        _ => Acks::All,
    };
    match found.append(vec![batch], wait).await {
        Ok(reply) => {
            call.context
                .metrics
                .produced(&found.topic_partition.topic, bytes, records as u64);
            Outcome::Appending { index, reply }
        }
        Err(error) => fail(error.code(), Some(error.to_string())),
    }
}

async fn answer(
    call: &Call,
    topics: TopicOutcomes,
    acks: i16,
    deadline: Instant,
    throttled: Duration,
) -> Answer {
    let mut response = ProduceResponse::default();
    let mut failure = None;
    for (topic, outcomes) in topics {
        let mut answers = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            let mut answer = match outcome {
                Outcome::Failed(answer) => answer,
                Outcome::Appending { index, reply } => wait(call, index, reply, deadline).await,
            };
            if answer.error == ErrorCode::NotLeaderOrFollower {
                answer.current_leader = current_leader(call, &topic, answer.index);
            }
            if answer.error != ErrorCode::None && failure.is_none() {
                failure = Some((topic.name().map(str::to_owned), answer.index, answer.error));
            }
            call.context.metrics.answered(call.key, answer.error.code());
            answers.push(answer);
        }
        response.topics.push((topic, answers));
    }
    let wait = throttled.max(call.spend_time());
    response.throttle_time_ms = wait.as_millis() as i32;
    if acks == 0 {
        let Some((topic, partition, error)) = failure else {
            return Answer::Nothing;
        };
        let topic = topic.unwrap_or_else(|| "a topic by its id".into());
        let reason = format!("a produce with acks=0 to {topic}, partition {partition}: {error:?}");
        return call.close(Cause::FailedProduce, reason);
    }
    let mut writer = start_response(call.key, call.version, call.correlation_id);
    response.encode(call.version, &mut writer);
    Answer::Frame(finish_response(writer, Vec::new()))
}

async fn wait(
    call: &Call,
    index: i32,
    reply: oneshot::Receiver<AppendReply>,
    deadline: Instant,
) -> ProducePartitionResponse {
    let reply = tokio::select! {
        biased;
        reply = reply => reply,
        // The batch is in the log and may still be committed.
        () = patience(&call.context.stopping, deadline) => {
            return ProducePartitionResponse::error(index, ErrorCode::RequestTimedOut, None);
        }
    };
    let Ok(reply) = reply else {
        return ProducePartitionResponse::error(index, ErrorCode::NotLeaderOrFollower, None);
    };
    match reply.results.into_iter().next() {
        Some(Ok(info)) => ProducePartitionResponse {
            base_offset: info.base_offset,
            log_append_time_ms: info.log_append_time_ms,
            log_start_offset: reply.log_start_offset,
            ..ProducePartitionResponse::error(index, ErrorCode::None, None)
        },
        Some(Err(error)) => {
            ProducePartitionResponse::error(index, error.code(), Some(error.to_string()))
        }
        None => ProducePartitionResponse::error(index, ErrorCode::UnknownServerError, None),
    }
}
