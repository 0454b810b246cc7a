//! A broker's keys in the properties file: a new broker with the value, then without it, then with it again.

use std::path::Path;

use strandline_broker::settings::{Properties, PropertySource, Settings};
use strandline_metadata::config::{broker_def, reason_without_effect};

use crate::Sweep;
use crate::process::{Process, Start, start};
use crate::records::{
    Acknowledged, HOT, TIERED, Trouble, check_committed, commit, connect, copied, create,
};
use crate::report::Verdict;
use crate::values::Pair;

pub const PHASE: &str = "at start";

/// Keys that let a broker delete records by age or size.
const DELETES: [&str; 4] = [
    "log.retention.ms",
    "log.retention.minutes",
    "log.retention.hours",
    "log.retention.bytes",
];
/// Keys that identify the broker or the place of its data: with another value, it is another broker.
const IDENTITY: [&str; 7] = [
    "node.id",
    "broker.id",
    "process.roles",
    "strandline.cluster.id",
    "log.dirs",
    "metadata.log.dir",
    "log.dir",
];
/// With a few bytes a second, cold records are slow to come.
const SLOW: &str = "remote.log.manager.fetch.max.bytes.per.second";
/// A start with it waits for controllers elsewhere.
const WAITS: &str = "waiting for the controllers";

/// The file of a broker with a cold tier in a directory and short intervals.
pub fn properties(directory: &Path, pairs: &[&Pair]) -> Vec<(String, String)> {
    let path = |name: &str| directory.join(name).display().to_string();
    let store = format!("file://{}", path("cold"));
    let base = [
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("strandline.http.listener", "127.0.0.1:0"),
        ("log.dirs", &path("log")),
        ("offsets.topic.num.partitions", "1"),
        ("offsets.topic.replication.factor", "1"),
        ("remote.log.storage.system.enable", "true"),
        ("remote.log.manager.task.interval.ms", "50"),
        ("remote.log.manager.task.retry.backoff.ms", "20"),
        ("strandline.remote.store.url", &store),
    ];
    let set = |key: &str| pairs.iter().any(|pair| pair.key == key);
    let base = base.into_iter().filter(|(key, _)| !set(key));
    let base = base.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let tried = pairs
        .iter()
        .map(|pair| (pair.key.clone(), pair.value.clone()));
    base.chain(tried).collect()
}

/// The reason for which a start refuses the pairs before it changes anything; `None` if it accepts them.
pub fn refusal(directory: &Path, pairs: &[&Pair]) -> Option<String> {
    let mut given = Properties::default();
    let mut overrides = Vec::new();
    for (key, value) in properties(directory, pairs) {
        given.set(key.clone(), value.clone(), PropertySource::File);
        overrides.push((key, value));
    }
    let loaded = Properties::load(None, [], &overrides);
    let resolved = loaded.and_then(|properties| Settings::resolve(&properties));
    resolved.err().map(|error| error.to_string())
}

impl Sweep {
    /// One key with one value.
    pub async fn at_start(&self, pair: &Pair) -> Verdict {
        let directory = match self.directory() {
            Ok(directory) => directory,
            Err(error) => return Verdict::Failed(error.to_string()),
        };
        if let Some(reason) = refusal(directory.path(), &[pair]) {
            // A rule between two keys may name the other one.
            let named = reason.split_once(": ").map(|(key, _)| key);
            let names = named.is_some_and(|key| broker_def(key).is_some());
            return if names && reason.len() < 2000 {
                Verdict::Refused(reason)
            } else {
                Verdict::Failed(format!("the refusal does not name the key: {reason}"))
            };
        }
        self.lives(directory.path(), &[pair]).await
    }

    /// Pairs of keys that have no effect, all at once.
    pub async fn together(&self, pairs: &[&Pair]) -> Verdict {
        match self.directory() {
            Ok(directory) => self.lives(directory.path(), pairs).await,
            Err(error) => Verdict::Failed(error.to_string()),
        }
    }

    /// Starts with the values, without, and with them again; all records must be there each time.
    async fn lives(&self, directory: &Path, pairs: &[&Pair]) -> Verdict {
        let mut kept = Kept::default();
        kept.hot.may_lose_the_oldest = pairs.iter().any(|p| DELETES.contains(&p.key.as_str()));
        kept.tiered.may_lose_the_oldest = kept.hot.may_lose_the_oldest;
        let slow = pairs.iter().any(|p| p.key == SLOW);
        let identity = pairs.iter().any(|p| IDENTITY.contains(&p.key.as_str()));
        let first = match start(&self.binary, directory, &properties(directory, pairs)) {
            Ok(Start::Up(process)) => process,
            Ok(Start::Refused(reason)) => return Verdict::Refused(reason),
            Err(error) if error.contains(WAITS) => return Verdict::Closed(error),
            Err(error) => return Verdict::Failed(error),
        };
        let mut verdict = match kept.fill(&first).await {
            Ok(true) => Verdict::Served,
            Ok(false) => Verdict::NotCopied,
            Err(Trouble::Refused(reason)) => Verdict::Closed(reason),
            Err(Trouble::Wrong(reason)) if slow && reason.contains("was not read in") => {
                Verdict::Closed(reason)
            }
            Err(Trouble::Wrong(reason)) => return failed(first, "new", &reason),
        };
        if let Err(error) = first.stop() {
            return Verdict::Failed(format!("new: {error}"));
        }
        let again: &[&[&Pair]] = if self.short { &[&[]] } else { &[&[], pairs] };
        for (number, pairs) in again.iter().enumerate() {
            let turn = ["without it", "with it again"][number];
            let process = match start(&self.binary, directory, &properties(directory, pairs)) {
                Ok(Start::Up(process)) => process,
                // The start must refuse to be another broker.
                Ok(Start::Refused(_)) if identity && number == 0 => continue,
                Ok(Start::Refused(reason)) => {
                    return Verdict::Failed(format!("{turn}: refused: {reason}"));
                }
                Err(error) => return Verdict::Failed(format!("{turn}: {error}")),
            };
            let checked = if identity && number == 0 {
                Ok(())
            } else {
                kept.check(&process).await
            };
            match checked {
                Ok(()) => {}
                Err(Trouble::Wrong(reason))
                    if slow && number == 1 && reason.contains("was not read in") => {}
                Err(Trouble::Refused(reason))
                    if matches!(verdict, Verdict::Closed(_)) && number == 1 =>
                {
                    verdict = Verdict::Closed(reason);
                }
                Err(trouble) => return failed(process, turn, &trouble.text()),
            }
            if let Err(error) = process.stop() {
                return Verdict::Failed(format!("{turn}: {error}"));
            }
        }
        verdict
    }
}

/// A failure, with the last output of the process.
pub fn failed(mut process: Process, turn: &str, reason: &str) -> Verdict {
    let ended = process
        .ended()
        .map(|status| format!("; the process ended with {status}"));
    let last = process.last_line();
    Verdict::Failed(format!(
        "{turn}: {reason}{}; last line: {last}",
        ended.unwrap_or_default()
    ))
}

/// Records and positions that a broker must keep.
#[derive(Default)]
struct Kept {
    hot: Acknowledged,
    tiered: Acknowledged,
    has_tier: bool,
    committed: bool,
}

const POSITION: i64 = 7;

impl Kept {
    /// Fills two topics and commits a position; whether the one with a cold tier was copied.
    async fn fill(&mut self, process: &Process) -> Result<bool, Trouble> {
        let Some(address) = &process.address else {
            return Err(Trouble::Refused("a process without clients".into()));
        };
        let mut client = connect(address).await?;
        create(&mut client, "hot", &HOT).await?;
        self.has_tier = create(&mut client, "tiered", &TIERED).await.is_ok();
        self.hot.produce(&mut client, "hot", 10).await?;
        let mut copied_in_time = true;
        if self.has_tier {
            self.tiered.produce(&mut client, "tiered", 10).await?;
            copied_in_time = copied(&mut client, "tiered").await?;
        }
        commit(address, "hot", POSITION).await?;
        self.committed = true;
        self.check(process).await?;
        Ok(copied_in_time)
    }

    async fn check(&self, process: &Process) -> Result<(), Trouble> {
        let Some(address) = &process.address else {
            return Ok(());
        };
        let mut client = connect(address).await?;
        self.hot.check(&mut client, "hot").await?;
        if self.has_tier {
            self.tiered.check(&mut client, "tiered").await?;
        }
        if self.committed {
            check_committed(address, "hot", POSITION).await?;
        }
        Ok(())
    }
}

/// Whether a broker's key changes what the broker does.
pub fn has_effect(pair: &Pair) -> bool {
    broker_def(&pair.key).is_some_and(|def| reason_without_effect(&def.name).is_none())
}
