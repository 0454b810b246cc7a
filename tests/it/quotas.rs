//! Quotas of clients: answered at once with the time to wait, and not read from for as long.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages as m;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use strandline_client::Connection;
use strandline_tests::TestBroker;
use strandline_wire::batch::{BatchBuilder, RecordToWrite};
use strandline_wire::compression::Compression;
use strandline_wire::{ApiKey, ErrorCode, text};

const RATE: f64 = 100_000.0;

async fn limit_every_client(connection: &mut Connection, key: &str, rate: Option<f64>) {
    let owner = EntityData::default()
        .with_entity_type(text("client-id"))
        .with_entity_name(None);
    let op = OpData::default()
        .with_key(text(key))
        .with_value(rate.unwrap_or(0.0))
        .with_remove(rate.is_none());
    let entry = EntryData::default()
        .with_entity(vec![owner])
        .with_ops(vec![op]);
    let request = m::AlterClientQuotasRequest::default().with_entries(vec![entry]);
    let answer: m::AlterClientQuotasResponse = connection
        .call(ApiKey::AlterClientQuotas, 1, &request)
        .await
        .unwrap();
    assert_eq!(answer.entries[0].error_code, 0, "{answer:?}");
}

async fn produce(connection: &mut Connection, bytes: usize) -> Duration {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(&RecordToWrite {
        value: Some(Bytes::from(vec![7; bytes])),
        ..RecordToWrite::default()
    });
    let data = PartitionProduceData::default()
        .with_index(0)
        .with_records(Some(builder.build()));
    let topic = TopicProduceData::default()
        .with_name(m::TopicName(text("t")))
        .with_partition_data(vec![data]);
    let request = m::ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    let answer: m::ProduceResponse = connection.call(ApiKey::Produce, 9, &request).await.unwrap();
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, 0, "{answer:?}");
    Duration::from_millis(answer.throttle_time_ms as u64)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_overdraws_a_quota_is_told_at_once_and_not_read_from_for_a_while() {
    let mut broker = TestBroker::start(&[
        ("quota.window.num", "3"),
        ("controller.quota.window.num", "3"),
    ])
    .await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let mut admin = Connection::open(&broker.address()).await.unwrap();
    let mut limited = Connection::open(&broker.address()).await.unwrap();
    assert_eq!(produce(&mut limited, 500_000).await, Duration::ZERO);

    limit_every_client(&mut admin, "producer_byte_rate", Some(RATE)).await;
    // Two windows' worth may be used at once.
    assert_eq!(produce(&mut limited, 150_000).await, Duration::ZERO);
    // Eight seconds' worth too much: the longest wait is what all windows last.
    let began = Instant::now();
    let wait = produce(&mut limited, 900_000).await;
    assert!(began.elapsed() < wait, "the answer does not wait");
    assert_eq!(wait, Duration::from_secs(3));
    produce(&mut limited, 10).await;
    assert!(began.elapsed() >= wait, "{:?}", began.elapsed());

    // A quota that is removed stops counting at once.
    limit_every_client(&mut admin, "producer_byte_rate", None).await;
    limit_every_client(&mut admin, "consumer_byte_rate", Some(RATE)).await;
    assert_eq!(produce(&mut admin, 900_000).await, Duration::ZERO);
    // 1.5 MB: two windows' worth come at once, the rest is waited for before more is read.
    let mut reader = broker.client().await;
    let began = Instant::now();
    let mut offset = 0;
    while offset < 3 {
        let records = reader
            .fetch("t", 0, offset, 200_000, Duration::from_secs(1))
            .await
            .unwrap();
        offset += records.len() as i64;
    }
    assert!(
        began.elapsed() > Duration::from_secs(3),
        "{:?} for 650 kB at 100 kB/s with 200 kB in advance, and what comes behind them",
        began.elapsed()
    );
    limit_every_client(&mut admin, "consumer_byte_rate", None).await;

    // Two partitions may be made at once; more are too many, and the next topic is refused.
    limit_every_client(&mut admin, "controller_mutation_rate", Some(1.0)).await;
    let (code, wait) = create(&mut admin, "first", 12).await;
    assert_eq!(code, ErrorCode::None.code());
    assert_eq!(wait, Duration::from_secs(3));
    let mut other = Connection::open(&broker.address()).await.unwrap();
    let (code, _) = create(&mut other, "second", 1).await;
    assert_eq!(code, ErrorCode::ThrottlingQuotaExceeded.code());
    limit_every_client(&mut admin, "controller_mutation_rate", None).await;

    // A hundredth of a percent: a tenth of a millisecond in each second.
    assert_eq!(ask(&mut other).await, Duration::ZERO);
    limit_every_client(&mut admin, "request_percentage", Some(0.01)).await;
    let (mut began, mut wait) = (Instant::now(), Duration::ZERO);
    for _ in 0..10_000 {
        began = Instant::now();
        wait = ask(&mut other).await;
        if !wait.is_zero() {
            break;
        }
    }
    assert!(
        !wait.is_zero(),
        "ten thousand requests take longer than that"
    );
    ask(&mut other).await;
    assert!(began.elapsed() >= wait, "{:?}", began.elapsed());
    limit_every_client(&mut admin, "request_percentage", None).await;
    broker.stop().await;
}

async fn ask(connection: &mut Connection) -> Duration {
    let request = m::DescribeClusterRequest::default();
    let answer: m::DescribeClusterResponse = connection
        .call(ApiKey::DescribeCluster, 1, &request)
        .await
        .unwrap();
    Duration::from_millis(answer.throttle_time_ms as u64)
}

async fn create(connection: &mut Connection, name: &str, partitions: i32) -> (i16, Duration) {
    let topic = CreatableTopic::default()
        .with_name(m::TopicName(text(name)))
        .with_num_partitions(partitions)
        .with_replication_factor(1);
    let request = m::CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let answer: m::CreateTopicsResponse = connection
        .call(ApiKey::CreateTopics, 7, &request)
        .await
        .unwrap();
    let wait = Duration::from_millis(answer.throttle_time_ms as u64);
    (answer.topics[0].error_code, wait)
}
