//! The region that requests to the bucket are signed for.

use std::process::Command;

use strandline_tests::{S3Server, TestBroker};

const PROPERTY: &str = "strandline.remote.store.region";
/// Tells the test below that it is the child, and where the store is.
const STORE: &str = "STRANDLINE_TEST_STORE";
const SET: &str = "STRANDLINE_TEST_REGION";

/// The part of a process whose environment names a region: a broker that uses its store once.
#[tokio::test(flavor = "multi_thread")]
async fn start_on_the_store_of_the_environment() {
    let Ok(store) = std::env::var(STORE) else {
        return;
    };
    let set = std::env::var(SET);
    let properties: Vec<_> = set
        .iter()
        .map(|region| (PROPERTY, region.as_str()))
        .collect();
    TestBroker::start_on_s3(&store, &properties)
        .await
        .stop()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_property_names_the_region_then_the_environment_then_the_default() {
    let cases = [
        (Some("eu-west-3"), Some("ap-south-1"), "eu-west-3"),
        (None, Some("ap-south-1"), "ap-south-1"),
        (None, None, "us-east-1"),
    ];
    for (property, environment, wanted) in cases {
        let server = S3Server::start().await;
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", "region::start_on_the_store_of_the_environment"])
            .env_remove("AWS_REGION")
            .env_remove("AWS_DEFAULT_REGION")
            .env(STORE, server.endpoint());
        if let Some(region) = property {
            child.env(SET, region);
        }
        if let Some(region) = environment {
            child.env("AWS_REGION", region);
        }
        let output = tokio::task::spawn_blocking(move || child.output());
        let output = output.await.unwrap().unwrap();
        assert!(output.status.success(), "{output:?}");
        let regions = server.regions();
        assert_eq!(
            regions,
            [wanted.to_owned()].into(),
            "{property:?} {environment:?}"
        );
    }
}
