//! Kafka ignores bytes behind a request's last field. Clients send such bytes: librdkafka from 2.12 on in every
//! Metadata request for all topics.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages as m;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{RequestHeader, RequestKind, TopicName};
use kafka_protocol::protocol::Encodable;
use strandline_tests::TestBroker;
use strandline_wire::ApiKey;
use strandline_wire::api::{SUPPORTED, codec_version};
use strandline_wire::batch::BatchBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::*;

macro_rules! default_requests {
    ($key:expr, $($name:ident $request:ident,)*) => {
        match $key {
            $(ApiKey::$name => RequestKind::$name(m::$request::default()),)*
            other => panic!("{other:?} is answered and has no request here"),
        }
    };
}

/// A request of every API that is answered; none of them changes what another one is answered.
fn request(key: ApiKey, version: i16, topic: Uuid) -> RequestKind {
    let name = TopicName("t".to_owned().into());
    let mut request = default_requests!(
        key,
        Produce ProduceRequest,
        Fetch FetchRequest,
        ListOffsets ListOffsetsRequest,
        Metadata MetadataRequest,
        OffsetCommit OffsetCommitRequest,
        OffsetFetch OffsetFetchRequest,
        FindCoordinator FindCoordinatorRequest,
        JoinGroup JoinGroupRequest,
        Heartbeat HeartbeatRequest,
        LeaveGroup LeaveGroupRequest,
        SyncGroup SyncGroupRequest,
        DescribeGroups DescribeGroupsRequest,
        ListGroups ListGroupsRequest,
        ApiVersions ApiVersionsRequest,
        CreateTopics CreateTopicsRequest,
        DeleteTopics DeleteTopicsRequest,
        DeleteRecords DeleteRecordsRequest,
        InitProducerId InitProducerIdRequest,
        OffsetForLeaderEpoch OffsetForLeaderEpochRequest,
        DescribeConfigs DescribeConfigsRequest,
        AlterConfigs AlterConfigsRequest,
        AlterReplicaLogDirs AlterReplicaLogDirsRequest,
        DescribeLogDirs DescribeLogDirsRequest,
        CreatePartitions CreatePartitionsRequest,
        DeleteGroups DeleteGroupsRequest,
        ElectLeaders ElectLeadersRequest,
        IncrementalAlterConfigs IncrementalAlterConfigsRequest,
        AlterPartitionReassignments AlterPartitionReassignmentsRequest,
        ListPartitionReassignments ListPartitionReassignmentsRequest,
        OffsetDelete OffsetDeleteRequest,
        DescribeClientQuotas DescribeClientQuotasRequest,
        AlterClientQuotas AlterClientQuotasRequest,
        DescribeUserScramCredentials DescribeUserScramCredentialsRequest,
        DescribeQuorum DescribeQuorumRequest,
        UpdateFeatures UpdateFeaturesRequest,
        DescribeCluster DescribeClusterRequest,
        UnregisterBroker UnregisterBrokerRequest,
        ListConfigResources ListConfigResourcesRequest,
        DescribeTopicPartitions DescribeTopicPartitionsRequest,
        AddRaftVoter AddRaftVoterRequest,
        RemoveRaftVoter RemoveRaftVoterRequest,
        DescribeAcls DescribeAclsRequest,
        CreateAcls CreateAclsRequest,
        DeleteAcls DeleteAclsRequest,
        DescribeProducers DescribeProducersRequest,
        DescribeTransactions DescribeTransactionsRequest,
        ListTransactions ListTransactionsRequest,
    );
    match &mut request {
        RequestKind::Produce(produce) => {
            let mut batch = BatchBuilder::new(Compression::None);
            batch.push(&RecordToWrite {
                timestamp: timestamp(0),
                value: Some("v".into()),
                ..RecordToWrite::default()
            });
            produce.acks = -1;
            produce.timeout_ms = 30_000;
            let data = PartitionProduceData::default().with_records(Some(batch.build()));
            let data = TopicProduceData::default().with_partition_data(vec![data]);
            produce.topic_data = vec![if version >= 13 {
                data.with_topic_id(topic)
            } else {
                data.with_name(name)
            }];
        }
        RequestKind::Fetch(fetch) => {
            fetch.max_bytes = 1 << 20;
            let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
            let data = FetchTopic::default().with_partitions(vec![partition]);
            fetch.topics = vec![if version >= 13 {
                data.with_topic_id(topic)
            } else {
                data.with_topic(name)
            }];
        }
        // All topics: what librdkafka asks for.
        RequestKind::Metadata(metadata) => metadata.topics = (version == 0).then(Vec::new),
        RequestKind::AddRaftVoter(add) => add.cluster_id = Some("another".to_owned().into()),
        RequestKind::RemoveRaftVoter(remove) => {
            remove.cluster_id = Some("another".to_owned().into());
        }
        RequestKind::UnregisterBroker(unregister) => unregister.broker_id = m::BrokerId(999),
        _ => {}
    }
    request
}

fn frame(key: ApiKey, version: i16, request: &RequestKind, behind: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i32(0);
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some("c".to_owned().into()));
    let header_version = key.request_header_version(version);
    header.encode(&mut out, header_version).unwrap();
    request
        .encode(&mut out, codec_version(key, version))
        .unwrap();
    out.put_slice(behind);
    let length = out.len() as i32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}

/// The answer to a frame, or why there is none.
async fn ask(stream: &mut TcpStream, frame: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    stream.write_all(frame).await?;
    let length = stream.read_i32().await?;
    let mut answer = vec![0; length as usize];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Answers that are new each time: a producer id, offsets, free bytes of a disk.
fn is_new_each_time(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::Produce | ApiKey::InitProducerId | ApiKey::DescribeLogDirs
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_after_the_last_field_change_no_answer_of_any_api_and_version() {
    let mut broker = TestBroker::start(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    let opened = strandline_client::Connection::open(&broker.address()).await;
    let topic = topic_id(&mut opened.unwrap(), "t").await;
    produce(&mut client, "t", 10, 50).await;
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    let mut produced = 10;
    for api in SUPPORTED {
        for version in api.min..=api.max {
            let request = request(api.key, version, topic);
            let plain = frame(api.key, version, &request, &[]);
            let plain = ask(&mut stream, &plain).await.unwrap();
            for behind in [&[0][..], &[0, 0, 0], &[0xff; 40]] {
                let what = format!("{:?} version {version}, {behind:?} behind it", api.key);
                let longer = frame(api.key, version, &request, behind);
                let answer = ask(&mut stream, &longer).await;
                let answer = answer.unwrap_or_else(|e| panic!("{what}: no answer, {e}"));
                if is_new_each_time(api.key) {
                    assert_eq!(answer.len(), plain.len(), "{what}");
                } else {
                    assert_eq!(answer, plain, "{what}");
                }
            }
            if api.key == ApiKey::Produce {
                produced += 4;
                let end = client.list_offset("t", 0, LATEST).await.unwrap();
                assert_eq!(
                    end, produced,
                    "version {version}: every batch is in the log"
                );
            }
        }
    }
    broker.stop().await;
}
