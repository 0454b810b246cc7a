//! The cold tier in containers. Needs a Docker daemon and an image `strandline-minio:test`; `tests/compat/run containers`
//! makes both and runs these.

use strandline_tests::TestBroker;
use testcontainers::core::{IntoContainerPort, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, GenericImage, ImageExt};

use super::*;

const MINIO_PORT: u16 = 9000;
const USER: &str = "strandline";
const PASSWORD: &str = "strandline-secret";

async fn start_minio() -> ContainerAsync<GenericImage> {
    GenericImage::new("strandline-minio", "test")
        .with_exposed_port(MINIO_PORT.tcp())
        .with_wait_for(WaitFor::message_on_either_std("API: "))
        .with_env_var("MINIO_ROOT_USER", USER)
        .with_env_var("MINIO_ROOT_PASSWORD", PASSWORD)
        .with_cmd(["server", "/data"])
        .start()
        .await
        .expect("the container starts")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a Docker daemon: tests/compat/run containers"]
async fn segments_go_to_minio_in_a_container_and_come_back_after_its_outage() {
    let minio = start_minio().await;
    let port = minio.get_host_port_ipv4(MINIO_PORT).await.unwrap();
    let endpoint = format!("http://127.0.0.1:{port}");
    let credentials = [
        ("strandline.remote.store.access.key.id", USER),
        ("strandline.remote.store.secret.access.key", PASSWORD),
    ];
    let mut broker = TestBroker::start_on_s3(&endpoint, &credentials).await;
    let mut client = broker.client().await;
    client.create_topic("t", 1, &TIERED).await.unwrap();
    let values = produce(&mut client, "t", 1000, 200).await;
    offloaded(&mut client, "t").await;
    assert_eq!(read_all(&mut client, "t", 0).await, values);
    minio.pause().await.expect("the container pauses");
    let hot = read_all(&mut client, "t", 990).await;
    assert_eq!(hot, values[990..], "hot data needs no bucket");
    client.create_topic("u", 1, &TIERED).await.unwrap();
    let written = produce(&mut client, "u", 1000, 200).await;
    minio.unpause().await.expect("the container goes on");
    offloaded(&mut client, "u").await;
    broker.stop().await;
    broker.resume().await;
    let mut client = broker.client().await;
    for (topic, values) in [("t", values), ("u", written)] {
        assert_eq!(read_all(&mut client, topic, 0).await, values);
    }
    broker.stop().await;
}
