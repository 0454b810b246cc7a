//! A bucket prefix belongs to one cluster, and a cluster has one prefix.

use strandline_broker::Server;
use strandline_tests::TestBroker;

use super::{TIERED, offloaded, produce, read_all};

const MARKER: &str = "strandline-store.json";

/// Starts a broker that has no data of its own on the prefix of another one; returns the broker or its error.
async fn start_on(url: &str) -> Result<TestBroker, String> {
    let broker = TestBroker::prepare_tiered(&[("strandline.remote.store.url", url)]);
    match Server::start(broker.settings()).await {
        Ok(server) => {
            server.shutdown().await;
            Ok(broker)
        }
        Err(error) => Err(error.to_string()),
    }
}

fn url_of(broker: &TestBroker) -> String {
    format!("file://{}", broker.path().join("remote").display())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_refused_and_touches_nothing() {
    let mut broker = TestBroker::start_tiered(&[]).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &TIERED).await.unwrap();
    let values = produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    let marker = broker.path().join("remote").join(MARKER);
    let written = std::fs::read_to_string(&marker).unwrap();
    let refused = start_on(&url_of(&broker)).await;
    let refused = refused
        .err()
        .expect("the prefix belongs to another cluster");
    assert!(refused.contains("belongs to cluster"), "{refused}");
    // A prefix from the time before markers: the other cluster knows none of the objects.
    std::fs::remove_file(&marker).unwrap();
    let refused = start_on(&url_of(&broker)).await;
    let refused = refused.err().expect("the segments are another cluster's");
    assert!(refused.contains("does not know"), "{refused}");
    assert!(!marker.exists(), "nobody marks what is not theirs");
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    // The cluster that knows the segments marks the prefix again, with the same store.
    broker.stop().await;
    broker.resume().await;
    assert_eq!(std::fs::read_to_string(&marker).unwrap(), written);
    let mut client = broker.client().await;
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_the_cluster_with_another_prefix_is_refused() {
    let mut broker = TestBroker::start_tiered(&[]).await;
    broker.stop().await;
    let other = TestBroker::start_tiered(&[]).await;
    // The marker of another place with the right cluster, and the wrong store.
    let place = tempfile::TempDir::new().unwrap();
    let marker = std::fs::read_to_string(broker.path().join("remote").join(MARKER)).unwrap();
    let foreign = std::fs::read_to_string(other.path().join("remote").join(MARKER)).unwrap();
    let store_id = |text: &str| {
        let marker: serde_json::Value = serde_json::from_str(text).unwrap();
        marker["store_id"].as_str().unwrap().to_owned()
    };
    let moved = marker.replace(&store_id(&marker), &store_id(&foreign));
    std::fs::write(place.path().join(MARKER), moved).unwrap();
    let url = format!("file://{}", place.path().display());
    let before = url_of(&broker);
    broker.set_property("strandline.remote.store.url", &url);
    let refused = Server::start(broker.settings()).await;
    let refused = refused.err().expect("another store").to_string();
    assert!(
        refused.contains("the cluster's cold tier is store"),
        "{refused}"
    );
    broker.set_property("strandline.remote.store.url", &before);
    broker.resume().await;
    broker.stop().await;
    // Moved with its marker, the store is the same one.
    std::fs::write(place.path().join(MARKER), marker).unwrap();
    broker.set_property("strandline.remote.store.url", &url);
    broker.resume().await;
    broker.stop().await;
}
