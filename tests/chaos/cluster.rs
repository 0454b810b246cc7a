//! Real processes in network namespaces of their own, joined by a bridge, and the faults that can be applied to them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use strandline_client::Connection;
use strandline_wire::ApiKey;

use crate::direct::Direct;
use crate::disks::{Disk, DiskFault, fill};
use crate::shims::{self, Shims};

/// Runs beside each other, on networks that do not know of each other.
#[derive(Clone, Copy, Debug)]
pub struct Lane(pub u8);

impl Lane {
    fn bridge(self) -> String {
        format!("slchaos{}x", self.0)
    }

    fn namespace(self, id: i32) -> String {
        format!("{}{id}", self.bridge())
    }

    fn address(self, id: i32) -> String {
        format!("10.77.{}.{id}", self.0)
    }

    /// Address of the bridge, where the harness listens.
    pub fn harness(self) -> String {
        format!("10.77.{}.254", self.0)
    }

    fn forwarding(self) -> String {
        let bridge = self.bridge();
        format!("FORWARD -i {bridge} -o {bridge} -j ACCEPT")
    }
}

/// Size of a node's data directory, which is a file system of its own, so that it can be full.
const DISK: &str = "512m";
/// Of what a node may write on its disk, this stays free.
const RESERVE: u32 = 32 << 20;

/// The nodes of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Numbered from 1 on.
    pub brokers: i32,
    /// Numbered behind the brokers; with none, every broker is a controller.
    pub controllers: i32,
}

impl Shape {
    fn nodes(self) -> i32 {
        self.brokers + self.controllers
    }

    fn voters(self) -> RangeInclusive<i32> {
        match self.controllers {
            0 => 1..=self.brokers,
            _ => self.brokers + 1..=self.nodes(),
        }
    }
}

/// Where the replicas of a node lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// On its disk, and beside the metadata.
    Both,
    /// On its disk only.
    Disk,
}

pub struct Cluster {
    lane: Lane,
    binary: PathBuf,
    directory: PathBuf,
    shims: Shims,
    store_endpoint: String,
    shape: Shape,
    nodes: BTreeMap<i32, Option<Child>>,
    disks: BTreeMap<i32, Disk>,
    /// Whether the history passed; its directories are then not kept.
    pub passed: bool,
}

pub fn run(command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let program = words.next().expect("a program");
    let output = Command::new(program).args(words).output();
    let output = output.map_err(|e| format!("{command}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command}: {}", error.trim()))
}

/// A lane's network; taken down again when this goes.
pub struct Network {
    lane: Lane,
    nodes: i32,
}

impl Network {
    pub fn new(lane: Lane, shape: Shape) -> Result<Self, String> {
        let nodes = shape.nodes();
        let network = Self { lane, nodes };
        network.remove();
        let bridge = lane.bridge();
        run(&format!("ip link add {bridge} type bridge"))?;
        run(&format!("ip addr add {}/24 dev {bridge}", lane.harness()))?;
        run(&format!("ip link set {bridge} up"))?;
        // A Docker daemon, even one that has stopped, leaves a policy that forwards nothing over bridges.
        run(&format!("iptables -w -I {}", lane.forwarding()))?;
        for id in 1..=nodes {
            let ns = lane.namespace(id);
            let (inner, outer) = (format!("{bridge}i{id}"), format!("{bridge}o{id}"));
            run(&format!("ip netns add {ns}"))?;
            run(&format!("ip link add {outer} type veth peer name {inner}"))?;
            run(&format!("ip link set {inner} netns {ns}"))?;
            run(&format!("ip link set {outer} master {bridge} up"))?;
            let address = lane.address(id);
            run(&format!("ip -n {ns} addr add {address}/24 dev {inner}"))?;
            run(&format!("ip -n {ns} link set {inner} up"))?;
            run(&format!("ip -n {ns} link set lo up"))?;
        }
        Ok(network)
    }

    fn remove(&self) {
        let bridge = self.lane.bridge();
        for id in 1..=self.nodes {
            // Errors are ignored: the parts that do not exist need not be removed.
            let _ = run(&format!("ip netns del {}", self.lane.namespace(id)));
            let _ = run(&format!("ip link del {bridge}o{id}"));
        }
        let _ = run(&format!("iptables -w -D {}", self.lane.forwarding()));
        let _ = run(&format!("ip link del {bridge}"));
    }

    /// Drops packets from `from` to `to`.
    pub fn cut(&self, from: i32, to: i32) -> Result<(), String> {
        let known = 1..=self.nodes;
        assert!(known.contains(&from) && known.contains(&to));
        run(&format!(
            "ip netns exec {} iptables -w -A INPUT -s {} -j DROP",
            self.lane.namespace(to),
            self.lane.address(from)
        ))
    }

    pub fn heal(&self) -> Result<(), String> {
        for id in 1..=self.nodes {
            let ns = self.lane.namespace(id);
            run(&format!("ip netns exec {ns} iptables -w -F INPUT"))?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.values_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for id in self.all_ids() {
            let data = self.data_directory(id);
            if !self.passed {
                // Keep the data directory of a history that failed, for analysis.
                let kept = self.node_directory(id).join("kept");
                let _ = run(&format!("cp -r {} {}", data.display(), kept.display()));
            }
            if let Some(disk) = self.disks.get(&id).filter(|_| !self.passed) {
                disk.keep(&self.node_directory(id).join("kept-disk"));
            }
            let _ = run(&format!("umount -l {}", data.display()));
        }
    }
}

impl Cluster {
    /// Starts the processes, with their data under `directory`.
    pub fn start(
        lane: Lane,
        binary: &Path,
        directory: &Path,
        store_endpoint: &str,
        shape: Shape,
        layout: Layout,
    ) -> Result<Self, String> {
        fs::create_dir_all(directory).map_err(|e| e.to_string())?;
        let shims = Shims::build(directory)?;
        let mut cluster = Self {
            lane,
            binary: binary.to_path_buf(),
            directory: directory.to_path_buf(),
            shims,
            store_endpoint: store_endpoint.to_owned(),
            shape,
            nodes: (1..=shape.nodes()).map(|id| (id, None)).collect(),
            disks: BTreeMap::new(),
            passed: false,
        };
        for id in 1..=shape.nodes() {
            cluster.write_configuration(id, layout)?;
            let data = cluster.data_directory(id);
            fs::create_dir_all(&data).map_err(|e| e.to_string())?;
            run(&format!(
                "mount -t tmpfs -o size={DISK} tmpfs {}",
                data.display()
            ))?;
            if id <= shape.brokers {
                let disk = Disk::create(&cluster.node_directory(id))?;
                cluster.disks.insert(id, disk);
            }
            cluster.set_clock(id, 0)?;
            cluster.launch(id)?;
        }
        Ok(cluster)
    }

    /// The brokers.
    pub fn ids(&self) -> Vec<i32> {
        (1..=self.shape.brokers).collect()
    }

    /// The brokers and the controllers.
    pub fn all_ids(&self) -> Vec<i32> {
        self.nodes.keys().copied().collect()
    }

    pub fn address(&self, broker: i32) -> String {
        format!("{}:9092", self.lane.address(broker))
    }

    /// Of the brokers.
    pub fn addresses(&self) -> Vec<String> {
        self.ids().into_iter().map(|id| self.address(id)).collect()
    }

    pub fn bootstrap(&self) -> String {
        self.addresses().join(",")
    }

    pub fn node_directory(&self, id: i32) -> PathBuf {
        self.directory.join(format!("node{id}"))
    }

    pub fn data_directory(&self, id: i32) -> PathBuf {
        self.node_directory(id).join("data")
    }

    /// The log directories of a node.
    pub fn log_directories(&self, id: i32) -> Vec<PathBuf> {
        let disk = self.disks.get(&id).map(|d| d.path().join("log"));
        disk.into_iter().chain([self.data_directory(id)]).collect()
    }

    fn write_configuration(&self, id: i32, layout: Layout) -> Result<(), String> {
        let directory = self.node_directory(id);
        fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
        let voters = self.shape.voters();
        let voters: Vec<_> = voters
            .map(|v| format!("{v}@{}:9093", self.lane.address(v)))
            .collect();
        let host = self.lane.address(id);
        let (data, disk) = (self.data_directory(id), directory.join("disks/disk/log"));
        let dirs = match layout {
            Layout::Both => format!("{},{}", data.display(), disk.display()),
            Layout::Disk => disk.display().to_string(),
        };
        let (client, controller) = (
            format!("PLAINTEXT://{host}:9092"),
            format!("CONTROLLER://{host}:9093"),
        );
        let is_broker = id <= self.shape.brokers;
        let (roles, listeners) = match (is_broker, self.shape.voters().contains(&id)) {
            (true, true) => ("broker,controller", format!("{client},{controller}")),
            (true, false) => ("broker", client),
            (false, _) => ("controller", controller),
        };
        let dirs = if is_broker {
            dirs
        } else {
            data.display().to_string()
        };
        let text = format!(
            "process.roles={roles}\nnode.id={id}\nlisteners={listeners}\n\
             controller.listener.names=CONTROLLER\ncontroller.quorum.voters={}\n\
             metadata.log.dir={}\nlog.dirs={dirs}\nstrandline.log.dir.reserved.bytes={RESERVE}\nstrandline.http.listener={host}:9644\n\
             default.replication.factor=3\nmin.insync.replicas=2\n\
             offsets.topic.replication.factor=3\noffsets.topic.num.partitions=3\n\
             replica.lag.time.max.ms=10000\n\
             remote.log.storage.system.enable=true\nremote.log.manager.task.interval.ms=500\n\
             remote.log.manager.task.retry.backoff.ms=200\nremote.log.manager.task.retry.backoff.max.ms=2000\n\
             strandline.remote.store.url=s3://cold/chaos\nstrandline.remote.store.endpoint={}\n\
             strandline.remote.store.access.key.id=id\nstrandline.remote.store.secret.access.key=secret\n\
             strandline.remote.store.create.bucket=true\n",
            voters.join(","),
            data.display(),
            self.store_endpoint,
        );
        fs::write(directory.join("server.properties"), text).map_err(|e| e.to_string())
    }

    /// Starts a node that is down.
    pub fn launch(&mut self, id: i32) -> Result<(), String> {
        if self.is_up(id) {
            return Ok(());
        }
        let directory = self.node_directory(id);
        let log = File::options()
            .create(true)
            .append(true)
            .open(directory.join("log"))
            .map_err(|e| e.to_string())?;
        let mut command = Command::new("ip");
        let child = self
            .shims
            .preload(&mut command, &directory)
            .args(["netns", "exec", &self.lane.namespace(id)])
            .arg(&self.binary)
            .arg("server")
            .arg(directory.join("server.properties"))
            .env(
                "STRANDLINE_LOG",
                "info,openraft=off,strandline_broker::cluster=debug,strandline_broker::partition=debug",
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|e| format!("{}: {e}", self.binary.display()))?;
        self.nodes.insert(id, Some(child));
        Ok(())
    }

    pub fn is_up(&mut self, id: i32) -> bool {
        let child = self.nodes.get_mut(&id).and_then(Option::as_mut);
        child.is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    fn signal(&self, id: i32, signal: &str) {
        if let Some(Some(child)) = self.nodes.get(&id) {
            let _ = run(&format!("kill -{signal} {}", child.id()));
        }
    }

    pub fn kill(&mut self, id: i32) {
        self.signal(id, "KILL");
        self.wait(id);
    }

    /// Asks a node to stop; `false` if it has to be killed.
    pub fn stop(&mut self, id: i32) -> bool {
        self.signal(id, "TERM");
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.is_up(id) {
            if Instant::now() > deadline {
                self.kill(id);
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.wait(id)
    }

    fn wait(&mut self, id: i32) -> bool {
        let child = self.nodes.get_mut(&id).and_then(Option::take);
        child.is_none_or(|mut c| c.wait().is_ok_and(|status| status.success()))
    }

    pub fn pause(&self, id: i32) {
        self.signal(id, "STOP");
    }

    pub fn resume(&self, id: i32) {
        self.signal(id, "CONT");
    }

    /// Switches slow (`flush-slow`) or failing (`flush-fails`) flushes of a node on or off.
    pub fn disturb_flushes(&self, id: i32, how: &str, on: bool) {
        shims::disturb_flushes(&self.node_directory(id), how, on);
    }

    /// Sets a node's wall clock ahead of the machine's by this much.
    pub fn set_clock(&self, id: i32, offset_ms: i64) -> Result<(), String> {
        shims::set_clock(&self.node_directory(id), offset_ms)
    }

    async fn metadata_of(&self, id: i32) -> Option<MetadataResponse> {
        let asking = async {
            let mut connection = Connection::open(&self.address(id)).await.ok()?;
            let request = MetadataRequest::default().with_topics(None);
            connection.call(ApiKey::Metadata, 12, &request).await.ok()
        };
        let limit = Duration::from_secs(1);
        tokio::time::timeout(limit, asking).await.ok().flatten()
    }

    /// Leaves a node no byte of free space, or gives it back.
    pub fn fill_disk(&self, id: i32, full: bool) -> Result<(), String> {
        let filler = self.data_directory(id).join("filler");
        if !full {
            return fs::remove_file(&filler).map_err(|e| format!("{}: {e}", filler.display()));
        }
        fill(&filler)
    }

    fn disk(&self, id: i32) -> Result<&Disk, String> {
        self.disks
            .get(&id)
            .ok_or_else(|| format!("node {id} has no disk"))
    }

    /// Does something to the disk of a node that runs.
    pub fn strike_disk(&self, id: i32, fault: DiskFault) -> Result<(), String> {
        if fault == DiskFault::Flush {
            self.disturb_flushes(id, "flush-fails", true);
        }
        self.disk(id)?.strike(fault)
    }

    /// Takes everything from a node that is down: its disk, and what lies beside its metadata.
    pub fn wipe(&self, id: i32) -> Result<(), String> {
        self.disk(id)?.heal(DiskFault::Dies)?;
        let data = self.data_directory(id);
        let failed = |e: std::io::Error| format!("{}: {e}", data.display());
        for entry in fs::read_dir(&data).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let removing = if path.is_dir() {
                fs::remove_dir_all
            } else {
                fs::remove_file
            };
            removing(&path).map_err(failed)?;
        }
        Ok(())
    }

    /// Gives a node a disk that is well, and starts it again where only a new process takes that.
    pub fn heal_disk(&mut self, id: i32, fault: DiskFault) -> Result<(), String> {
        if fault.lasts_until_restart() {
            self.kill(id);
        }
        self.disturb_flushes(id, "flush-fails", false);
        self.disk(id)?.heal(fault)?;
        self.launch(id)
    }

    /// The metadata, from any node that answers.
    pub async fn metadata(&self) -> Option<MetadataResponse> {
        for id in self.ids() {
            if let Some(answer) = self.metadata_of(id).await {
                return Some(answer);
            }
        }
        None
    }

    /// The active controller and the leader of the first partition of `topic`, from any node that answers.
    pub async fn controller_and_leader(&self, topic: &str) -> (Option<i32>, Option<i32>) {
        let Some(metadata) = self.metadata().await else {
            return (None, None);
        };
        let known = |id: i32| Some(id).filter(|id| self.nodes.contains_key(id));
        // Metadata names a broker that forwards, where controllers are processes of their own.
        let controller = match self.shape.controllers {
            0 => known(metadata.controller_id.0),
            _ => self.leader_of_quorum().await.and_then(known),
        };
        let topic = metadata
            .topics
            .iter()
            .find(|t| t.name.as_ref().is_some_and(|n| n.as_str() == topic));
        let leader = topic
            .and_then(|t| t.partitions.first())
            .map(|p| p.leader_id.0);
        (controller, leader.and_then(known))
    }

    async fn leader_of_quorum(&self) -> Option<i32> {
        for address in self.addresses() {
            if let Ok(leader) = Direct::new(vec![address]).leader_of_quorum().await {
                return Some(leader);
            }
        }
        None
    }

    /// Waits until every node reports that every partition has all its replicas in sync, under the same leader: a node
    /// that was cut off knows only the state before.
    pub async fn wait_until_in_sync(&self, limit: Duration) -> Result<Duration, String> {
        let began = Instant::now();
        loop {
            let mut missing = Vec::new();
            let mut leaders = BTreeMap::new();
            for id in self.ids() {
                match self.metadata_of(id).await {
                    None => missing.push(format!("node {id} does not answer")),
                    Some(metadata) => compare(id, &metadata, &mut leaders, &mut missing),
                }
            }
            if missing.is_empty() {
                return Ok(began.elapsed());
            }
            if began.elapsed() > limit {
                return Err(format!("not in sync after {limit:?}: {missing:?}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Notes deviations in one node's metadata, and differences from another node's.
fn compare(
    id: i32,
    metadata: &MetadataResponse,
    leaders: &mut BTreeMap<(String, i32), (i32, i32)>,
    missing: &mut Vec<String>,
) {
    for topic in &metadata.topics {
        let name = topic.name.as_ref().map_or("?", |n| n.as_str());
        for p in &topic.partitions {
            let partition = format!("{name}-{} by node {id}", p.partition_index);
            if p.isr_nodes.len() < p.replica_nodes.len() || p.leader_id.0 < 0 {
                missing.push(format!("{partition}: isr {:?}", p.isr_nodes));
            }
            let leader = (p.leader_id.0, p.leader_epoch);
            let known = leaders
                .entry((name.to_owned(), p.partition_index))
                .or_insert(leader);
            if *known != leader {
                missing.push(format!(
                    "{partition}: leader {leader:?}, others say {known:?}"
                ));
            }
        }
    }
}
