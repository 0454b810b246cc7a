//! Real processes, real faults, and a checker: `tests/chaos/run` builds and starts this. Needs root, `ip`, `iptables` and
//! `gcc`.
//!
//! A history is a cluster of three with clients that write and read, faults one after the other, and then: everything
//! healed, every replica in sync again within a minute, everything read back and compared with what the clients were
//! told, and the three logs compared with each other.

mod checker;
mod cluster;
mod deletions;
mod nemesis;
mod replicas;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use strandline_tests::S3Server;

use crate::cluster::{Cluster, Lane, Network};
use crate::nemesis::Nemesis;
use crate::workload::{Notes, PARTITIONS, PROBE, TOPIC};

const NODES: i32 = 3;
const PRODUCERS: usize = 3;
/// The topic that failovers are measured on.
const PROBED: &str = "probed";
/// After all faults are gone.
const RECOVERY: Duration = Duration::from_secs(60);

#[derive(Parser)]
struct Options {
    /// The broker that is tested.
    #[arg(long)]
    binary: PathBuf,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 4)]
    histories: u64,
    /// How long faults go on in each history.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Only these faults, by name (kill-leader, pause, …).
    #[arg(long, value_delimiter = ',')]
    faults: Vec<String>,
    /// Instead of histories: kill the leader this many times and measure how long its partition is silent.
    #[arg(long)]
    failovers: Option<usize>,
    /// Stop at the first history that fails.
    #[arg(long)]
    until_failure: bool,
    /// `segment.bytes` of the topic. Small ones go to the cold tier sooner.
    #[arg(long, default_value_t = 1 << 20)]
    segment_bytes: u32,
    /// The topic is not flushed before records are acknowledged, as Kafka's are: a process may die, no machine does.
    #[arg(long)]
    unflushed: bool,
    /// Several runs at once need numbers of their own.
    #[arg(long, default_value_t = 0)]
    lane: u8,
    /// Instead of histories: kill the active controller this many times; how long until there is another, and what
    /// partitions that it does not lead notice of it.
    #[arg(long)]
    controller_kills: Option<usize>,
    /// Instead of histories: stop and start the leader this many times; how long its partition is silent.
    #[arg(long)]
    restarts: Option<usize>,
    /// Instead of histories: delete this many topics and kill whoever is at work half-way; when is the bucket empty of them?
    #[arg(long)]
    deletions: Option<usize>,
    /// Where data and logs of failed histories stay.
    #[arg(long, default_value = "target/chaos")]
    keep: PathBuf,
}

impl Options {
    /// Where a history's data and logs are: of each lane elsewhere, as lanes run side by side.
    fn directory(&self, name: &str) -> PathBuf {
        self.keep.join(format!("lane{}", self.lane)).join(name)
    }
}

/// What a history without anomalies has to show.
#[derive(Default)]
struct Summary {
    acknowledged: usize,
    sent: usize,
    /// How long, and when it began.
    longest_gap: (Duration, Duration),
    recovery: Duration,
}

struct History {
    network: Network,
    store: S3Server,
    cluster: Cluster,
    notes: Arc<Notes>,
    /// When faults begin.
    began: Instant,
    clients: Vec<tokio::task::JoinHandle<()>>,
    reader: Option<std::thread::JoinHandle<Result<(), String>>>,
    committer: Option<std::thread::JoinHandle<()>>,
}

impl Drop for History {
    fn drop(&mut self) {
        // Clients of a history that failed must not write to the next one's cluster.
        self.notes.stop.store(true, Ordering::Release);
        for client in &self.clients {
            client.abort();
        }
    }
}

impl History {
    async fn begin(options: &Options, name: &str) -> Result<Self, String> {
        let directory = options.directory(name);
        let _ = std::fs::remove_dir_all(&directory);
        let lane = Lane(options.lane);
        let network = Network::new(lane, NODES)?;
        let store = S3Server::start_at(&lane.harness()).await;
        let cluster = Cluster::start(lane, &options.binary, &directory, &store.endpoint(), NODES)?;
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
            reader: Some(reader),
            committer: Some(committer),
        })
    }

    /// Waits until something is acknowledged again.
    async fn wait_for_progress(&self) -> Result<(), String> {
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
    async fn end(mut self) -> Result<Summary, String> {
        self.network.heal()?;
        self.store.heal();
        for id in self.cluster.ids() {
            self.cluster.launch(id)?;
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
        if self.notes.commits.load(Ordering::Acquire) == 0 {
            complaints.push("no offset was committed and read back".into());
        }
        if !self.store.keys().iter().any(|k| k.ends_with(".log")) {
            complaints.push("no segment came to the cold tier".into());
        }
        self.cluster.wait_until_in_sync(RECOVERY).await?;
        for id in self.cluster.ids() {
            if !self.cluster.stop(id) {
                complaints.push(format!("node {id} did not stop when it was asked to"));
            }
        }
        let data: Vec<PathBuf> = self
            .cluster
            .ids()
            .into_iter()
            .map(|id| self.cluster.data_directory(id))
            .collect();
        complaints.extend(replicas::differences(&data)?);
        if !complaints.is_empty() {
            return Err(complaints.join("\n    "));
        }
        self.cluster.passed = true;
        Ok(Summary {
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
    let probed = NewTopic::new(PROBED, 1, TopicReplication::Fixed(NODES));
    let (segment, local) = (segment_bytes.to_string(), (3 * segment_bytes).to_string());
    let never = i64::MAX.to_string();
    let flush = if options.unflushed { &never } else { "1" };
    let topic = NewTopic::new(TOPIC, PARTITIONS, TopicReplication::Fixed(NODES))
        .set("flush.messages", flush)
        .set("min.insync.replicas", "2")
        .set("internal.segment.bytes", &segment)
        .set("remote.storage.enable", "true")
        .set("local.retention.bytes", &local)
        .set("retention.ms", "-1");
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

async fn history(options: &Options, faults: &[Nemesis], number: u64) -> Result<Summary, String> {
    let mut random = StdRng::seed_from_u64(options.seed.wrapping_add(number));
    let mut history = History::begin(options, &format!("history{number}")).await?;
    history.wait_for_progress().await?;
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

/// Kills the leader of the first partition again and again; prints how long it acknowledges nothing.
async fn failovers(options: &Options, count: usize) -> Result<(), String> {
    let mut history = begin_probing(options, "failovers").await?;
    let mut silences = Vec::new();
    let mut heard_by_client = Vec::new();
    for _ in 0..count {
        history.cluster.wait_until_in_sync(RECOVERY).await?;
        let (controller, leader) = history.cluster.controller_and_leader(PROBED).await;
        let leader = leader.ok_or("the topic has no leader")?;
        let killed = Instant::now();
        history.cluster.kill(leader);
        // What the old leader had answered may still arrive.
        let in_flight = killed + Duration::from_millis(30);
        let (next, next_of_client) = loop {
            let of = |partition| history.notes.next_acknowledged(partition, in_flight);
            if let (Some(probe), Some(client)) = (of(PROBE), of(0)) {
                break (probe, client);
            }
            if killed.elapsed() > RECOVERY {
                return Err("nothing was acknowledged after a leader was killed".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let silence = (next - killed).as_millis();
        println!("  leader {leader}, controller {controller:?}: {silence} ms");
        silences.push(silence);
        heard_by_client.push((next_of_client - killed).as_millis());
        history.cluster.launch(leader)?;
    }
    println!("kill -9 of a leader to the next acknowledged record, {count} times:");
    print_times("probe", silences);
    print_times("librdkafka", heard_by_client);
    history.end().await.map(|_| ())
}

/// A cluster with clients, and with a probe that notes every acknowledgement.
async fn begin_probing(options: &Options, name: &str) -> Result<History, String> {
    let mut history = History::begin(options, name).await?;
    history.wait_for_progress().await?;
    let addresses = history.cluster.addresses();
    let noting = history.notes.clone();
    let probing = async move { workload::probe(addresses, PROBED, noting).await };
    history.clients.push(tokio::spawn(probing));
    Ok(history)
}

fn print_times(what: &str, mut times: Vec<u128>) {
    if times.is_empty() {
        return;
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    println!(
        "  {what}: p50 {} ms, p90 {} ms, p99 {} ms, max {} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

/// Kills the active controller again and again, when it does not lead the probed partition.
async fn controller_kills(options: &Options, count: usize) -> Result<(), String> {
    let mut history = begin_probing(options, "controllers").await?;
    let (mut elections, mut gaps) = (Vec::new(), Vec::new());
    while elections.len() < count {
        history.cluster.wait_until_in_sync(RECOVERY).await?;
        let (controller, leader) = history.cluster.controller_and_leader(PROBED).await;
        let controller = controller.ok_or("there is no active controller")?;
        if Some(controller) == leader {
            // Another one leads the partition afterwards.
            history.cluster.stop(controller);
            history.cluster.launch(controller)?;
            continue;
        }
        let killed = Instant::now();
        history.cluster.kill(controller);
        loop {
            let (now, _) = history.cluster.controller_and_leader(PROBED).await;
            if now.is_some_and(|id| id != controller) {
                break;
            }
            if killed.elapsed() > RECOVERY {
                return Err("there is no other controller".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        elections.push(killed.elapsed().as_millis());
        tokio::time::sleep(Duration::from_secs(1)).await;
        gaps.push(history.notes.gap_since(PROBE, killed).as_millis());
        history.cluster.launch(controller)?;
    }
    println!("kill -9 of the active controller, {count} times:");
    print_times("until another one is active", elections);
    print_times(
        "longest pause of a partition that another broker leads",
        gaps,
    );
    history.end().await.map(|_| ())
}

/// Stops and starts the leader again and again.
async fn restarts(options: &Options, count: usize) -> Result<(), String> {
    let mut history = begin_probing(options, "restarts").await?;
    let mut gaps = Vec::new();
    for _ in 0..count {
        history.cluster.wait_until_in_sync(RECOVERY).await?;
        let (_, leader) = history.cluster.controller_and_leader(PROBED).await;
        let leader = leader.ok_or("the topic has no leader")?;
        let asked = Instant::now();
        if !history.cluster.stop(leader) {
            return Err(format!("node {leader} did not stop when it was asked to"));
        }
        history.cluster.launch(leader)?;
        history.cluster.wait_until_in_sync(RECOVERY).await?;
        gaps.push(history.notes.gap_since(PROBE, asked).as_millis());
    }
    println!("a leader stops and starts, {count} times:");
    print_times("longest pause of its partition", gaps);
    history.end().await.map(|_| ())
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let named: Option<Vec<Nemesis>> = options.faults.iter().map(|f| Nemesis::named(f)).collect();
    let faults = match named {
        None => {
            eprintln!("known faults: {:?}", Nemesis::ALL);
            return ExitCode::FAILURE;
        }
        Some(named) if named.is_empty() => Nemesis::ALL.to_vec(),
        Some(named) => named,
    };
    let measured = if let Some(count) = options.failovers {
        Some(failovers(&options, count).await)
    } else if let Some(count) = options.controller_kills {
        Some(controller_kills(&options, count).await)
    } else if let Some(count) = options.restarts {
        Some(restarts(&options, count).await)
    } else if let Some(count) = options.deletions {
        Some(deletions::run(&options, count).await)
    } else {
        None
    };
    match measured {
        Some(Ok(())) => return ExitCode::SUCCESS,
        Some(Err(error)) => {
            println!("FAILED: {error}");
            return ExitCode::FAILURE;
        }
        None => {}
    }
    let mut total = Summary::default();
    let (mut passed, mut failed) = (0, 0);
    for number in 0..options.histories {
        println!("history {number}, seed {}", options.seed);
        match history(&options, &faults, number).await {
            Ok(summary) => {
                println!(
                    "  {} of {} records acknowledged, longest gap of a partition {:.1} s, from {:.1} s on, in sync again after {:.1} s",
                    summary.acknowledged,
                    summary.sent,
                    summary.longest_gap.0.as_secs_f64(),
                    summary.longest_gap.1.as_secs_f64(),
                    summary.recovery.as_secs_f64()
                );
                passed += 1;
                total.acknowledged += summary.acknowledged;
                total.longest_gap = total.longest_gap.max(summary.longest_gap);
                let name = format!("history{number}");
                let _ = std::fs::remove_dir_all(options.directory(&name));
            }
            Err(error) => {
                failed += 1;
                println!("  FAILED: {error}");
                if options.until_failure {
                    break;
                }
            }
        }
    }
    println!("{} records acknowledged", total.acknowledged);
    println!("chaos: {passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
