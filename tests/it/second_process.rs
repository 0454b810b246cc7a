//! Two processes with one `node.id`, and a broker that has lost its registration.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use strandline_broker::Server;
use strandline_broker::settings::Settings;
use strandline_metadata::controller::Command;
use strandline_quorum::{Quorum, QuorumOptions};
use strandline_tests::{TestCluster, eventually};
use strandline_types::BrokerId;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

/// Longer than a newcomer asks for entry.
const REFUSED: Duration = Duration::from_secs(60);

/// A topic of one partition whose only replica is on broker 1.
async fn create_on_broker_1(cluster: &TestCluster, topic: &str) {
    let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![m::BrokerId(1)]);
    let topic = CreatableTopic::default()
        .with_name(m::TopicName(StrBytes::from_string(topic.to_owned())))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![assignment]);
    let request = m::CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let mut connection = cluster.connection(1).await;
    let answer: m::CreateTopicsResponse = connection
        .call(ApiKey::CreateTopics, 5, &request)
        .await
        .unwrap();
    assert_eq!(answer.topics[0].error_code, 0);
}

/// The newcomer is refused by name and gives up; the incumbent leads all the while, in the same epoch.
async fn the_incumbent_stays(cluster: &TestCluster, newcomer: Settings) {
    let mut client = cluster.client(1).await;
    create_on_broker_1(cluster, "alone").await;
    produce(&mut client, "alone", 10, 20).await;
    let before = cluster.partition("alone", 0).await.unwrap();
    assert_eq!(before.leader, 1);

    let starting = tokio::time::timeout(REFUSED, Server::start(newcomer));
    let Ok(Err(refused)) = starting.await else {
        panic!("the newcomer is not refused");
    };
    let refused = refused.to_string();
    assert!(
        refused.starts_with("node.id: 1 belongs to a process that runs"),
        "{refused}"
    );
    assert!(
        refused.contains("give this one a node.id of its own"),
        "{refused}"
    );
    let place = format!("the controller at {}", cluster.controller_address(1));
    assert!(refused.contains(&place), "{refused}");

    produce(&mut client, "alone", 10, 20).await;
    assert_eq!(client.list_offset("alone", 0, LATEST).await.unwrap(), 20);
    assert_eq!(cluster.partition("alone", 0).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_with_a_live_brokers_id_is_refused_and_harms_nobody() {
    let cluster = TestCluster::start(3, &[]).await;
    let directory = TempDir::new().unwrap();
    let newcomer = cluster.settings_elsewhere(1, directory.path());
    the_incumbent_stays(&cluster, newcomer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_on_a_copy_of_a_live_brokers_directory_is_refused_and_harms_nobody() {
    let cluster = TestCluster::start(3, &[]).await;
    let directory = TempDir::new().unwrap();
    let copied = std::process::Command::new("cp")
        .args(["-r", "--", &format!("{}/log", cluster.path(1).display())])
        .arg(directory.path())
        .status();
    assert!(copied.unwrap().success());
    let newcomer = cluster.settings_elsewhere(1, directory.path());
    the_incumbent_stays(&cluster, newcomer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_whose_registration_is_gone_registers_again_and_serves() {
    let cluster = TestCluster::start(3, &[]).await;
    let mut client = cluster.client(1).await;
    create_on_broker_1(&cluster, "alone").await;
    produce(&mut client, "alone", 10, 20).await;

    let directory = TempDir::new().unwrap();
    let operator = member(&cluster, directory.path()).await;
    let epoch = || {
        let image = operator.image();
        image.brokers.get(&BrokerId(1)).map(|b| (b.epoch, b.fenced))
    };
    let before = eventually("the operator knows the broker", || async { epoch() }).await;
    let id = BrokerId(1);
    // The controller unfences a broker that is well at once: the commands race with it.
    eventually("the broker is forgotten", || async {
        let epoch = before.0;
        let _ = operator.submit(Command::FenceBroker { id, epoch }).await;
        operator.submit(Command::UnregisterBroker(id)).await.ok()
    })
    .await;
    eventually("the broker is registered anew and unfenced", || async {
        epoch().filter(|(epoch, fenced)| *epoch > before.0 && !fenced)
    })
    .await;
    eventually("the partition has its leader again", || async {
        let state = cluster.partition("alone", 0).await?;
        (state.leader == 1).then_some(())
    })
    .await;
    let mut client = cluster.client(1).await;
    produce(&mut client, "alone", 10, 20).await;
    assert_eq!(read_all(&mut client, "alone", 0).await.len(), 20);
    operator.shutdown().await;
}

/// A process that follows the metadata of a cluster and is no broker of it.
pub async fn member(cluster: &TestCluster, directory: &Path) -> Quorum {
    let controllers = cluster.controllers().into_iter();
    let voters: BTreeMap<i32, String> = controllers
        .map(|id| (id, cluster.controller_address(id)))
        .collect();
    let options = QuorumOptions {
        directory: directory.to_path_buf(),
        node_id: BrokerId(99),
        incarnation: Uuid::new_v4(),
        directory_id: Uuid::new_v4(),
        founds: false,
        remembers: false,
        listener: None,
        voters,
        contacts: Vec::new(),
        heartbeat_interval: Duration::from_millis(100),
    };
    Quorum::open(options).await.unwrap()
}
