//! A history is a cluster with clients that write and read, and faults one after the other. At the end
//! everything is healed, and every replica must be in sync again within a minute. Then all records are read back and
//! compared with the answers that clients got, and the logs of all replicas are compared with each other. Beside the topic that
//! all clients share, one topic is deleted and made again, and records of two others are deleted.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use strandline_tests::S3Server;

use crate::cluster::{Cluster, Lane, Layout, Network};
use crate::nemesis::Nemesis;
use crate::purged::Purges;
use crate::reborn::Lives;
use crate::workload::{Notes, PARTITIONS, TOPIC};
use crate::{Options, RECOVERY, REPLICAS, checker, purged, reborn, replicas, workload};

const PRODUCERS: usize = 3;
/// The topic that pauses are measured on.
pub const PROBED: &str = "probed";

/// The measures of a history without anomalies.
#[derive(Default)]
pub struct Summary {
    pub acknowledged: usize,
    pub sent: usize,
    /// How long, and when it began.
    pub longest_gap: (Duration, Duration),
    pub recovery: Duration,
    /// How often a topic was made again, and how many of its lives were read completely before they ended.
    pub lives: (u32, u32),
    /// Acknowledged deletions of records.
    pub purges: u32,
}

pub struct History {
    pub network: Network,
    pub store: S3Server,
    pub cluster: Cluster,
    pub notes: Arc<Notes>,
    /// When faults begin.
    began: Instant,
    pub clients: Vec<tokio::task::JoinHandle<()>>,
    /// The task that deletes a topic and makes it again.
    reborn: Option<tokio::task::JoinHandle<()>>,
    lives: Arc<Lives>,
    purges: Arc<Purges>,
    reader: Option<std::thread::JoinHandle<Result<(), String>>>,
    committer: Option<std::thread::JoinHandle<()>>,
}

impl Drop for History {
    fn drop(&mut self) {
        // Clients of a history that failed must not write to the next one's cluster.
        self.notes.stop.store(true, Ordering::Release);
        for client in self.clients.iter().chain(&self.reborn) {
            client.abort();
        }
    }
}

impl History {
    pub async fn begin(options: &Options, name: &str) -> Result<Self, String> {
        let layout = if options.directories.is_some() {
            Layout::Disk
        } else {
            Layout::Both
        };
        let directory = options.directory(name);
        let _ = std::fs::remove_dir_all(&directory);
        let lane = Lane(options.lane);
        let shape = options.shape();
        let network = Network::new(lane, shape)?;
        let store = S3Server::start_at(&lane.harness()).await;
        let (binary, endpoint) = (&options.binary, store.endpoint());
        let cluster = Cluster::start(lane, binary, &directory, &endpoint, shape, layout)?;
        create_topic(&cluster.bootstrap(), options).await?;
        let notes = Arc::new(Notes::default());
        let bootstrap = cluster.bootstrap();
        let clients = (0..PRODUCERS)
            .map(|_| tokio::spawn(workload::produce(bootstrap.clone(), notes.clone())))
            .collect();
        let (committing, at) = (notes.clone(), bootstrap.clone());
        let committer = std::thread::spawn(move || workload::commit(&at, &committing));
        let (following, at) = (notes.clone(), bootstrap);
        let reader = std::thread::spawn(move || workload::follow(&at, &following));
        Ok(Self {
            network,
            store,
            cluster,
            notes,
            began: Instant::now(),
            clients,
            reborn: None,
            lives: Arc::default(),
            purges: Arc::default(),
            reader: Some(reader),
            committer: Some(committer),
        })
    }

    /// Begins to delete topics and records under the clients of this history.
    fn begin_deletions(&mut self) {
        let addresses = self.cluster.addresses();
        let (at, notes, lives) = (addresses.clone(), self.notes.clone(), self.lives.clone());
        let living = async move { reborn::live(at, &notes, &lives).await };
        self.reborn = Some(tokio::spawn(living));
        for topic in purged::TOPICS {
            let (at, notes, purges) = (addresses.clone(), self.notes.clone(), self.purges.clone());
            let purging = async move { purged::purge(at, topic, &notes, &purges).await };
            self.clients.push(tokio::spawn(purging));
        }
    }

    /// Reads the topics that were deleted, and those whose records were deleted.
    async fn check_deletions(&self) -> Result<Vec<String>, String> {
        if self.reborn.is_none() {
            return Ok(Vec::new());
        }
        let addresses = self.cluster.addresses();
        let mut found = reborn::check_last(addresses.clone(), &self.lives, RECOVERY).await?;
        let purges = self.purges.lock().expect("no holder panics").clone();
        if purges.len() != purged::TOPICS.len() {
            found.push("a topic to delete records from was never made".into());
        }
        for purge in &purges {
            found.extend(purged::check_at_the_end(addresses.clone(), purge, RECOVERY).await?);
        }
        Ok(found)
    }

    /// Waits until something is acknowledged again.
    pub async fn wait_for_progress(&self) -> Result<(), String> {
        let (before, began) = (self.notes.acknowledged(), Instant::now());
        while self.notes.acknowledged() <= before {
            if began.elapsed() > RECOVERY {
                return Err(format!("nothing was acknowledged for {RECOVERY:?}"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Heals everything, stops the clients and compares.
    pub async fn end(mut self) -> Result<Summary, String> {
        self.network.heal()?;
        self.store.heal();
        for id in self.cluster.all_ids() {
            self.cluster.set_clock(id, 0)?;
            self.cluster.launch(id)?;
        }
        self.notes.settle.store(true, Ordering::Release);
        if let Some(living) = &mut self.reborn {
            let last = tokio::time::timeout(RECOVERY, living).await;
            last.map_err(|_| "a topic can no more be deleted or made again")?
                .map_err(|e| e.to_string())?;
        }
        self.wait_for_progress().await?;
        let recovery = self.cluster.wait_until_in_sync(RECOVERY).await?;
        self.notes.stop.store(true, Ordering::Release);
        for client in &mut self.clients {
            client.await.map_err(|e| e.to_string())?;
        }
        if let Some(reader) = self.reader.take() {
            let read = reader.join().map_err(|_| "the reader panicked")?;
            read.map_err(|e| format!("the reader was told: {e}"))?;
        }
        if let Some(committer) = self.committer.take() {
            committer.join().map_err(|_| "the committer panicked")?;
        }
        let bootstrap = self.cluster.bootstrap();
        let reading = tokio::task::spawn_blocking(move || workload::read_all(&bootstrap, RECOVERY));
        let log = reading.await.map_err(|e| e.to_string())??;
        let sent = self.notes.sent.lock().expect("no holder panics").clone();
        let seen = self.notes.seen.lock().expect("no holder panics").clone();
        let anomalies = checker::check(&sent, &log, &seen);
        let mut complaints: Vec<String> = anomalies
            .iter()
            .take(10)
            .map(|anomaly| format!("{anomaly:?}"))
            .collect();
        if anomalies.len() > complaints.len() {
            complaints.push(format!("{} anomalies in all", anomalies.len()));
        }
        complaints.append(&mut self.notes.complaints.lock().expect("no holder panics"));
        complaints.extend(self.check_deletions().await?);
        if self.notes.commits.load(Ordering::Acquire) == 0 {
            complaints.push("no offset was committed and read back".into());
        }
        if !self.store.keys().iter().any(|k| k.ends_with(".log")) {
            complaints.push("no segment came to the cold tier".into());
        }
        self.cluster.wait_until_in_sync(RECOVERY).await?;
        for id in self.cluster.all_ids() {
            if !self.cluster.stop(id) {
                complaints.push(format!("node {id} did not stop when it was asked to"));
            }
        }
        let ids = self.cluster.ids().into_iter();
        let data: Vec<PathBuf> = ids
            .flat_map(|id| self.cluster.log_directories(id))
            .collect();
        let mut topics = vec![(TOPIC, PARTITIONS)];
        if self.reborn.is_some() {
            topics.push((reborn::TOPIC, reborn::PARTITIONS));
            topics.extend(purged::TOPICS.map(|topic| (topic, purged::PARTITIONS)));
        }
        complaints.extend(replicas::differences(&data, &topics)?);
        if !complaints.is_empty() {
            return Err(complaints.join("\n    "));
        }
        self.cluster.passed = true;
        let purges = self.purges.lock().expect("no holder panics");
        Ok(Summary {
            lives: self.lives.count(),
            purges: purges.iter().map(|(_, _, p)| p.deletions).sum(),
            acknowledged: self.notes.acknowledged(),
            sent: sent.len(),
            longest_gap: self.notes.longest_gap(self.began),
            recovery,
        })
    }
}

async fn create_topic(bootstrap: &str, options: &Options) -> Result<(), String> {
    let segment_bytes = options.segment_bytes;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()
        .map_err(|e| e.to_string())?;
    let probed = NewTopic::new(PROBED, 1, TopicReplication::Fixed(REPLICAS));
    let (segment, local) = (segment_bytes.to_string(), (3 * segment_bytes).to_string());
    let never = i64::MAX.to_string();
    let flush = if options.unflushed { &never } else { "1" };
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(REPLICAS))
        .set("flush.messages", flush)
        .set("min.insync.replicas", "2")
        .set("internal.segment.bytes", &segment)
        .set("remote.storage.enable", "true")
        .set("local.retention.bytes", &local)
        .set("retention.ms", "-1")
        // A broker whose wall clock is a day behind must take what its clients stamp; Kafka would refuse it, too.
        .set("message.timestamp.after.max.ms", &never);
    let began = Instant::now();
    loop {
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(5)));
        let created = admin.create_topics([&topic, &probed], &options).await;
        let exists = |r: &Result<String, (String, RDKafkaErrorCode)>| {
            matches!(r, Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)))
        };
        match created.as_deref() {
            Ok(results) if results.iter().all(exists) => return Ok(()),
            other if began.elapsed() > RECOVERY => return Err(format!("no topic: {other:?}")),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

pub async fn run(options: &Options, faults: &[Nemesis], number: u64) -> Result<Summary, String> {
    let mut random = StdRng::seed_from_u64(options.seed.wrapping_add(number));
    let mut history = History::begin(options, &format!("history{number}")).await?;
    history.wait_for_progress().await?;
    history.begin_deletions();
    history.began = Instant::now();
    let began = history.began;
    // Every fault has its turn over the histories, in another order in each.
    let mut turn = number as usize * 5;
    while began.elapsed() < Duration::from_secs(options.seconds) {
        let nemesis = faults[turn % faults.len()];
        turn += 1 + random.random_range(0..2);
        println!("  {:>5.1} s {nemesis:?}", began.elapsed().as_secs_f64());
        nemesis
            .strike(
                &mut history.cluster,
                &history.network,
                &history.store,
                &mut random,
            )
            .await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(500..3000))).await;
    }
    history.end().await
}
