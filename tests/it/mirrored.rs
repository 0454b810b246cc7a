//! Positions of groups in a mirror of their topics.

use std::sync::Arc;

use kafka_protocol::messages as m;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use strandline_client::{
    Client, ClientError, ClientOptions, Cluster, Connection, Key, Mirrored, mirrored_position,
};
use strandline_tests::TestBroker;
use strandline_wire::batch::RecordToWrite;
use strandline_wire::compression::Compression;
use strandline_wire::{ApiKey, StrBytes};

/// Every three consecutive records share a timestamp, and every two share a value.
fn record(number: usize) -> RecordToWrite {
    RecordToWrite {
        timestamp: super::timestamp(number / 3),
        value: Some(format!("value {}", number / 2).into()),
        ..RecordToWrite::default()
    }
}

async fn append(client: &mut Client, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let one = [record(number)];
        let produced = client.produce("t", 0, Compression::None, &one).await;
        produced.unwrap();
    }
}

async fn delete_before(address: &str, offset: i64) {
    let partition = DeleteRecordsPartition::default()
        .with_partition_index(0)
        .with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(m::TopicName(StrBytes::from_static_str("t")))
        .with_partitions(vec![partition]);
    let request = m::DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000);
    let mut connection = Connection::open(address).await.unwrap();
    let answer: m::DeleteRecordsResponse = connection
        .call(ApiKey::DeleteRecords, 2, &request)
        .await
        .unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
}

struct Pair {
    sides: [TestBroker; 2],
    clusters: [Arc<Cluster>; 2],
}

impl Pair {
    async fn start() -> Self {
        let sides = [TestBroker::start(&[]).await, TestBroker::start(&[]).await];
        let clusters = sides
            .each_ref()
            .map(|side| Cluster::new(&side.address(), ClientOptions::default()));
        for side in &sides {
            let mut client = side.client().await;
            client.create_topic("t", 1, &[]).await.unwrap();
        }
        Self { sides, clusters }
    }

    async fn position(&self, offset: i64) -> Result<Mirrored, ClientError> {
        let key: Key = ("t".into(), 0);
        let [from, to] = &self.clusters;
        mirrored_position(from, &key, offset, to, &key).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_is_found_by_its_record_though_others_are_like_it() {
    let pair = Pair::start().await;
    let mut source = pair.sides[0].client().await;
    append(&mut source, 0..60).await;
    delete_before(&pair.sides[0].address(), 20).await;
    // The mirror began later and is not yet at the end.
    let mut mirror = pair.sides[1].client().await;
    append(&mut mirror, 20..50).await;
    for offset in 20..=50 {
        let found = pair.position(offset).await.unwrap();
        assert_eq!(found, Mirrored::At(offset - 20), "of {offset}");
    }
    // The source has deleted the record at offset 3: the position becomes the first record that still exists.
    assert_eq!(pair.position(3).await.unwrap(), Mirrored::At(0));
    for offset in 51..=60 {
        assert_eq!(pair.position(offset).await.unwrap(), Mirrored::NotThere);
    }
    append(&mut mirror, 50..60).await;
    assert_eq!(pair.position(60).await.unwrap(), Mirrored::At(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_look_a_position_up_by_is_said() {
    let pair = Pair::start().await;
    assert_eq!(pair.position(0).await.unwrap(), Mirrored::At(0));
    for side in &pair.sides {
        append(&mut side.client().await, 0..10).await;
    }
    delete_before(&pair.sides[0].address(), 10).await;
    assert_eq!(pair.position(10).await.unwrap(), Mirrored::NothingLeft);
    let [from, to] = &pair.clusters;
    let absent: Key = ("absent".into(), 0);
    let failed = mirrored_position(from, &("t".into(), 0), 10, to, &absent).await;
    assert!(failed.unwrap_err().code().is_some());
}
