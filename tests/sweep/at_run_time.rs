//! A broker's keys changed while it is written to: set, tried, stopped and started with the value, deleted again.

use crate::Sweep;
use crate::at_start::{failed, has_effect, properties};
use crate::process::{Process, Start, start};
use crate::records::{Acknowledged, BROKER, TIERED, Trouble, alter, connect, connection, create};
use crate::report::{Report, Verdict};
use crate::values::Pair;

pub const PHASE: &str = "while producing, a broker's";

/// Keys whose values may delete all records that were written so far.
const DELETES: [&str; 2] = ["log.retention.ms", "log.retention.bytes"];
const NODE: &str = "1";
/// Pairs that one broker sees, one after the other.
const CHUNK: usize = 40;

/// A running broker and the records that it must keep.
struct Host {
    directory: tempfile::TempDir,
    process: Process,
    kept: Acknowledged,
}

impl Sweep {
    pub async fn at_run_time(&self, pairs: &[Pair], report: &mut Report) {
        for chunk in pairs.chunk_by(|a, b| a.key == b.key) {
            for chunk in chunk.chunks(CHUNK) {
                let mut host = None;
                for pair in chunk {
                    let verdict = match self.one(&mut host, pair).await {
                        // Perhaps the pairs before it are at fault, or the machine was busy.
                        Verdict::Failed(_) => {
                            host = None;
                            self.one(&mut host, pair).await
                        }
                        verdict => verdict,
                    };
                    if matches!(verdict, Verdict::Failed(_)) {
                        host = None;
                    }
                    report.note(PHASE, pair, verdict);
                }
                if let Some(Err(error)) = host.map(|host| host.process.stop()) {
                    let last = chunk.last().expect("chunks are not empty");
                    report.note(
                        PHASE,
                        last,
                        Verdict::Failed(format!("the last stop: {error}")),
                    );
                }
            }
        }
    }

    async fn host(&self) -> Result<Host, String> {
        let directory = self.directory().map_err(|e| e.to_string())?;
        let process = match start(
            &self.binary,
            directory.path(),
            &properties(directory.path(), &[]),
        )? {
            Start::Up(process) => process,
            Start::Refused(reason) => return Err(reason),
        };
        let mut kept = Acknowledged::default();
        let filled = async {
            let mut client = connect(address(&process)).await?;
            create(&mut client, "t", &TIERED).await?;
            kept.produce(&mut client, "t", 10).await
        };
        filled.await.map_err(Trouble::text)?;
        Ok(Host {
            directory,
            process,
            kept,
        })
    }

    async fn one(&self, host: &mut Option<Host>, pair: &Pair) -> Verdict {
        let taken = match host.take() {
            Some(host) => Ok(host),
            None => self.host().await,
        };
        let mut taken = match taken {
            Ok(host) => host,
            Err(error) => return Verdict::Failed(format!("a broker without it: {error}")),
        };
        taken.kept.may_lose_the_oldest |= DELETES.contains(&pair.key.as_str());
        let verdict = match taken.set(pair).await {
            Ok(verdict) => verdict,
            Err(trouble) => return failed(taken.process, "set", &trouble.text()),
        };
        if matches!(verdict, Verdict::Refused(_)) {
            *host = Some(taken);
            return verdict;
        }
        if has_effect(pair) && !self.short {
            if let Err(error) = taken.process.stop() {
                return Verdict::Failed(format!("stopped with it: {error}"));
            }
            let directory = taken.directory.path();
            match start(&self.binary, directory, &properties(directory, &[])) {
                Ok(Start::Up(process)) => taken.process = process,
                Ok(Start::Refused(reason)) => {
                    return Verdict::Failed(format!("not started with it: {reason}"));
                }
                Err(error) => return Verdict::Failed(format!("not started with it: {error}")),
            }
        }
        match taken.unset(pair).await {
            Ok(()) => {
                *host = Some(taken);
                verdict
            }
            Err(trouble) => failed(taken.process, "deleted again", &trouble.text()),
        }
    }
}

fn address(process: &Process) -> &str {
    process.address.as_deref().unwrap_or_default()
}

impl Host {
    async fn set(&mut self, pair: &Pair) -> Result<Verdict, Trouble> {
        let mut client = connect(address(&self.process)).await?;
        let mut admin = connection(address(&self.process)).await?;
        let resource = (BROKER, NODE);
        match alter(&mut admin, resource, &pair.key, Some(&pair.value)).await {
            Ok(()) => {}
            Err(Trouble::Refused(reason)) if reason.len() < 2000 => {
                return Ok(Verdict::Refused(reason));
            }
            Err(trouble) => return Err(trouble),
        }
        // A value may forbid new records; it must not lose the old ones.
        let produced = self.kept.produce(&mut client, "t", 2).await;
        let checked = self.kept.check(&mut client, "t").await;
        match produced.and(checked) {
            Ok(()) => Ok(Verdict::Served),
            Err(Trouble::Refused(reason)) => Ok(Verdict::Closed(reason)),
            Err(wrong) => Err(wrong),
        }
    }

    async fn unset(&mut self, pair: &Pair) -> Result<(), Trouble> {
        let mut admin = connection(address(&self.process)).await?;
        alter(&mut admin, (BROKER, NODE), &pair.key, None).await?;
        let mut client = connect(address(&self.process)).await?;
        self.kept.produce(&mut client, "t", 1).await?;
        self.kept.check(&mut client, "t").await
    }
}
