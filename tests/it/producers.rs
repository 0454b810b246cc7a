//! Idempotent producers that went silent are forgotten, on every replica and in either tier, after a restart too.

use std::path::Path;

use kafka_protocol::messages as m;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use strandline_client::{Client, Connection};
use strandline_log::{ProducerState, read_snapshot};
use strandline_tests::{TestBroker, TestCluster, eventually};
use strandline_wire::batch::{BatchBuilder, RecordToWrite};
use strandline_wire::compression::Compression;
use strandline_wire::{ApiKey, text};

use crate::{TIERED, timestamp};

const EXPIRATION: [(&str, &str); 2] = [
    ("producer.id.expiration.ms", "1000"),
    ("log.retention.check.interval.ms", "50"),
];
/// Larger than a segment may be: each of them is alone in its segment.
const ALONE: usize = 15_000;

/// One record of `t` from the idempotent producer 7, an hour old.
async fn produce_as_seven(connection: &mut Connection) {
    let mut builder = BatchBuilder::new(Compression::None);
    (
        builder.producer_id,
        builder.producer_epoch,
        builder.base_sequence,
    ) = (7, 0, 0);
    builder.push(&RecordToWrite {
        timestamp: timestamp(0),
        value: Some("seven".into()),
        ..RecordToWrite::default()
    });
    let data = PartitionProduceData::default().with_records(Some(builder.build()));
    let topic = TopicProduceData::default()
        .with_name(m::TopicName(text("t")))
        .with_partition_data(vec![data]);
    let request = m::ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic]);
    let answer: m::ProduceResponse = connection.call(ApiKey::Produce, 9, &request).await.unwrap();
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
}

/// Writes one record without a producer id. The write rolls the segment, so the previous segment gets a snapshot of the
/// producers.
async fn seal(client: &mut Client) {
    let record = RecordToWrite {
        timestamp: timestamp(1),
        value: Some(vec![1; ALONE].into()),
        ..RecordToWrite::default()
    };
    client
        .produce("t", 0, Compression::None, &[record])
        .await
        .unwrap();
}

/// The newest snapshot of the producers of `t-0`.
fn newest_snapshot(data: &Path) -> Option<ProducerState> {
    let entries = std::fs::read_dir(data.join("log").join("t-0")).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let newest = paths
        .filter(|path| path.extension().is_some_and(|e| e == "snapshot"))
        .max()?;
    read_snapshot(&newest)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_forgets_a_silent_producer() {
    let mut cluster = TestCluster::start(3, &EXPIRATION).await;
    let mut client = cluster.client(1).await;
    let configs = [("internal.segment.bytes", "20000"), ("retention.ms", "-1")];
    client.create_topic("t", 1, &configs).await.unwrap();
    let led = cluster
        .wait_for("t", "all are in sync", |p| p.isr.len() == 3)
        .await;
    produce_as_seven(&mut cluster.connection(led.leader).await).await;
    // The brokers come back with all records, and must expire the producers on their own.
    cluster.stop_all().await;
    cluster.resume_together(&cluster.ids()).await;
    cluster
        .wait_for("t", "all are in sync again", |p| p.isr.len() == 3)
        .await;
    for id in cluster.ids() {
        eventually("the producer is forgotten", || async {
            let leader = cluster.partition("t", 0).await?.leader;
            seal(&mut cluster.client(leader).await).await;
            newest_snapshot(cluster.path(id))?.is_empty().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tiered_topic_forgets_a_silent_producer() {
    let mut broker = TestBroker::start_tiered(&EXPIRATION).await;
    let mut configs = TIERED.to_vec();
    configs.push(("retention.ms", "-1"));
    let mut client = broker.client().await;
    client.create_topic("t", 1, &configs).await.unwrap();
    produce_as_seven(&mut Connection::open(&broker.address()).await.unwrap()).await;
    broker.stop().await;
    broker.resume().await;
    let client = tokio::sync::Mutex::new(broker.client().await);
    eventually("the producer is forgotten", || async {
        seal(&mut *client.lock().await).await;
        newest_snapshot(broker.path())?.is_empty().then_some(())
    })
    .await;
    broker.stop().await;
}
