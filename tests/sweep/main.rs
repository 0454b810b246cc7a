//! Every key with its extremes and with nonsense values, on real processes: `tests/sweep/run` builds and starts this.
//! No broker may end, hang for more than five seconds, or lose a record or a position.
//!
//! `values` has the values of a key; `at_start`, `at_run_time` and `topics` try them. Keys without an effect are tried
//! together, and one by one only if that fails. A key whose ends were not tried fails the sweep.

mod at_run_time;
mod at_start;
mod process;
mod records;
mod report;
mod topics;
mod values;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use strandline_metadata::config::{ConfigDef, DynamicMode, broker_defs, topic_defs};
use tempfile::TempDir;

use crate::at_start::has_effect;
use crate::report::{Report, Verdict};
use crate::values::Pair;

#[derive(Parser)]
struct Options {
    /// The broker that is tested.
    #[arg(long)]
    binary: PathBuf,
    /// Where brokers keep their data; memory is fastest.
    #[arg(long)]
    work: Option<PathBuf>,
    /// Of numbers, only the ends of their ranges, and at start only keys that have an effect.
    #[arg(long)]
    short: bool,
    /// Only these phases: start, broker, topic.
    #[arg(long, value_delimiter = ',')]
    phases: Vec<String>,
    /// Only keys that contain this.
    #[arg(long)]
    key: Option<String>,
    /// A part of the keys, such as 1/4.
    #[arg(long)]
    part: Option<String>,
}

pub struct Sweep {
    binary: PathBuf,
    work: PathBuf,
    short: bool,
}

impl Sweep {
    fn directory(&self) -> std::io::Result<TempDir> {
        TempDir::with_prefix_in("sweep-", &self.work)
    }

    async fn all_at_start(&self, pairs: &[Pair], report: &mut Report) {
        let (alone, together): (Vec<&Pair>, Vec<&Pair>) = pairs.iter().partition(|p| has_effect(p));
        for pair in alone {
            let verdict = match self.at_start(pair).await {
                // Once more: the machine may have been busy.
                Verdict::Failed(_) => self.at_start(pair).await,
                verdict => verdict,
            };
            report.note(at_start::PHASE, pair, verdict);
        }
        // Each round has one value of each key; other values of the key wait for a later round.
        let mut rest: Vec<&Pair> = together;
        while !rest.is_empty() {
            let mut round: Vec<&Pair> = Vec::new();
            let mut later = Vec::new();
            let empty = std::path::Path::new("/");
            for pair in rest {
                if let Some(reason) = at_start::refusal(empty, &[pair]) {
                    report.note(at_start::PHASE, pair, Verdict::Refused(reason));
                } else if round.iter().any(|other| other.key == pair.key) {
                    later.push(pair);
                } else {
                    // Some values are legal by themselves only.
                    round.push(pair);
                    if at_start::refusal(empty, &round).is_some() {
                        round.pop();
                        let verdict = self.at_start(pair).await;
                        report.note(at_start::PHASE, pair, verdict);
                    }
                }
            }
            let verdict = self.together(&round).await;
            for pair in round {
                let verdict = match &verdict {
                    Verdict::Served => Verdict::Served,
                    _ => self.at_start(pair).await,
                };
                report.note(at_start::PHASE, pair, verdict);
            }
            rest = later;
        }
    }
}

/// The keys of the part that was asked for.
fn part_of<'a>(
    defs: impl Iterator<Item = &'a ConfigDef>,
    options: &Options,
) -> Result<Vec<&'a ConfigDef>, String> {
    let (part, parts) = match &options.part {
        None => (1, 1),
        Some(text) => {
            let numbers = text.split_once('/');
            let numbers = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            numbers
                .filter(|(part, parts): &(usize, usize)| (1..=*parts).contains(part))
                .ok_or_else(|| format!("--part {text}: not a part such as 1/4"))?
        }
    };
    let wanted = |def: &&ConfigDef| options.key.as_ref().is_none_or(|k| def.name.contains(k));
    let all = defs.filter(wanted).enumerate();
    let mine = all.filter(|(number, _)| number % parts == part - 1);
    Ok(mine.map(|(_, def)| def).collect())
}

async fn run(options: Options) -> Result<bool, String> {
    let began = Instant::now();
    let brokers = part_of(broker_defs().filter(|d| !d.internal), &options)?;
    let topics = part_of(topic_defs().filter(|d| !d.internal), &options)?;
    let wants =
        |phase: &str| options.phases.is_empty() || options.phases.iter().any(|p| p == phase);
    let sweep = Sweep {
        binary: options.binary.clone(),
        work: options.work.clone().unwrap_or_else(std::env::temp_dir),
        short: options.short,
    };
    let mut report = Report::default();
    let mut untried = Vec::new();
    let effective = |def: &&ConfigDef| {
        has_effect(&Pair {
            key: def.name.clone(),
            value: String::new(),
        })
    };
    if wants("start") {
        let pairs: Vec<Pair> = if options.short {
            let with_effect = brokers.iter().copied().filter(effective);
            with_effect.flat_map(values::ends).collect()
        } else {
            brokers.iter().flat_map(|def| values::all(def)).collect()
        };
        sweep.all_at_start(&pairs, &mut report).await;
        let with_effect = brokers.iter().copied().filter(effective);
        untried.extend(report.untried(at_start::PHASE, with_effect));
    }
    if wants("broker") {
        let dynamic = brokers
            .iter()
            .copied()
            .filter(|d| d.dynamic != DynamicMode::ReadOnly);
        let dynamic: Vec<&ConfigDef> = if options.short {
            dynamic.filter(effective).collect()
        } else {
            dynamic.collect()
        };
        let pairs: Vec<Pair> = dynamic.iter().flat_map(|def| values::all(def)).collect();
        sweep.at_run_time(&pairs, &mut report).await;
        untried.extend(report.untried(at_run_time::PHASE, dynamic.into_iter()));
    }
    if wants("topic") {
        let values = |def: &&ConfigDef| match values::ends(def) {
            ends if options.short && !ends.is_empty() => ends,
            _ => values::all(def),
        };
        let pairs: Vec<Pair> = topics.iter().flat_map(values).collect();
        sweep.topics(&pairs, &mut report).await;
        for phase in [topics::CREATION, topics::CHANGE] {
            untried.extend(report.untried(phase, topics.iter().copied()));
        }
    }
    report.print();
    for end in &untried {
        println!("FAILED: not tried: {end}");
    }
    println!(
        "{} failed, {:.0?}",
        report.failed() + untried.len(),
        began.elapsed()
    );
    Ok(report.failed() == 0 && untried.is_empty())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sweep: {error}");
            ExitCode::FAILURE
        }
    }
}
