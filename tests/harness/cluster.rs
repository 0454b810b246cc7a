//! Several brokers in this process that form one cluster, each with a directory of its own.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::broker::http_get;
use kafka_protocol::messages as m;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use strandline_broker::Server;
use strandline_broker::settings::{Properties, PropertySource, Settings};
use strandline_client::{Client, Connection};
use strandline_wire::{ApiKey, StrBytes};
use tempfile::TempDir;

use crate::kill::Moment;
use crate::wait::eventually;

/// A running cluster; a node that was stopped keeps its data.
pub struct TestCluster {
    running: BTreeMap<i32, Server>,
    directories: BTreeMap<i32, TempDir>,
    address: Ipv4Addr,
    properties: Vec<(String, String)>,
    /// Of one node each; the next start has them.
    own_properties: BTreeMap<i32, Vec<(String, String)>>,
    layout: Layout,
}

/// The roles and racks of a cluster's nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Brokers that are controllers too.
    Combined,
    /// The same, each in a rack of its own: `rack1`, `rack2`, …
    Racks,
    /// The same, each with the log directories `a` and `b`, and `metadata` for the quorum.
    Disks,
    /// Brokers, and as many controllers that are no brokers: 101, 102, …
    Apart,
}

/// The first controller that is no broker.
const FIRST_CONTROLLER: i32 = 101;

/// The state of a partition in the metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionState {
    pub leader: i32,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
}

/// Ports of clients' and of controllers' listeners are these and the node's id.
const PORTS: (i32, i32) = (9000, 19_000);

/// A loopback address that no other cluster has. A port of 127.0.0.1 would not do: outgoing connections of any process
/// get theirs there, and one could take a node's before it starts, or while it is down.
fn own_address() -> Ipv4Addr {
    static CLUSTERS: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    // 127.128.0.0/9 for this; chaos and stacks that are started by hand take addresses below.
    let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, high | 0x80, low, cluster)
}

impl TestCluster {
    /// Starts `count` brokers that are controllers too.
    pub async fn start(count: i32, properties: &[(&str, &str)]) -> Self {
        Self::start_with(count, properties, Layout::Combined).await
    }

    /// The same, each in a rack of its own: `rack1`, `rack2`, …
    pub async fn start_in_racks(count: i32, properties: &[(&str, &str)]) -> Self {
        Self::start_with(count, properties, Layout::Racks).await
    }

    /// The same, each with the log directories `a` and `b` (see [`TestCluster::path`]), and `metadata` for the quorum.
    pub async fn start_with_disks(count: i32, properties: &[(&str, &str)]) -> Self {
        Self::start_with(count, properties, Layout::Disks).await
    }

    /// Starts `count` brokers, and as many controllers that are nothing else.
    pub async fn start_apart(count: i32, properties: &[(&str, &str)]) -> Self {
        Self::start_with(count, properties, Layout::Apart).await
    }

    async fn start_with(count: i32, properties: &[(&str, &str)], layout: Layout) -> Self {
        crate::logs::show_logs();
        let mut ids: Vec<i32> = (1..=count).collect();
        if layout == Layout::Apart {
            ids.extend(FIRST_CONTROLLER..FIRST_CONTROLLER + count);
        }
        let owned = properties.iter();
        let owned = owned.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let mut cluster = Self {
            running: BTreeMap::new(),
            directories: ids
                .iter()
                .map(|id| (*id, TempDir::new().expect("a directory")))
                .collect(),
            address: own_address(),
            properties: owned.collect(),
            own_properties: BTreeMap::new(),
            layout,
        };
        cluster.resume_together(&ids).await;
        cluster
    }

    /// All brokers.
    pub fn ids(&self) -> Vec<i32> {
        let all = self.directories.keys().copied();
        all.filter(|id| *id < FIRST_CONTROLLER).collect()
    }

    /// All controllers.
    pub fn controllers(&self) -> Vec<i32> {
        let all = self.directories.keys().copied();
        all.filter(|id| self.layout != Layout::Apart || *id >= FIRST_CONTROLLER)
            .collect()
    }

    fn settings(&self, id: i32) -> Settings {
        let voters = self.controllers().into_iter();
        let voters = voters.map(|id| format!("{id}@{}", self.controller_address(id)));
        let broker = format!("PLAINTEXT://{}", self.address(id));
        let controller = format!("CONTROLLER://{}", self.controller_address(id));
        let (roles, listeners) = match self.layout {
            Layout::Apart if id >= FIRST_CONTROLLER => ("controller", controller),
            Layout::Apart => ("broker", broker),
            _ => ("broker,controller", format!("{broker},{controller}")),
        };
        let logs = self.directories[&id].path().join("log");
        let mut properties = Properties::default();
        for (key, value) in [
            ("process.roles", roles.to_owned()),
            ("node.id", id.to_string()),
            ("listeners", listeners),
            ("controller.listener.names", "CONTROLLER".to_owned()),
            (
                "controller.quorum.voters",
                voters.collect::<Vec<_>>().join(","),
            ),
            ("strandline.http.listener", "127.0.0.1:0".to_owned()),
            ("log.dirs", logs.display().to_string()),
            ("default.replication.factor", "3".to_owned()),
            ("offsets.topic.num.partitions", "3".to_owned()),
            ("group.initial.rebalance.delay.ms", "0".to_owned()),
        ] {
            properties.set(key.to_owned(), value, PropertySource::File);
        }
        if self.layout == Layout::Racks {
            let rack = format!("rack{id}");
            properties.set("broker.rack".to_owned(), rack, PropertySource::File);
        }
        if self.layout == Layout::Disks {
            let path = |name| self.path(id).join(name).display().to_string();
            let dirs = format!("{},{}", path("a"), path("b"));
            properties.set("log.dirs".to_owned(), dirs, PropertySource::File);
            let metadata = path("metadata");
            properties.set(
                "metadata.log.dir".to_owned(),
                metadata,
                PropertySource::File,
            );
        }
        let own = self.own_properties.get(&id).into_iter().flatten();
        for (key, value) in self.properties.iter().chain(own) {
            properties.set(key.clone(), value.clone(), PropertySource::Override);
        }
        Settings::resolve(&properties).expect("the settings are valid")
    }

    /// Settings of another process with the `node.id` of a node: its directory is elsewhere, and so are its ports.
    pub fn settings_elsewhere(&self, id: i32, directory: &std::path::Path) -> Settings {
        let mut properties = Properties::default();
        let mut all = self.settings(id).properties;
        let listeners = format!(
            "PLAINTEXT://{0}:{1},CONTROLLER://{0}:{2}",
            self.address,
            PORTS.0 + 500 + id,
            PORTS.1 + 500 + id
        );
        all.insert("listeners".to_owned(), listeners);
        let logs = directory.join("log").display().to_string();
        all.insert("log.dirs".to_owned(), logs);
        for (key, value) in all {
            properties.set(key, value, PropertySource::File);
        }
        Settings::resolve(&properties).expect("the settings are valid")
    }

    /// Stops a node cleanly.
    pub async fn stop(&mut self, id: i32) {
        let server = self.running.remove(&id).expect("the node runs");
        server.shutdown().await;
    }

    pub async fn resume(&mut self, id: i32) {
        let server = Server::start(self.settings(id)).await;
        self.running.insert(id, server.expect("the broker starts"));
    }

    /// Starts nodes of which none is ready before the others are there.
    pub async fn resume_together(&mut self, ids: &[i32]) {
        let starting = ids.iter().map(|id| {
            let settings = self.settings(*id);
            async move { (*id, Server::start(settings).await.expect("a node starts")) }
        });
        let started = futures::future::join_all(starting).await;
        self.running.extend(started);
    }

    /// The node's disk is lost: it comes back with an empty one.
    pub fn replace_disk(&mut self, id: i32) {
        assert!(!self.running.contains_key(&id), "the node is down");
        self.directories
            .insert(id, TempDir::new().expect("a directory"));
    }

    /// Gives a node properties that the others do not have, or takes them away; its next start has them.
    pub fn set_properties(&mut self, id: i32, properties: &[(&str, &str)]) {
        let owned = properties.iter();
        let owned = owned.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        self.own_properties.insert(id, owned.collect());
    }

    pub async fn stop_all(&mut self) {
        for id in self.ids() {
            if self.running.contains_key(&id) {
                self.stop(id).await;
            }
        }
    }

    /// All nodes end as if their processes had been killed now: see [`TestCluster::resume_together`].
    pub async fn kill_all(&mut self) {
        let running: Vec<i32> = self.running.keys().copied().collect();
        let moments: Vec<Moment> = running
            .iter()
            .map(|id| Moment::take(self.path(*id)))
            .collect();
        for id in running {
            self.stop(id).await;
        }
        for moment in moments {
            moment.restore();
        }
    }

    pub fn path(&self, id: i32) -> &std::path::Path {
        self.directories[&id].path()
    }

    pub fn address(&self, id: i32) -> String {
        format!("{}:{}", self.address, PORTS.0 + id)
    }

    pub fn controller_address(&self, id: i32) -> String {
        format!("{}:{}", self.address, PORTS.1 + id)
    }

    pub fn bootstrap(&self) -> String {
        let all = self.ids().into_iter().map(|id| self.address(id));
        all.collect::<Vec<_>>().join(",")
    }

    /// The body that a node's HTTP listener answers with.
    pub async fn http_get(&self, id: i32, path: &str) -> String {
        let address = self.running[&id].http_address().expect("HTTP is on");
        http_get(&address.to_string(), path).await
    }

    pub async fn client(&self, id: i32) -> Client {
        Client::connect(&self.address(id))
            .await
            .expect("the broker accepts")
    }

    pub async fn connection(&self, id: i32) -> Connection {
        Connection::open(&self.address(id))
            .await
            .expect("the broker accepts")
    }

    /// A node that runs.
    pub fn any(&self) -> i32 {
        *self.running.keys().next().expect("a node runs")
    }

    /// A partition as any running node describes it.
    pub async fn partition(&self, topic: &str, partition: i32) -> Option<PartitionState> {
        let name = m::TopicName(StrBytes::from_string(topic.to_owned()));
        let asked = MetadataRequestTopic::default().with_name(Some(name));
        let request = m::MetadataRequest::default().with_topics(Some(vec![asked]));
        let mut connection = self.connection(self.any()).await;
        let response: m::MetadataResponse =
            connection.call(ApiKey::Metadata, 9, &request).await.ok()?;
        let topic = response.topics.into_iter().next()?;
        let found = topic
            .partitions
            .into_iter()
            .find(|p| p.partition_index == partition)?;
        let ids = |ids: Vec<m::BrokerId>| ids.into_iter().map(|b| b.0).collect();
        Some(PartitionState {
            leader: found.leader_id.0,
            leader_epoch: found.leader_epoch,
            replicas: ids(found.replica_nodes),
            isr: ids(found.isr_nodes),
        })
    }

    /// Waits until a partition is as wished, and its leader leads.
    pub async fn wait_for(
        &self,
        topic: &str,
        what: &str,
        holds: impl Fn(&PartitionState) -> bool,
    ) -> PartitionState {
        eventually(what, || async {
            let state = self.partition(topic, 0).await;
            state.filter(|p| p.leader >= 0 && holds(p))
        })
        .await
    }
}
