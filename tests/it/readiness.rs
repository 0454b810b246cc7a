//! `/readyz` answers from the beginning of the start on, and names everything that is missing.

use std::net::TcpListener;

use serde_json::Value;
use strandline_broker::Server;
use strandline_broker::settings::{Properties, PropertySource, Settings};
use strandline_metadata::controller::Command;
use strandline_tests::{TestBroker, TestCluster, eventually, http_get};
use strandline_types::BrokerId;
use tempfile::TempDir;

use super::second_process::member;

/// The reasons of an answer of `/readyz`; empty where it says ready.
fn reasons(body: &str) -> Vec<String> {
    let answer: Value = serde_json::from_str(body).unwrap();
    if answer["status"] == "ready" {
        return Vec::new();
    }
    let all = answer["reasons"].as_array().unwrap().iter();
    all.map(|r| r.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_starts_answers_and_names_the_voters_that_it_misses() {
    let directory = TempDir::new().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = free.local_addr().unwrap().to_string();
    drop(free);
    let mut properties = Properties::default();
    for (key, value) in [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        (
            "listeners",
            "PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0",
        ),
        ("controller.listener.names", "CONTROLLER"),
        // Nobody listens at port 1.
        (
            "controller.quorum.voters",
            "1@127.0.0.1:19093,2@127.0.0.1:1,3@127.0.0.2:1",
        ),
        ("strandline.http.listener", &http),
        (
            "log.dirs",
            &directory.path().join("log").display().to_string(),
        ),
    ] {
        properties.set(key.to_owned(), value.to_owned(), PropertySource::File);
    }
    let settings = Settings::resolve(&properties).unwrap();
    let starting = tokio::spawn(Server::start(settings));
    let told = eventually("the listener answers", || async {
        tokio::net::TcpStream::connect(&http).await.ok()?;
        let told = reasons(&http_get(&http, "/readyz").await);
        told.iter().any(|r| r.contains("no leader")).then_some(told)
    })
    .await;
    let told = told.join("\n");
    for part in [
        "the broker is not registered yet",
        "2 at 127.0.0.1:1, 3 at 127.0.0.2:1",
        "controller.quorum.voters",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(http_get(&http, "/livez").await.contains("alive"));
    assert!(http_get(&http, "/").await.contains("node 1"));
    starting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_with_what_helps() {
    let mut broker = TestBroker::start(&[]).await;
    assert!(reasons(&broker.http_get("/readyz").await).is_empty());
    broker.stop().await;
    // No file system has so much room.
    broker.set_property("strandline.log.dir.reserved.bytes", "1000000000000000");
    broker.resume().await;
    let told = reasons(&broker.http_get("/readyz").await);
    let path = broker.path().join("log").display().to_string();
    let full = told.iter().find(|r| r.contains("is full"));
    let full = full.unwrap_or_else(|| panic!("{told:?}"));
    assert!(full.contains(&path) && full.contains("make room"), "{full}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_broker_is_not_ready_until_it_is_unfenced() {
    let cluster = TestCluster::start(3, &[]).await;
    let directory = TempDir::new().unwrap();
    let operator = member(&cluster, directory.path()).await;
    let id = BrokerId(1);
    let epoch = eventually("the operator knows the broker", || async {
        operator.image().brokers.get(&id).map(|b| b.epoch)
    })
    .await;
    // The controller unfences a broker that is well at once.
    eventually("the broker says that it is fenced", || async {
        let _ = operator.submit(Command::FenceBroker { id, epoch }).await;
        let told = reasons(&cluster.http_get(1, "/readyz").await);
        told.iter().any(|r| r.contains("fenced")).then_some(())
    })
    .await;
    eventually("the broker is ready again", || async {
        let told = reasons(&cluster.http_get(1, "/readyz").await);
        told.is_empty().then_some(())
    })
    .await;
    operator.shutdown().await;
}
