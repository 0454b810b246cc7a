//! Real processes, real faults, and a checker: `tests/chaos/run` builds and starts this. Needs root, `ip`, `iptables`
//! and `gcc`. `history` runs one history; `measures` and `clock_steps` run the measurements.

mod checker;
mod clock_steps;
mod cluster;
mod deletions;
mod direct;
mod disks;
mod dying;
mod history;
mod measures;
mod moves;
mod nemesis;
mod purged;
mod reborn;
mod replicas;
mod shims;
mod silence;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::cluster::Shape;
use crate::history::Summary;
use crate::nemesis::Nemesis;

/// Of every partition.
const REPLICAS: i32 = 3;
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
    /// How long each history applies faults.
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    #[arg(long, default_value_t = 3)]
    brokers: i32,
    /// Processes that are controllers only; with none, every broker is one.
    #[arg(long, default_value_t = 0)]
    controllers: i32,
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
    /// Instead of histories: set the wall clock of one node and set it back this many times; what stands still meanwhile.
    #[arg(long)]
    clock_steps: Option<usize>,
    /// Instead of histories: deletes this many topics, kills the broker that deletes their objects half-way, and
    /// measures when the bucket is empty of them.
    #[arg(long)]
    deletions: Option<usize>,
    /// Instead of histories: do something to the disk of a leader this many times; how long its partition is silent.
    #[arg(long)]
    directories: Option<usize>,
    /// Instead of histories: pause or isolate the leader this many times; how long its partition is silent.
    #[arg(long)]
    silence: Option<usize>,
    /// Instead of histories: for so many seconds on busy processors, pause controllers and stall disks; nobody is fenced.
    #[arg(long)]
    false_alarms: Option<u64>,
    /// Where data and logs of failed histories stay.
    #[arg(long, default_value = "target/chaos")]
    keep: PathBuf,
}

impl Options {
    fn shape(&self) -> Shape {
        Shape {
            brokers: self.brokers,
            controllers: self.controllers,
        }
    }

    /// Where a history's data and logs are: of each lane elsewhere, as lanes run side by side.
    fn directory(&self, name: &str) -> PathBuf {
        self.keep.join(format!("lane{}", self.lane)).join(name)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    if options.brokers < REPLICAS || options.controllers < 0 {
        eprintln!("a partition has {REPLICAS} replicas: there must be as many brokers");
        return ExitCode::FAILURE;
    }
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
        Some(measures::failovers(&options, count).await)
    } else if let Some(count) = options.controller_kills {
        Some(measures::controller_kills(&options, count).await)
    } else if let Some(count) = options.restarts {
        Some(measures::restarts(&options, count).await)
    } else if let Some(count) = options.clock_steps {
        Some(clock_steps::run(&options, count).await)
    } else if let Some(count) = options.directories {
        Some(dying::run(&options, &faults, count).await)
    } else if let Some(count) = options.silence {
        Some(silence::run(&options, count).await)
    } else if let Some(seconds) = options.false_alarms {
        Some(silence::false_alarms(&options, seconds).await)
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
        match history::run(&options, &faults, number).await {
            Ok(summary) => {
                println!(
                    "  {} of {} records acknowledged, longest gap of a partition {:.1} s, from {:.1} s on, in sync again after {:.1} s",
                    summary.acknowledged,
                    summary.sent,
                    summary.longest_gap.0.as_secs_f64(),
                    summary.longest_gap.1.as_secs_f64(),
                    summary.recovery.as_secs_f64()
                );
                println!(
                    "  a topic was made again {} times, {} of its lives were read to the end; {} deletions of records",
                    summary.lives.0, summary.lives.1, summary.purges
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
