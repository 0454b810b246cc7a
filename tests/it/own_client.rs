//! Our own producer and consumer, under the tools: leaders that go, members that come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strandline_client::{
    ClientOptions, Cluster, Consumer, ConsumerOptions, OffsetReset, Producer, ProducerOptions,
};
use strandline_tests::{TestCluster, eventually};
use strandline_wire::batch::RecordToWrite;

const RECORDS: u64 = 6000;
const PARTITIONS: i32 = 3;

fn record(number: u64) -> RecordToWrite {
    RecordToWrite {
        value: Some(number.to_string().into()),
        ..RecordToWrite::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_written_once_and_in_order_while_leaders_go() {
    let mut cluster = TestCluster::start(3, &[]).await;
    let mut first = cluster.client(1).await;
    first.create_topic("t", PARTITIONS, &[]).await.unwrap();
    let own = Cluster::new(&cluster.bootstrap(), ClientOptions::default());
    let delivered = Arc::new(Mutex::new((0, Vec::new())));
    let noting = delivered.clone();
    let options = ProducerOptions {
        batch_bytes: 2000,
        linger: Duration::ZERO,
        retry_backoff: Duration::from_millis(20),
        ..ProducerOptions::default()
    };
    let producer = Producer::new(own, options, move |delivery| {
        let mut noted = noting.lock().unwrap();
        match delivery.result {
            Ok(_) => noted.0 += delivery.tokens.len(),
            Err(error) => noted.1.push(error.to_string()),
        }
    });
    for number in 0..RECORDS {
        if number % (RECORDS / 4) == RECORDS / 8 {
            let leader = cluster.partition("t", 0).await.unwrap().leader;
            cluster.stop(leader).await;
            cluster.resume(leader).await;
        }
        let partition = (number % PARTITIONS as u64) as i32;
        producer
            .send("t", Some(partition), &record(number), number)
            .await
            .unwrap();
    }
    producer.flush().await;
    let (count, errors) = std::mem::take(&mut *delivered.lock().unwrap());
    assert_eq!((count as u64, errors), (RECORDS, Vec::new()));

    // Two members share the partitions; together they read every record, once and in order.
    let read: Arc<Mutex<BTreeMap<i32, Vec<u64>>>> = Arc::default();
    let mut members = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (own, read) = (
            Cluster::new(&cluster.bootstrap(), ClientOptions::default()),
            read.clone(),
        );
        members.spawn(async move {
            let options = ConsumerOptions {
                reset: OffsetReset::Earliest,
                heartbeat_interval: Duration::from_millis(100),
                ..ConsumerOptions::default()
            };
            let mut consumer = Consumer::subscribe(own, "g", &["t".to_owned()], options);
            loop {
                for one in consumer.poll(Duration::from_millis(100)).await.unwrap() {
                    let value = one.record.value.unwrap();
                    let number = std::str::from_utf8(&value).unwrap().parse().unwrap();
                    let mut read = read.lock().unwrap();
                    read.entry(one.partition).or_default().push(number);
                }
                let total: usize = read.lock().unwrap().values().map(Vec::len).sum();
                if total as u64 >= RECORDS {
                    consumer.close().await.unwrap();
                    return;
                }
            }
        });
    }
    eventually("both members have read everything", || async {
        let total: usize = read.lock().unwrap().values().map(Vec::len).sum();
        (total as u64 >= RECORDS).then_some(())
    })
    .await;
    while let Some(ended) = members.join_next().await {
        ended.unwrap();
    }
    for partition in 0..PARTITIONS {
        let expected: Vec<u64> = (0..RECORDS)
            .filter(|n| n % PARTITIONS as u64 == partition as u64)
            .collect();
        assert_eq!(read.lock().unwrap()[&partition], expected);
    }
    // The group's offsets are at the end, so a new member finds nothing to read.
    let own = Cluster::new(&cluster.bootstrap(), ClientOptions::default());
    let committed = strandline_client::committed(&own, "g", None).await.unwrap();
    let total: i64 = committed.values().map(|c| c.offset).sum();
    assert_eq!(total as u64, RECORDS);
    cluster.stop_all().await;
}
