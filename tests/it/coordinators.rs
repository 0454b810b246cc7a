//! Coordinators that cannot read their log for a while.

use std::os::unix::fs::FileExt;

use kafka_protocol::messages as m;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use strandline_client::Connection;
use strandline_tests::{TestBroker, commit_of, eventually, topic_name};
use strandline_wire::{ApiKey, ErrorCode, StrBytes};

fn group() -> m::GroupId {
    m::GroupId(StrBytes::from_static_str("g"))
}

async fn commit(address: &str, offset: i64) -> i16 {
    let mut connection = Connection::open(address).await.unwrap();
    let request = commit_of("g", "t", offset);
    let answer: m::OffsetCommitResponse = connection
        .call(ApiKey::OffsetCommit, 2, &request)
        .await
        .unwrap();
    answer.topics[0].partitions[0].error_code
}

/// The error and the position of the group.
async fn position(address: &str) -> (i16, i64) {
    let mut connection = Connection::open(address).await.unwrap();
    let topic = OffsetFetchRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![0]);
    let request = m::OffsetFetchRequest::default()
        .with_group_id(group())
        .with_topics(Some(vec![topic]));
    let answer: m::OffsetFetchResponse = connection
        .call(ApiKey::OffsetFetch, 2, &request)
        .await
        .unwrap();
    let partition = answer.topics.first().map(|t| &t.partitions[0]);
    (
        answer.error_code,
        partition.map_or(-1, |p| p.committed_offset),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_whose_log_could_not_be_read_serves_when_it_can() {
    let mut broker = TestBroker::start(&[("offsets.topic.num.partitions", "1")]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &[]).await.unwrap();
    eventually("the coordinator is there", || async {
        let mut connection = Connection::open(&broker.address()).await.unwrap();
        let key = StrBytes::from_static_str("g");
        let request = m::FindCoordinatorRequest::default().with_key(key);
        let found: m::FindCoordinatorResponse = connection
            .call(ApiKey::FindCoordinator, 2, &request)
            .await
            .unwrap();
        let there = found.error_code == 0 && commit(&broker.address(), 7).await == 0;
        there.then_some(())
    })
    .await;
    assert_eq!(position(&broker.address()).await, (0, 7));
    broker.stop().await;
    // One byte of the first batch's records is another one for a while.
    let log = broker
        .path()
        .join("log/__consumer_offsets-0/00000000000000000000.log");
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&log)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 65).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 65).unwrap();
    broker.resume().await;
    let address = broker.address();
    eventually(
        "requests are refused while the log cannot be read",
        || async {
            let (error, _) = position(&address).await;
            (error == ErrorCode::CoordinatorLoadInProgress.code()).then_some(())
        },
    )
    .await;
    file.write_all_at(&byte, 65).unwrap();
    let found = eventually("the group is served again", || async {
        let (error, offset) = position(&address).await;
        (error == 0).then_some(offset)
    })
    .await;
    assert_eq!(found, 7);
    assert_eq!(commit(&address, 8).await, 0);
    assert_eq!(position(&address).await, (0, 8));
    broker.stop().await;
}
