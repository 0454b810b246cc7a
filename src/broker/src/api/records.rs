//! `DeleteRecords` and `InitProducerId`.

use kafka_protocol::messages as m;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use strandline_wire::ErrorCode;
use strandline_wire::produce::TopicKey;

use super::Call;
use super::internal_topics::{Act, refuse};
use super::produce::find_led;

/// Means "up to the high watermark".
const HIGH_WATERMARK: i64 = -1;

pub async fn delete_records(
    call: &Call,
    request: m::DeleteRecordsRequest,
) -> m::DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut changed = false;
    for topic in request.topics {
        let key = TopicKey::Name(topic.name.0.as_bytes().to_vec().into());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let result = delete_one(call, &key, asked.partition_index, asked.offset).await;
            changed |= result.is_ok();
            let answer =
                DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            partitions.push(match result {
                Ok(low) => answer.with_low_watermark(low),
                Err(code) => answer.with_low_watermark(-1).with_error_code(code.code()),
            });
        }
        topics.push(
            DeleteRecordsTopicResult::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    if changed {
        // Deleted records must stay deleted after a crash: the new log start is durable before the answer.
        let manager = call.context.partitions.clone();
        let _ = tokio::task::spawn_blocking(move || manager.write_checkpoints()).await;
    }
    m::DeleteRecordsResponse::default().with_topics(topics)
}

async fn delete_one(
    call: &Call,
    topic: &TopicKey,
    index: i32,
    offset: i64,
) -> Result<i64, ErrorCode> {
    if let Some(name) = topic.name() {
        refuse(name, Act::DeleteRecords).map_err(|(code, _)| code)?;
    }
    let partition = find_led(call, topic, index)?;
    if !partition.config().cleanup_policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let view = partition.view();
    let to = if offset == HIGH_WATERMARK {
        view.high_watermark
    } else {
        offset
    };
    if to < 0 || to > view.high_watermark || to < view.log_start_offset && offset < 0 {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let moved = partition.run(move |owned| {
        owned.log.advance_log_start(to)?;
        Ok::<i64, strandline_log::LogError>(owned.log.log_start_offset())
    });
    moved
        .await
        .map_err(|e| e.code())?
        .map_err(|_| ErrorCode::KafkaStorageError)
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
        // FindCoordinator has already refused the transaction coordinator.
        return failed(ErrorCode::InvalidRequest);
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
