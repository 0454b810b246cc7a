//! A topic's keys: at its creation, and changed while it is written to; then a restart.

use crate::Sweep;
use crate::at_start::properties;
use crate::process::{Process, Start, start};
use crate::records::{
    Acknowledged, TIERED, TOPIC, Trouble, alter, connect, connection, copied, create,
};
use crate::report::{Report, Verdict};
use crate::values::Pair;

pub const CREATION: &str = "at a topic's creation";
pub const CHANGE: &str = "while producing, a topic's";

/// Keys whose values may delete records.
const DELETES: [&str; 2] = ["retention.ms", "retention.bytes"];
/// Pairs that one broker sees: each has a topic of its own.
const CHUNK: usize = 30;

/// When a topic gets its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Created,
    Changed,
}

impl When {
    fn phase(self) -> &'static str {
        match self {
            Self::Created => CREATION,
            Self::Changed => CHANGE,
        }
    }
}

impl Sweep {
    pub async fn topics(&self, pairs: &[Pair], report: &mut Report) {
        for when in [When::Created, When::Changed] {
            for chunk in pairs.chunks(CHUNK) {
                let pairs: Vec<&Pair> = chunk.iter().collect();
                match self.chunk(when, &pairs).await {
                    Ok(verdicts) => {
                        for (pair, verdict) in pairs.iter().zip(verdicts) {
                            report.note(when.phase(), pair, verdict);
                        }
                    }
                    // One of the pairs is at fault, or the machine was busy: try each by itself.
                    Err(_) => {
                        for pair in pairs {
                            let alone = self.chunk(when, &[pair]).await;
                            let verdict = match alone {
                                Ok(mut verdicts) => verdicts.remove(0),
                                Err(error) => Verdict::Failed(error),
                            };
                            report.note(when.phase(), pair, verdict);
                        }
                    }
                }
            }
        }
    }

    /// A broker with a topic for each pair; a restart; everything is there.
    async fn chunk(&self, when: When, pairs: &[&Pair]) -> Result<Vec<Verdict>, String> {
        let directory = self.directory().map_err(|e| e.to_string())?;
        let launch = || {
            start(
                &self.binary,
                directory.path(),
                &properties(directory.path(), &[]),
            )
        };
        let up = |started: Result<Start, String>| match started? {
            Start::Up(process) => Ok(process),
            Start::Refused(reason) => Err(reason),
        };
        let mut process = up(launch())?;
        let mut verdicts = Vec::new();
        let mut kept = Vec::new();
        for (number, pair) in pairs.iter().enumerate() {
            let topic = format!("t{number}");
            let mut acknowledged = Acknowledged::default();
            acknowledged.may_lose_the_oldest = DELETES.contains(&pair.key.as_str());
            let tried = try_topic(&process, when, &topic, pair, &mut acknowledged).await;
            verdicts.push(tried.map_err(|trouble| at_fault(&mut process, trouble))?);
            kept.push((topic, acknowledged));
        }
        process.stop()?;
        let mut process = up(launch())?;
        let checked = async {
            let mut client = connect(process.address.as_deref().unwrap_or_default()).await?;
            for (topic, acknowledged) in &kept {
                acknowledged.check(&mut client, topic).await?;
            }
            Ok(())
        };
        if let Err(trouble) = checked.await {
            return Err(format!(
                "after a restart: {}",
                at_fault(&mut process, trouble)
            ));
        }
        process
            .stop()
            .map_err(|error| format!("after a restart: {error}"))?;
        Ok(verdicts)
    }
}

fn at_fault(process: &mut Process, trouble: Trouble) -> String {
    let ended = process
        .ended()
        .map(|status| format!("; the process ended with {status}"));
    let last = process.last_line();
    format!(
        "{}{}; last line: {last}",
        trouble.text(),
        ended.unwrap_or_default()
    )
}

async fn try_topic(
    process: &Process,
    when: When,
    topic: &str,
    pair: &Pair,
    kept: &mut Acknowledged,
) -> Result<Verdict, Trouble> {
    let address = process.address.as_deref().unwrap_or_default();
    let mut client = connect(address).await?;
    let mut configs: Vec<(&str, &str)> = TIERED.to_vec();
    if when == When::Created {
        configs.retain(|(key, _)| *key != pair.key);
        configs.push((&pair.key, &pair.value));
    }
    let refused = |trouble: Trouble| match trouble {
        Trouble::Refused(reason) if reason.len() < 2000 => Ok(Verdict::Refused(reason)),
        other => Err(other),
    };
    if let Err(trouble) = create(&mut client, topic, &configs).await {
        return if when == When::Created {
            refused(trouble)
        } else {
            Err(trouble)
        };
    }
    if when == When::Changed {
        kept.produce(&mut client, topic, 5).await?;
        let mut admin = connection(address).await?;
        let altered = alter(&mut admin, (TOPIC, topic), &pair.key, Some(&pair.value)).await;
        if let Err(trouble) = altered {
            kept.check(&mut client, topic).await?;
            return refused(trouble);
        }
    }
    // A value may forbid new records; it must not lose the old ones.
    let produced = kept.produce(&mut client, topic, 5).await;
    let in_time = copied(&mut client, topic).await?;
    kept.check(&mut client, topic).await?;
    match produced {
        Ok(()) if in_time => Ok(Verdict::Served),
        Ok(()) => Ok(Verdict::NotCopied),
        Err(Trouble::Refused(reason)) => Ok(Verdict::Closed(reason)),
        Err(wrong) => Err(wrong),
    }
}
