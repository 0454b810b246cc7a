//! Sealed segments leave the local disk and come back through the same offsets.

use strandline_client::ClientError;
use strandline_tests::{TestBroker, eventually};
use strandline_wire::ErrorCode;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn produced_offloaded_restarted_and_read_back_byte_for_byte() {
    let mut broker = TestBroker::start_tiered(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &TIERED).await.unwrap();
    let values = produce(&mut client, "t", 1000, 200).await;
    let local = offloaded(&mut client, "t").await;
    assert_eq!(client.list_offset("t", 0, EARLIEST).await.unwrap(), 0);
    assert_eq!(client.list_offset("t", 0, LATEST).await.unwrap(), 1000);
    assert_eq!(
        client
            .list_offset("t", 0, EARLIEST_PENDING_UPLOAD)
            .await
            .unwrap(),
        local
    );
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    broker.stop().await;
    broker.resume().await;
    let mut client = broker.client().await;
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    assert_eq!(
        read_all(&mut client, "t", 503).await,
        values[503..],
        "from inside a batch in the cold tier"
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_are_found_in_both_tiers() {
    let mut broker = TestBroker::start_tiered(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &TIERED).await.unwrap();
    produce(&mut client, "t", 1000, 200).await;
    let local = offloaded(&mut client, "t").await;
    for number in [0, 1, 57, 500, local as usize - 1, local as usize, 999] {
        let found = client.list_offset("t", 0, timestamp(number)).await.unwrap();
        assert_eq!(found, number as i64);
        assert_eq!(
            client
                .list_offset("t", 0, timestamp(number) - 1)
                .await
                .unwrap(),
            number as i64
        );
    }
    assert_eq!(
        client.list_offset("t", 0, timestamp(1000)).await.unwrap(),
        -1
    );
    assert_eq!(
        client.list_offset("t", 0, MAX_TIMESTAMP).await.unwrap(),
        999
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn total_retention_removes_cold_data_and_its_objects() {
    let mut broker = TestBroker::start_tiered(&[]).await;
    let mut client = broker.client().await;
    let mut configs = TIERED.to_vec();
    configs.push(("retention.bytes", "60000"));
    configs.push(("retention.ms", "-1"));
    client.create_topic("t", 1, &configs).await.unwrap();
    produce(&mut client, "t", 1000, 200).await;
    let client = tokio::sync::Mutex::new(client);
    let start = eventually("the log start moves up", || async {
        let start = client
            .lock()
            .await
            .list_offset("t", 0, EARLIEST)
            .await
            .unwrap();
        (start > 500).then_some(start)
    })
    .await;
    let mut client = client.into_inner();
    let refused = client
        .fetch("t", 0, 0, 1000, std::time::Duration::ZERO)
        .await;
    assert!(matches!(
        refused,
        Err(ClientError::Broker {
            code: ErrorCode::OffsetOutOfRange,
            ..
        })
    ));
    assert!(!read_all(&mut client, "t", start).await.is_empty());
    let remote = broker.path().join("remote");
    eventually("few objects are left", || async {
        (files(&remote) <= 10).then_some(())
    })
    .await;
    broker.stop().await;
}

fn files(path: &std::path::Path) -> usize {
    std::fs::read_dir(path).map_or(0, |entries| {
        entries
            .flatten()
            .map(|e| {
                if e.path().is_dir() {
                    files(&e.path())
                } else {
                    1
                }
            })
            .sum()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topics_objects_go_and_a_new_topic_of_the_name_starts_empty() {
    let mut broker = TestBroker::start_tiered(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &TIERED).await.unwrap();
    produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    delete_topic(&broker.address(), "t").await;
    client.create_topic("t", 1, &TIERED).await.unwrap();
    assert_eq!(client.list_offset("t", 0, LATEST).await.unwrap(), 0);
    let remote = broker.path().join("remote/segments");
    eventually("the bucket is empty", || async {
        (files(&remote) == 0).then_some(())
    })
    .await;
    broker.stop().await;
}

pub(super) async fn delete_topic(address: &str, topic: &str) {
    use rdkafka::admin::{AdminClient, AdminOptions};
    use rdkafka::client::DefaultClientContext;
    let admin: AdminClient<DefaultClientContext> = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", address)
        .create()
        .unwrap();
    let results = admin
        .delete_topics(&[topic], &AdminOptions::new())
        .await
        .unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_log_start_checkpoint_does_not_hide_cold_data() {
    let mut broker = TestBroker::start_tiered(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &TIERED).await.unwrap();
    let values = produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    broker.stop().await;
    for file in [
        "log-start-offset-checkpoint",
        "recovery-point-offset-checkpoint",
        ".kafka_cleanshutdown",
    ] {
        std::fs::remove_file(broker.path().join("log").join(file)).unwrap();
    }
    broker.resume().await;
    let mut client = broker.client().await;
    assert_eq!(client.list_offset("t", 0, EARLIEST).await.unwrap(), 0);
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_in_the_bucket_is_named_and_nothing_else() {
    let mut broker = TestBroker::start_tiered(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &TIERED).await.unwrap();
    produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    let segments = files(&broker.path().join("remote/segments"));
    let orphan = broker.path().join(
        "remote/segments/00000000-0000-4000-8000-000000000001/0/00000000000000000000-0-000000000000400080000000000000ff.log",
    );
    std::fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    std::fs::write(&orphan, b"left by a crash").unwrap();
    let report = async || -> serde_json::Value {
        serde_json::from_str(&broker.http_get("/tier/orphans").await).unwrap()
    };
    assert_eq!(report().await["young"], 1, "an upload may be under way");
    let days_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(30 * 86_400);
    let file = std::fs::File::options().write(true).open(&orphan).unwrap();
    file.set_modified(days_ago).unwrap();
    let found = report().await;
    assert_eq!(found["objects"], segments + 1);
    assert_eq!(found["orphans"], 1);
    assert_eq!(found["orphan_bytes"], 15);
    let key = found["named"][0]["key"].as_str().unwrap();
    assert!(orphan.ends_with(key), "{key}");
    assert!(orphan.exists(), "a dry run removes nothing");
    broker.stop().await;
}
