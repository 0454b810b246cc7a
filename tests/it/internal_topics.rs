//! Internal topics belong to brokers: requests of clients that could harm them are refused, and groups stay as they
//! are.

use kafka_protocol::messages as m;
use kafka_protocol::messages::GroupId;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use strandline_client::{ClientError, Connection};
use strandline_tests::{TestBroker, commit_of, topic_name};
use strandline_wire::{ApiKey, ErrorCode, StrBytes};

use super::*;

const OFFSETS: &str = "__consumer_offsets";
const TRANSACTIONS: &str = "__transaction_state";

fn group() -> GroupId {
    GroupId(StrBytes::from_static_str("g"))
}

/// Commits a position of the group, which makes the offsets topic and the group.
async fn commit(connection: &mut Connection, offset: i64) {
    let request = commit_of("g", "t", offset);
    let connection = tokio::sync::Mutex::new(connection);
    eventually("the coordinator is there", || async {
        let mut connection = connection.lock().await;
        let find = m::FindCoordinatorRequest::default().with_coordinator_keys(vec![group().0]);
        let _: m::FindCoordinatorResponse = connection
            .call(ApiKey::FindCoordinator, 6, &find)
            .await
            .unwrap();
        let response: m::OffsetCommitResponse = connection
            .call(ApiKey::OffsetCommit, 9, &request)
            .await
            .unwrap();
        (response.topics[0].partitions[0].error_code == 0).then_some(())
    })
    .await;
}

async fn committed(connection: &mut Connection) -> i64 {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![0]);
    let asked = OffsetFetchRequestGroup::default()
        .with_group_id(group())
        .with_topics(Some(vec![topic]));
    let request = m::OffsetFetchRequest::default().with_groups(vec![asked]);
    let connection = tokio::sync::Mutex::new(connection);
    eventually("the coordinator has loaded the group", || async {
        let mut connection = connection.lock().await;
        let response: m::OffsetFetchResponse = connection
            .call(ApiKey::OffsetFetch, 9, &request)
            .await
            .unwrap();
        let group = &response.groups[0];
        (group.error_code == 0).then(|| group.topics[0].partitions[0].committed_offset)
    })
    .await
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap()
}

async fn create_partitions(connection: &mut Connection, topic: &str, count: i32) -> ErrorCode {
    let topic = CreatePartitionsTopic::default()
        .with_name(topic_name(topic))
        .with_count(count)
        .with_assignments(None);
    let request = m::CreatePartitionsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(vec![topic]);
    let response: m::CreatePartitionsResponse = connection
        .call(ApiKey::CreatePartitions, 3, &request)
        .await
        .unwrap();
    code(response.results[0].error_code)
}

async fn delete(connection: &mut Connection, topic: &str) -> ErrorCode {
    let request = m::DeleteTopicsRequest::default()
        .with_timeout_ms(30_000)
        .with_topic_names(vec![topic_name(topic)]);
    let response: m::DeleteTopicsResponse = connection
        .call(ApiKey::DeleteTopics, 5, &request)
        .await
        .unwrap();
    code(response.responses[0].error_code)
}

async fn create(connection: &mut Connection, topic: &str) -> ErrorCode {
    let topic = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let request = m::CreateTopicsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(vec![topic]);
    let response: m::CreateTopicsResponse = connection
        .call(ApiKey::CreateTopics, 5, &request)
        .await
        .unwrap();
    code(response.topics[0].error_code)
}

async fn delete_records(connection: &mut Connection, topic: &str) -> ErrorCode {
    let partition = DeleteRecordsPartition::default().with_offset(-1);
    let topic = DeleteRecordsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let request = m::DeleteRecordsRequest::default()
        .with_timeout_ms(30_000)
        .with_topics(vec![topic]);
    let response: m::DeleteRecordsResponse = connection
        .call(ApiKey::DeleteRecords, 2, &request)
        .await
        .unwrap();
    code(response.topics[0].partitions[0].error_code)
}

async fn set_config(connection: &mut Connection, topic: &str, key: &str, value: &str) -> ErrorCode {
    let change = AlterableConfig::default()
        .with_name(key.to_owned().into())
        .with_value(Some(value.to_owned().into()));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(topic.to_owned().into())
        .with_configs(vec![change]);
    let request = m::IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let response: m::IncrementalAlterConfigsResponse = connection
        .call(ApiKey::IncrementalAlterConfigs, 1, &request)
        .await
        .unwrap();
    code(response.responses[0].error_code)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_cannot_forge_commits_nor_move_delete_or_thin_the_topics_of_coordinators() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    commit(&mut connection, 42).await;
    let before = client.partition_count(OFFSETS).await.unwrap();

    // A forged commit, as the record that the coordinator itself writes, to every partition.
    let forged = strandline_coordinator::CoordinatorRecord::Offset {
        group: "g".into(),
        partition: strandline_types::TopicPartition::new("t", 0),
        value: None,
    };
    let (key, value) = forged.encode();
    let record = RecordToWrite {
        timestamp: timestamp(0),
        key: Some(key),
        value,
        ..RecordToWrite::default()
    };
    for partition in 0..before {
        let records = [record.clone()];
        let refused = client
            .produce(OFFSETS, partition, Compression::None, &records)
            .await;
        let invalid = matches!(
            refused,
            Err(ClientError::Broker {
                code: ErrorCode::InvalidTopicException,
                ..
            })
        );
        assert!(invalid, "{refused:?}");
    }
    let invalid = ErrorCode::InvalidTopicException;
    assert_eq!(
        create_partitions(&mut connection, OFFSETS, before + 2).await,
        invalid
    );
    assert_eq!(delete(&mut connection, OFFSETS).await, invalid);
    assert_eq!(create(&mut connection, TRANSACTIONS).await, invalid);
    assert_eq!(delete_records(&mut connection, OFFSETS).await, invalid);
    for (key, value) in [
        ("cleanup.policy", "delete"),
        ("remote.storage.enable", "true"),
    ] {
        let refused = set_config(&mut connection, OFFSETS, key, value).await;
        assert_eq!(refused, ErrorCode::InvalidConfig, "{key}");
    }
    // Harmless changes are allowed, and ordinary topics are not restricted.
    let allowed = set_config(&mut connection, OFFSETS, "segment.bytes", "1048576").await;
    assert_eq!(allowed, ErrorCode::None);
    assert_eq!(
        create_partitions(&mut connection, "t", 2).await,
        ErrorCode::None
    );

    assert_eq!(client.partition_count(OFFSETS).await.unwrap(), before);
    assert_eq!(committed(&mut connection).await, 42);
    broker.stop().await;
    broker.resume().await;
    let mut connection = Connection::open(&broker.address()).await.unwrap();
    assert_eq!(committed(&mut connection).await, 42, "from the log as well");
    broker.stop().await;
}
