//! Clients that ask for transactions or for ACLs, which are not there, are answered in a way that ends their attempt.

use kafka_protocol::messages as m;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use strandline_wire::ErrorCode;

use super::*;

/// Before, librdkafka looked for a coordinator until its own time-out.
#[tokio::test(flavor = "multi_thread")]
async fn librdkafka_ends_at_once_with_a_fatal_error() {
    let mut broker = TestBroker::start(&[]).await;
    let address = broker.address();
    let refused = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", address)
            .set("transactional.id", "x")
            .create()
            .unwrap();
        producer
            .init_transactions(std::time::Duration::from_secs(60))
            .unwrap_err()
    });
    let refused = refused.await.unwrap();
    let code = refused.rdkafka_error_code();
    let expected = rdkafka::types::RDKafkaErrorCode::TransactionalIdAuthorizationFailed;
    assert_eq!(code, Some(expected), "{refused}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_of_a_partition_are_shown_and_no_transactions() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let mut batch = strandline_wire::batch::BatchBuilder::new(Compression::None);
    (batch.producer_id, batch.producer_epoch, batch.base_sequence) = (4711, 3, 0);
    for _ in 0..5 {
        batch.push(&RecordToWrite {
            timestamp: timestamp(0),
            value: Some(Bytes::from_static(b"v")),
            ..RecordToWrite::default()
        });
    }
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    let c = &mut connection;
    let answer = beside_kafka::produce_raw(c, "t", batch.build(), 30_000).await;
    assert_eq!(answer.error_code, 0);
    let topic = |name: &str, partitions: Vec<i32>| {
        TopicRequest::default()
            .with_name(m::TopicName(StrBytes::from_string(name.to_owned())))
            .with_partition_indexes(partitions)
    };
    let topics = vec![topic("t", vec![0, 1]), topic("absent", vec![0])];
    let request = m::DescribeProducersRequest::default().with_topics(topics);
    let answer: m::DescribeProducersResponse = c
        .call(ApiKey::DescribeProducers, 0, &request)
        .await
        .unwrap();
    let shown = &answer.topics[0].partitions[0];
    assert_eq!(shown.error_code, 0);
    let producer = &shown.active_producers[0];
    let seen = (producer.producer_id.0, producer.producer_epoch);
    assert_eq!((seen, producer.last_sequence), ((4711, 3), 4));
    assert_eq!(producer.last_timestamp, timestamp(0));
    assert_eq!(producer.current_txn_start_offset, -1);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(answer.topics[0].partitions[1].error_code, unknown);
    assert_eq!(answer.topics[1].partitions[0].error_code, unknown);
    let text = StrBytes::from_static_str;
    let states = vec![text("Ongoing"), text("Nonsense")];
    let request = m::ListTransactionsRequest::default().with_state_filters(states);
    let answer: m::ListTransactionsResponse =
        c.call(ApiKey::ListTransactions, 1, &request).await.unwrap();
    assert_eq!((answer.error_code, answer.transaction_states.len()), (0, 0));
    assert_eq!(answer.unknown_state_filters, [text("Nonsense")]);
    let ids = vec![m::TransactionalId(text("x"))];
    let request = m::DescribeTransactionsRequest::default().with_transactional_ids(ids);
    let answer: m::DescribeTransactionsResponse = c
        .call(ApiKey::DescribeTransactions, 0, &request)
        .await
        .unwrap();
    let code = answer.transaction_states[0].error_code;
    assert_eq!(code, ErrorCode::TransactionalIdNotFound.code());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_acls_say_that_security_is_off() {
    let mut broker = TestBroker::start(&[]).await;
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    let c = &mut connection;
    let off = ErrorCode::SecurityDisabled.code();
    let request = m::DescribeAclsRequest::default()
        .with_resource_type_filter(1)
        .with_operation(1)
        .with_permission_type(1);
    let answer: m::DescribeAclsResponse = c.call(ApiKey::DescribeAcls, 3, &request).await.unwrap();
    assert_eq!(answer.error_code, off);
    let creations = vec![AclCreation::default(); 2];
    let request = m::CreateAclsRequest::default().with_creations(creations);
    let answer: m::CreateAclsResponse = c.call(ApiKey::CreateAcls, 3, &request).await.unwrap();
    let codes: Vec<i16> = answer.results.iter().map(|r| r.error_code).collect();
    assert_eq!(codes, [off, off]);
    let filters = vec![DeleteAclsFilter::default()];
    let request = m::DeleteAclsRequest::default().with_filters(filters);
    let answer: m::DeleteAclsResponse = c.call(ApiKey::DeleteAcls, 3, &request).await.unwrap();
    assert_eq!(answer.filter_results[0].error_code, off);
    broker.stop().await;
}
