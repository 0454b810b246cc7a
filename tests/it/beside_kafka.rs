//! Answers in which Apache Kafka 4.3.1 differed when it was asked the same: topics, configurations, records, the cluster.

use kafka_protocol::messages as m;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use strandline_tests::topic_name;
use strandline_wire::ErrorCode;
use strandline_wire::batch::{BatchBuilder, BatchHeader, TimestampType, crc32c};

use super::*;

async fn connection(broker: &TestBroker) -> Connection {
    Connection::open(&broker.address()).await.unwrap()
}

/// Produces a batch unchanged to partition 0, with `acks=all`.
pub async fn produce_raw(
    connection: &mut Connection,
    topic: &str,
    batch: Bytes,
    timeout_ms: i32,
) -> PartitionProduceResponse {
    produce_with(connection, topic, batch, (-1, timeout_ms)).await
}

async fn produce_with(
    connection: &mut Connection,
    topic: &str,
    batch: Bytes,
    (acks, timeout_ms): (i16, i32),
) -> PartitionProduceResponse {
    let data = PartitionProduceData::default().with_records(Some(batch));
    let data = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![data]);
    let request = m::ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(timeout_ms)
        .with_topic_data(vec![data]);
    let mut answer: m::ProduceResponse =
        connection.call(ApiKey::Produce, 9, &request).await.unwrap();
    answer.responses.remove(0).partition_responses.remove(0)
}

fn batch(keys: &[Option<&'static str>], timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for key in keys {
        builder.push(&RecordToWrite {
            timestamp,
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            value: Some(Bytes::from_static(b"v")),
            ..RecordToWrite::default()
        });
    }
    builder.build()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_names_every_bad_record() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    let compact = [("cleanup.policy", "compact")];
    client.create_topic("compact", 1, &compact).await.unwrap();
    client.create_topic("times", 1, &[]).await.unwrap();
    let mut connection = connection(&broker).await;
    let keys = [Some("a"), None, Some("b"), None, None];
    let bad = batch(&keys, timestamp(0));
    let answer = produce_raw(&mut connection, "compact", bad, 30_000).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidRecord.code());
    let named: Vec<i32> = answer.record_errors.iter().map(|e| e.batch_index).collect();
    assert_eq!(named, [1, 3, 4]);
    let far = timestamp(0) + 30 * 86_400_000;
    let bad = batch(&[Some("a"), Some("b")], far);
    let answer = produce_raw(&mut connection, "times", bad, 30_000).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidTimestamp.code());
    let named: Vec<i32> = answer.record_errors.iter().map(|e| e.batch_index).collect();
    assert_eq!(named, [0, 1]);
    assert_eq!(client.list_offset("compact", 0, LATEST).await.unwrap(), 0);
    assert_eq!(client.list_offset("times", 0, LATEST).await.unwrap(), 0);
    broker.stop().await;
}

/// As at one replica of Kafka, where an append is committed when it is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_with_a_time_out_of_zero_is_no_failure() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let mut connection = connection(&broker).await;
    for offset in 0..50 {
        let one = batch(&[Some("a")], timestamp(0));
        let answer = produce_raw(&mut connection, "t", one, 0).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, offset));
    }
    broker.stop().await;
}

/// In Kafka an append on one replica is committed when it is answered, whatever the `acks`.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_covers_what_one_acknowledgement_has_answered() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let mut connection = connection(&broker).await;
    for offset in 0..200 {
        let one = batch(&[Some("a")], timestamp(0));
        let answer = produce_with(&mut connection, "t", one, (1, 30_000)).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, offset));
        let end = client.list_offset("t", 0, LATEST).await.unwrap();
        assert_eq!(end, offset + 1, "the client does not find its own record");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_to_be_stamped_is_corrected_where_time_is_checked() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("created", 1, &[]).await.unwrap();
    let stamps = [("message.timestamp.type", "LogAppendTime")];
    client.create_topic("stamped", 1, &stamps).await.unwrap();
    let mut connection = connection(&broker).await;
    let mut claims = batch(&[Some("a")], timestamp(0)).to_vec();
    claims[22] |= 8;
    let crc = crc32c(&claims[21..]);
    claims[17..21].copy_from_slice(&crc.to_be_bytes());
    let claims = Bytes::from(claims);
    let answer = produce_raw(&mut connection, "created", claims.clone(), 30_000).await;
    assert_eq!(answer.error_code, 0);
    let log = broker.path().join("log/created-0/00000000000000000000.log");
    let header = BatchHeader::decode(&std::fs::read(log).unwrap()).unwrap();
    assert_eq!(header.timestamp_type(), TimestampType::CreateTime);
    assert_eq!(header.max_timestamp, timestamp(0));
    let answer = produce_raw(&mut connection, "stamped", claims, 30_000).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidTimestamp.code());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_by_id_ignores_names() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let mut connection = connection(&broker).await;
    let id = topic_id(&mut connection, "t").await;
    // Kafka's AdminClient sends the empty name.
    for given in [Some(topic_name("")), Some(topic_name("another")), None] {
        let topic = MetadataRequestTopic::default()
            .with_topic_id(id)
            .with_name(given);
        let request = m::MetadataRequest::default().with_topics(Some(vec![topic]));
        let answer: m::MetadataResponse = connection
            .call(ApiKey::Metadata, 12, &request)
            .await
            .unwrap();
        assert_eq!(answer.topics[0].error_code, 0);
        assert_eq!(answer.topics[0].name, Some(topic_name("t")));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_beside_an_id_deletes_neither_topic() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("kept", 1, &[]).await.unwrap();
    client.create_topic("other", 1, &[]).await.unwrap();
    let mut connection = connection(&broker).await;
    let other = topic_id(&mut connection, "other").await;
    let both = DeleteTopicState::default()
        .with_name(Some(topic_name("kept")))
        .with_topic_id(other);
    let request = m::DeleteTopicsRequest::default()
        .with_topics(vec![both])
        .with_timeout_ms(30_000);
    let answer: m::DeleteTopicsResponse = connection
        .call(ApiKey::DeleteTopics, 6, &request)
        .await
        .unwrap();
    let code = answer.responses[0].error_code;
    assert_eq!(code, ErrorCode::InvalidRequest.code());
    topic_id(&mut connection, "kept").await;
    topic_id(&mut connection, "other").await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_assigned_twice_makes_no_topic() {
    let mut broker = TestBroker::start(&[]).await;
    let mut connection = connection(&broker).await;
    let assigned = |partition| {
        CreatableReplicaAssignment::default()
            .with_partition_index(partition)
            .with_broker_ids(vec![m::BrokerId(1)])
    };
    for (topic, partitions, code) in [
        ("twice", vec![0, 0], ErrorCode::InvalidReplicaAssignment),
        ("once", vec![0, 1], ErrorCode::None),
    ] {
        let topic = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(partitions.into_iter().map(assigned).collect());
        let request = m::CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        let answer: m::CreateTopicsResponse = connection
            .call(ApiKey::CreateTopics, 7, &request)
            .await
            .unwrap();
        assert_eq!(answer.topics[0].error_code, code.code());
        // Null where nothing is wrong, as in Kafka.
        let text = answer.topics[0].error_message.is_some();
        assert_eq!(text, code != ErrorCode::None);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_of_keys_asks_for_every_configuration() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let mut connection = connection(&broker).await;
    let mut counts = Vec::new();
    for (kind, resource) in [(2, "t"), (4, "1")] {
        for keys in [None, Some(Vec::new())] {
            let resource = DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(StrBytes::from_static_str(resource))
                .with_configuration_keys(keys);
            let request = m::DescribeConfigsRequest::default().with_resources(vec![resource]);
            let answer: m::DescribeConfigsResponse = connection
                .call(ApiKey::DescribeConfigs, 4, &request)
                .await
                .unwrap();
            counts.push(answer.results[0].configs.len());
        }
    }
    assert!(counts[0] > 30 && counts[2] > 300, "{counts:?}");
    assert_eq!((counts[0], counts[2]), (counts[1], counts[3]));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_throttled_replicas_that_is_none_is_refused() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    for key in [
        "leader.replication.throttled.replicas",
        "follower.replication.throttled.replicas",
    ] {
        for (value, legal) in [("x", false), ("0-1", false), ("*", true), ("0:1,1:1", true)] {
            let topic = format!("{}{}", &key[..3], value.len());
            let made = client.create_topic(&topic, 1, &[(key, value)]).await;
            assert_eq!(made.is_ok(), legal, "{key}={value}");
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_epoch_has_no_end() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    produce(&mut client, "t", 10, 10).await;
    let mut connection = connection(&broker).await;
    let partition = OffsetForLeaderPartition::default()
        .with_partition(0)
        .with_current_leader_epoch(-1)
        .with_leader_epoch(-1);
    let topic = OffsetForLeaderTopic::default()
        .with_topic(topic_name("t"))
        .with_partitions(vec![partition]);
    let request = m::OffsetForLeaderEpochRequest::default()
        .with_replica_id(m::BrokerId(-2))
        .with_topics(vec![topic]);
    let answer: m::OffsetForLeaderEpochResponse = connection
        .call(ApiKey::OffsetForLeaderEpoch, 4, &request)
        .await
        .unwrap();
    let found = &answer.topics[0].partitions[0];
    let found = (found.error_code, found.leader_epoch, found.end_offset);
    assert_eq!(found, (0, -1, -1));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_answers_with_kafkas_codes() {
    let mut broker = TestBroker::start(&[]).await;
    let mut connection = connection(&broker).await;
    for (kind, code) in [
        (1, ErrorCode::None),
        (2, ErrorCode::MismatchedEndpointType),
        (3, ErrorCode::UnsupportedEndpointType),
    ] {
        let request = m::DescribeClusterRequest::default().with_endpoint_type(kind);
        let answer: m::DescribeClusterResponse = connection
            .call(ApiKey::DescribeCluster, 2, &request)
            .await
            .unwrap();
        assert_eq!(answer.error_code, code.code());
    }
    let request = m::ListConfigResourcesRequest::default().with_resource_types(vec![2, 0]);
    let answer: m::ListConfigResourcesResponse = connection
        .call(ApiKey::ListConfigResources, 1, &request)
        .await
        .unwrap();
    assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.code());
    let feature = FeatureUpdateKey::default()
        .with_feature(StrBytes::from_static_str("metadata.version"))
        .with_max_version_level(30);
    let request = m::UpdateFeaturesRequest::default().with_feature_updates(vec![feature]);
    let answer: m::UpdateFeaturesResponse = connection
        .call(ApiKey::UpdateFeatures, 2, &request)
        .await
        .unwrap();
    assert_eq!((answer.error_code, answer.error_message), (0, None));
    broker.stop().await;
}
