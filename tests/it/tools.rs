//! Parts of Kafka's tools that need a cluster in a certain state.

use strandline_client::{ClientOptions, Cluster};
use strandline_tests::TestCluster;
use strandline_tools::configs::{BROKER, alter_resource, describe_configs};

const RATE: &str = "leader.replication.throttled.rate";

/// `kafka-reassign-partitions --cancel` takes throttles back from every broker of the metadata that it has read.
#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_a_broker_that_has_just_died_are_changed_by_another() {
    let mut cluster = TestCluster::start(3, &[]).await;
    let known = Cluster::new(&cluster.bootstrap(), ClientOptions::default());
    known.metadata(Some(&[])).await.unwrap();
    let set = [(RATE, Some("1000".to_owned()))];
    let done = alter_resource(&known, (BROKER, "3"), set.into_iter()).await;
    done.unwrap();
    cluster.stop(3).await;
    let cleared = alter_resource(&known, (BROKER, "3"), [(RATE, None)].into_iter()).await;
    cleared.expect("another broker changes them");
    cluster.resume(3).await;
    let resource = (BROKER, "3".to_owned());
    let described = describe_configs(&known, std::slice::from_ref(&resource), false).await;
    let entries = &described.unwrap()[&resource];
    let rate = entries.iter().find(|e| e.name == RATE);
    assert_ne!(rate.and_then(|e| e.value.as_deref()), Some("1000"));
}
