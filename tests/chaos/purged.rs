//! Topics whose records are deleted up to the middle of a batch while faults go on. Records at or above the log start
//! stay, and a deletion that was acknowledged is never undone.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use strandline_wire::ErrorCode;
use uuid::Uuid;

use crate::checker::{self, Outcome, Read, Sent};
use crate::direct::{Direct, EARLIEST, LATEST, Refusal};
use crate::workload::Notes;

/// Without and with a cold tier.
pub const TOPICS: [&str; 2] = ["purged", "purged-cold"];
pub const PARTITIONS: i32 = 1;
const PARTITION: i32 = 0;
const RECORDS_PER_BATCH: u64 = 7;
const PACE: Duration = Duration::from_millis(15);
/// Deletions come after so many batches.
const BATCHES_BETWEEN: u64 = 40;
const PADDING: usize = 300;

/// The knowledge of a topic's only writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    pub sent: Vec<Sent>,
    /// The largest log start that was acknowledged.
    pub acknowledged_start: i64,
    /// The largest log start that was asked for; it may have been granted.
    pub asked_start: i64,
    /// A log start that was acknowledged by a leader of `epoch` or of an earlier one.
    shown: (i64, i32),
    pub deletions: u32,
}

impl Purge {
    fn new() -> Self {
        Self {
            sent: Vec::new(),
            acknowledged_start: 0,
            asked_start: 0,
            shown: (0, -1),
            deletions: 0,
        }
    }
}

pub type Purges = Mutex<Vec<(&'static str, Uuid, Purge)>>;

/// Writes batches to a topic and deletes records up to the middle of some of them, until the history stops.
pub async fn purge(addresses: Vec<String>, topic: &'static str, notes: &Notes, purges: &Purges) {
    let mut direct = Direct::new(addresses);
    let mut configs = vec![
        ("min.insync.replicas", "2"),
        ("internal.segment.bytes", "65536"),
        ("retention.ms", "-1"),
    ];
    if topic.ends_with("cold") {
        configs.push(("remote.storage.enable", "true"));
        configs.push(("local.retention.bytes", "131072"));
    }
    let id = loop {
        match direct.create_topic(topic, PARTITIONS, &configs).await {
            Ok(id) => break id,
            Err(_) if notes.stopped() => return,
            Err(_) => tokio::time::sleep(PACE).await,
        }
    };
    let (mut purge, mut batches) = (Purge::new(), 0);
    while !notes.stopped() {
        write(&mut direct, id, batches, &mut purge).await;
        batches += 1;
        if batches.is_multiple_of(BATCHES_BETWEEN) {
            let told = delete(&mut direct, topic, batches, &mut purge).await;
            let mut complaints = notes.complaints.lock().expect("no holder panics");
            complaints.extend(told);
        }
        tokio::time::sleep(PACE).await;
    }
    let mut all = purges.lock().expect("no holder panics");
    all.push((topic, id, purge));
}

async fn write(direct: &mut Direct, topic: Uuid, batch: u64, purge: &mut Purge) {
    let sequences = batch * RECORDS_PER_BATCH..(batch + 1) * RECORDS_PER_BATCH;
    let values: Vec<String> = sequences
        .clone()
        .map(|s| format!("0:{s}:{}", "x".repeat(PADDING)))
        .collect();
    let written = direct.produce(topic, PARTITION, &values).await;
    for (i, sequence) in sequences.enumerate() {
        purge.sent.push(Sent {
            producer: 0,
            sequence,
            partition: PARTITION,
            outcome: match written {
                Ok(base) => Outcome::Acknowledged {
                    offset: Some(base + i as i64),
                },
                Err(_) => Outcome::Unknown,
            },
        });
    }
}

/// Deletes records up to the middle of a batch, and checks that earlier acknowledged deletions still hold.
async fn delete(
    direct: &mut Direct,
    topic: &str,
    batches: u64,
    purge: &mut Purge,
) -> Option<String> {
    let undone = look_at_start(direct, topic, purge).await;
    let acknowledged = purge.sent.iter().filter_map(|s| match s.outcome {
        Outcome::Acknowledged { offset } => offset,
        _ => None,
    });
    let end = acknowledged.max().map_or(0, |last| last + 1);
    let room = end - purge.asked_start - 1;
    if room <= 0 || undone.is_some() {
        return undone;
    }
    // Now and then nearly everything, else a part of it. Most of these offsets lie inside of a batch.
    let share = if batches.is_multiple_of(3 * BATCHES_BETWEEN) {
        room - 2
    } else {
        room / 3
    };
    let to = purge.asked_start + share.max(1);
    purge.asked_start = to;
    let low = direct.delete_records(topic, PARTITION, to).await.ok()?;
    purge.deletions += 1;
    purge.acknowledged_start = to;
    // The node that has just acknowledged knows its leader epoch.
    if let Ok(epoch) = direct.leader_epoch(topic, PARTITION).await {
        purge.shown = (to, epoch.max(purge.shown.1));
    }
    (low < to).then(|| format!("{topic}: deleted up to {to}, and the low watermark is {low}"))
}

/// Whether the log still begins at the acknowledged start. A leader that was cut off refuses to answer for a later
/// epoch.
async fn look_at_start(direct: &mut Direct, topic: &str, purge: &mut Purge) -> Option<String> {
    let (start, epoch) = purge.shown;
    match direct.list_offset(topic, PARTITION, EARLIEST, epoch).await {
        Ok(begins) if begins < start => Some(format!(
            "{topic}: begins at {begins} in epoch {epoch}, although everything below {start} was deleted"
        )),
        Err(Refusal::Code(ErrorCode::FencedLeaderEpoch)) => {
            // Another broker leads by now; the next look is under the new epoch.
            let newer = direct.leader_epoch(topic, PARTITION).await.ok()?;
            purge.shown.1 = epoch.max(newer);
            None
        }
        _ => None,
    }
}

/// The violations in a topic that begins at `begins`; `log` is every record that can be read.
pub fn complaints(topic: &str, purge: &Purge, begins: i64, ends: i64, log: &[Read]) -> Vec<String> {
    let mut found = Vec::new();
    if !(purge.acknowledged_start..=purge.asked_start).contains(&begins) {
        found.push(format!(
            "{topic}: begins at {begins}; a start at {} was acknowledged and one at {} asked for",
            purge.acknowledged_start, purge.asked_start
        ));
    }
    let kept: Vec<Sent> = purge
        .sent
        .iter()
        .filter(|s| !matches!(s.outcome, Outcome::Acknowledged { offset: Some(at) } if at < begins))
        .copied()
        .collect();
    let anomalies = checker::check(&kept, log, &[]);
    found.extend(anomalies.iter().take(5).map(|a| format!("{topic}: {a:?}")));
    let holes = log.iter().zip(begins..).find(|(r, at)| r.offset != *at);
    if let Some((read, at)) = holes {
        found.push(format!("{topic}: {read:?} where offset {at} should be"));
    }
    if log.len() as i64 != ends - begins {
        found.push(format!(
            "{topic}: {} records from {begins} to {ends}",
            log.len()
        ));
    }
    found
}

/// Reads a topic at the end of a history, when everything is healed.
pub async fn check_at_the_end(
    addresses: Vec<String>,
    (topic, id, purge): &(&'static str, Uuid, Purge),
    limit: Duration,
) -> Result<Vec<String>, String> {
    let (mut direct, began) = (Direct::new(addresses), Instant::now());
    let mut refusals = BTreeSet::new();
    while began.elapsed() < limit {
        match read(&mut direct, topic, *id).await {
            Ok((begins, ends, log)) => return Ok(complaints(topic, purge, begins, ends, &log)),
            Err(error) => refusals.insert(format!("{error:?}")),
        };
        tokio::time::sleep(PACE).await;
    }
    // Brokers that do not lead refuse, too; the leader's reason is one of these.
    Err(format!("{topic} cannot be read: {refusals:?}"))
}

async fn read(
    direct: &mut Direct,
    topic: &str,
    id: Uuid,
) -> Result<(i64, i64, Vec<Read>), Refusal> {
    let begins = direct.list_offset(topic, PARTITION, EARLIEST, -1).await?;
    let ends = direct.list_offset(topic, PARTITION, LATEST, -1).await?;
    let records = direct.read(id, PARTITION, begins, ends).await?;
    let of = |(offset, value): (i64, String)| {
        crate::workload::parse(PARTITION, offset, Some(value.as_bytes()))
    };
    Ok((begins, ends, records.into_iter().map(of).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten records, the first four of them deleted by an acknowledged request, two more perhaps.
    fn purge() -> Purge {
        let sent = |sequence: u64| Sent {
            producer: 0,
            sequence,
            partition: PARTITION,
            outcome: Outcome::Acknowledged {
                offset: Some(sequence as i64),
            },
        };
        Purge {
            sent: (0..10).map(sent).collect(),
            acknowledged_start: 4,
            asked_start: 6,
            deletions: 2,
            shown: (0, -1),
        }
    }

    fn log(from: i64) -> Vec<Read> {
        let of = |offset: i64| Read {
            partition: PARTITION,
            offset,
            producer: 0,
            sequence: offset as u64,
        };
        (from..10).map(of).collect()
    }

    #[test]
    fn a_log_may_begin_where_a_deletion_was_acknowledged_or_asked_for_and_nowhere_else() {
        for (begins, right) in [
            (3, false),
            (4, true),
            (5, true),
            (6, true),
            (7, false),
            (0, false),
        ] {
            let found = complaints("t", &purge(), begins, 10, &log(begins));
            assert_eq!(found.is_empty(), right, "begins at {begins}: {found:?}");
        }
    }

    #[test]
    fn a_record_above_the_start_that_is_gone_is_found() {
        let mut log = log(4);
        log.remove(2);
        let found = complaints("t", &purge(), 4, 10, &log);
        assert!(found.iter().any(|c| c.contains("Lost")), "{found:?}");
    }
}
