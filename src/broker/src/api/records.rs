//! `DeleteRecords` and `InitProducerId`.

use kafka_protocol::messages as m;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use strandline_wire::ErrorCode;
use strandline_wire::produce::TopicKey;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::internal_topics::{Act, refuse};
use super::look_up::find_led;
use super::{Call, transactions};
use crate::stop::{commit_timeout, patience};

/// Means "up to the high watermark".
const HIGH_WATERMARK: i64 = -1;

/// Deletes records below the offsets asked for. Each partition is answered when the new log start is durable on every
/// in-sync replica, or after the request's time-out. A log that cannot be written is answered with an error.
pub async fn delete_records(
    call: &Call,
    request: m::DeleteRecordsRequest,
) -> m::DeleteRecordsResponse {
    let deadline = Instant::now() + commit_timeout(request.timeout_ms);
    // Begin all deletions before waiting for the first.
    let mut begun = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let key = TopicKey::Name(topic.name.0.as_bytes().to_vec().into());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let deletion = begin_deletion(call, &key, asked.partition_index, asked.offset).await;
            partitions.push((asked.partition_index, deletion));
        }
        begun.push((topic.name, partitions));
    }
    let mut topics = Vec::with_capacity(begun.len());
    for (name, partitions) in begun {
        let mut answers = Vec::with_capacity(partitions.len());
        for (index, deletion) in partitions {
            let answer = DeleteRecordsPartitionResult::default().with_partition_index(index);
            answers.push(match deleted_by(call, deadline, deletion).await {
                Ok(low_watermark) => answer.with_low_watermark(low_watermark),
                Err(code) => answer.with_low_watermark(-1).with_error_code(code.code()),
            });
        }
        topics.push(
            DeleteRecordsTopicResult::default()
                .with_name(name)
                .with_partitions(answers),
        );
    }
    m::DeleteRecordsResponse::default().with_topics(topics)
}

/// A deletion that waits for the followers.
type Deletion = Result<oneshot::Receiver<i64>, ErrorCode>;

async fn begin_deletion(call: &Call, topic: &TopicKey, index: i32, offset: i64) -> Deletion {
    if let Some(name) = topic.name() {
        refuse(name, Act::DeleteRecords).map_err(|(code, _)| code)?;
    }
    let partition = find_led(call, topic, index)?;
    if !partition.config().cleanup_policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let high_watermark = partition.view().high_watermark;
    let to = if offset == HIGH_WATERMARK {
        high_watermark
    } else {
        offset
    };
    if to < 0 || to > high_watermark {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let begun = partition.run(move |owned| owned.delete_records(to)).await;
    begun.map_err(|e| e.code())?
}

async fn deleted_by(call: &Call, deadline: Instant, deletion: Deletion) -> Result<i64, ErrorCode> {
    tokio::select! {
        biased;
        // Without a low watermark, another broker leads by now.
        deleted = deletion? => deleted.map_err(|_| ErrorCode::NotLeaderOrFollower),
        () = patience(&call.context.stopping, deadline) => Err(ErrorCode::RequestTimedOut),
    }
}

pub async fn init_producer_id(
    call: &Call,
    request: m::InitProducerIdRequest,
) -> m::InitProducerIdResponse {
    let failed = |code: ErrorCode| {
        m::InitProducerIdResponse::default()
            .with_error_code(code.code())
            .with_producer_id(m::ProducerId(-1))
            .with_producer_epoch(-1)
    };
    if request.transactional_id.is_some() {
        return failed(transactions::REFUSED);
    }
    match call.context.producer_ids.next(&call.context.quorum).await {
        Ok(id) => m::InitProducerIdResponse::default()
            .with_producer_id(m::ProducerId(id))
            .with_producer_epoch(0),
        Err(error) => {
            tracing::warn!(%error, "no producer id could be reserved");
            failed(ErrorCode::CoordinatorLoadInProgress)
        }
    }
}
