//! `DescribeProducers`, from the partition's own log, and `ListTransactions` and `DescribeTransactions`, of which there are none:
//! transactions are not supported yet.
//!
//! A client that wants one is told [`REFUSED`] wherever it asks. Of the codes that end the attempt in every client
//! (librdkafka, Sarama, franz-go, Java) this one is the only one that librdkafka does not retry for ever.

use kafka_protocol::messages as m;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::describe_transactions_response::TransactionState;
use strandline_log::ActiveProducer;
use strandline_types::validate_topic_name;
use strandline_wire::ErrorCode;
use strandline_wire::produce::TopicKey;

use super::Call;
use super::look_up::find_led;

/// The answer to whatever belongs to a transaction.
pub const REFUSED: ErrorCode = ErrorCode::TransactionalIdAuthorizationFailed;
pub const REASON: &str = "transactions are not supported yet";

/// Kafka's names of a transaction's states.
const STATES: [&str; 8] = [
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Empty",
    "Dead",
    "PrepareEpochFence",
];

pub async fn describe_producers(
    call: &Call,
    request: m::DescribeProducersRequest,
) -> m::DescribeProducersResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let key = TopicKey::Name(topic.name.0.as_bytes().to_vec().into());
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let answer = PartitionResponse::default().with_partition_index(index);
            let found = match validate_topic_name(&topic.name) {
                Ok(()) => producers(call, &key, index).await,
                Err(_) => Err(ErrorCode::InvalidTopicException),
            };
            partitions.push(match found {
                Ok(active) => answer.with_active_producers(active.into_iter().map(shown).collect()),
                Err(code) => answer.with_error_code(code.code()),
            });
        }
        topics.push(
            TopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions),
        );
    }
    m::DescribeProducersResponse::default().with_topics(topics)
}

async fn producers(
    call: &Call,
    topic: &TopicKey,
    index: i32,
) -> Result<Vec<ActiveProducer>, ErrorCode> {
    let partition = find_led(call, topic, index)?;
    let all = partition
        .run(|owned| owned.log().producers().active().collect::<Vec<_>>())
        .await
        .map_err(|e| e.code())?;
    let mut all = all;
    all.sort_by_key(|producer| producer.producer_id);
    Ok(all)
}

fn shown(producer: ActiveProducer) -> ProducerState {
    let first = producer.current_transaction_first_offset;
    ProducerState::default()
        .with_producer_id(m::ProducerId(producer.producer_id))
        .with_producer_epoch(i32::from(producer.producer_epoch))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp_ms)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(first.unwrap_or(-1))
}

pub async fn list_transactions(
    _: &Call,
    request: m::ListTransactionsRequest,
) -> m::ListTransactionsResponse {
    let known = |state: &str| STATES.contains(&state);
    let unknown = request.state_filters.into_iter().filter(|s| !known(s));
    m::ListTransactionsResponse::default().with_unknown_state_filters(unknown.collect())
}

pub async fn describe_transactions(
    _: &Call,
    request: m::DescribeTransactionsRequest,
) -> m::DescribeTransactionsResponse {
    let states = request.transactional_ids.into_iter().map(|id| {
        TransactionState::default()
            .with_transactional_id(id)
            .with_error_code(ErrorCode::TransactionalIdNotFound.code())
    });
    m::DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}
