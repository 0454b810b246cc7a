//! librdkafka, unmodified: producers, groups, commits, compression.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use strandline_tests::TestBroker;

async fn send(broker: &TestBroker, topic: &str, count: usize, settings: &[(&str, &str)]) {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.address())
        .set("message.timeout.ms", "20000");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let producer: FutureProducer = config.create().unwrap();
    let sends = (0..count).map(|i| {
        let producer = producer.clone();
        async move {
            let (key, value) = (format!("key-{i}"), format!("value-{i}"));
            let record = FutureRecord::to(topic).key(&key).payload(&value);
            producer
                .send(record, Duration::from_secs(20))
                .await
                .map_err(|(e, _)| e)
                .unwrap();
        }
    });
    futures::future::join_all(sends).await;
}

fn consumer(broker: &TestBroker, group: &str, settings: &[(&str, &str)]) -> StreamConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.address())
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().unwrap()
}

async fn receive(consumer: &StreamConsumer, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    while values.len() < count {
        let message = tokio::time::timeout(Duration::from_secs(40), consumer.recv()).await;
        let message = message.expect("a message comes").unwrap();
        values.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
        consumer
            .commit_message(&message, CommitMode::Async)
            .unwrap();
    }
    consumer.commit_consumer_state(CommitMode::Sync).unwrap();
    values.sort();
    values
}

fn expected(range: std::ops::Range<usize>) -> Vec<String> {
    let mut values: Vec<String> = range.map(|i| format!("value-{i}")).collect();
    values.sort();
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_where_it_committed_also_after_a_restart() {
    let mut broker = TestBroker::start(&[]).await;
    broker
        .client()
        .await
        .create_topic("t", 4, &[])
        .await
        .unwrap();
    send(&broker, "t", 200, &[("enable.idempotence", "true")]).await;
    let first = consumer(&broker, "g", &[]);
    first.subscribe(&["t"]).unwrap();
    assert_eq!(receive(&first, 200).await, expected(0..200));
    drop(first);
    broker.stop().await;
    broker.resume().await;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.address());
    let producer: FutureProducer = config.create().unwrap();
    producer
        .send(
            FutureRecord::to("t").key("k").payload("after"),
            Duration::from_secs(20),
        )
        .await
        .map_err(|(e, _)| e)
        .unwrap();
    let second = consumer(&broker, "g", &[]);
    second.subscribe(&["t"]).unwrap();
    assert_eq!(
        receive(&second, 1).await,
        ["after"],
        "nothing that was committed comes again"
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_a_topic() {
    let mut broker = TestBroker::start(&[]).await;
    broker
        .client()
        .await
        .create_topic("t", 4, &[])
        .await
        .unwrap();
    let (a, b) = (consumer(&broker, "g", &[]), consumer(&broker, "g", &[]));
    a.subscribe(&["t"]).unwrap();
    b.subscribe(&["t"]).unwrap();
    let both = strandline_tests::eventually("both members have partitions", || async {
        // Polling is what makes librdkafka take part.
        let _ = tokio::time::timeout(Duration::from_millis(50), a.recv()).await;
        let _ = tokio::time::timeout(Duration::from_millis(50), b.recv()).await;
        let (x, y) = (
            a.assignment().unwrap().count(),
            b.assignment().unwrap().count(),
        );
        (x == 2 && y == 2).then_some(())
    });
    both.await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_batches_of_librdkafka_are_read_back() {
    let mut broker = TestBroker::start(&[]).await;
    for codec in ["gzip", "snappy", "lz4"] {
        broker
            .client()
            .await
            .create_topic(codec, 1, &[])
            .await
            .unwrap();
        let linger = [("compression.type", codec), ("linger.ms", "50")];
        send(&broker, codec, 100, &linger).await;
        let reader = consumer(&broker, codec, &[]);
        reader.subscribe(&[codec]).unwrap();
        assert_eq!(receive(&reader, 100).await, expected(0..100), "{codec}");
    }
    broker.stop().await;
}
