//! A topic that is deleted and made again under the same name while faults go on. Each life of it has a number, which
//! its records carry: no life may hold a record of another one, and each begins at offset 0.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use strandline_wire::ErrorCode;
use uuid::Uuid;

use crate::checker::{self, Outcome, Read, Sent};
use crate::direct::{Direct, EARLIEST, LATEST, Refusal};
use crate::workload::Notes;

pub const TOPIC: &str = "reborn";
pub const PARTITIONS: i32 = 2;
const RECORDS_PER_BATCH: u64 = 3;
/// Between batches.
const PACE: Duration = Duration::from_millis(15);
/// The longest time of one life.
const LONGEST_LIFE_MS: u64 = 6000;
/// Records that every life is offered.
const SHORTEST_LIFE: u64 = 30;
const PADDING: usize = 600;

/// One life of the topic, as its only writer knows it.
#[derive(Clone, Debug)]
pub struct Life {
    pub id: Uuid,
    pub number: u32,
    pub sent: Vec<Sent>,
}

impl Life {
    /// The same life, without the certainty of records at or above `ends`: a leader that was cut off does not have all
    /// records that were acknowledged elsewhere.
    fn below(&self, ends: &[i64]) -> Self {
        let mut life = self.clone();
        for sent in &mut life.sent {
            let end = ends.get(sent.partition as usize).copied().unwrap_or(0);
            if matches!(sent.outcome, Outcome::Acknowledged { offset: Some(at) } if at >= end) {
                sent.outcome = Outcome::Unknown;
            }
        }
        life
    }
}

/// The lives of the topic in this history.
#[derive(Default)]
pub struct Lives {
    /// The life that exists at the end.
    last: Mutex<Option<Life>>,
    /// The number of lives that were read completely before they ended.
    checked: Mutex<u32>,
}

impl Lives {
    /// The number of lives, and how many of them were read completely.
    pub fn count(&self) -> (u32, u32) {
        let last = self.last.lock().expect("no holder panics");
        let checked = self.checked.lock().expect("no holder panics");
        (last.as_ref().map_or(0, |l| l.number), *checked)
    }
}

/// Creates the topic, writes, reads it back, deletes it, again and again until faults are over. The last life is not ended.
pub async fn live(addresses: Vec<String>, notes: &Notes, lives: &Lives) {
    // Each partition may be led by another node.
    let mut partitions = per_partition(&addresses);
    let mut direct = Direct::new(addresses);
    let mut number = 0;
    while let Some(id) = create(&mut direct, notes).await {
        number += 1;
        let mut life = Life {
            id,
            number,
            sent: Vec::new(),
        };
        let length = u64::from(number) * 2_654_435_761 % LONGEST_LIFE_MS;
        write(
            &mut partitions,
            &mut life,
            Duration::from_millis(length),
            notes,
        )
        .await;
        if notes.settles() {
            *lives.last.lock().expect("no holder panics") = Some(life);
            return;
        }
        // While faults go on a reading may fail; records that were read must be right.
        if let Ok((log, ends)) = read(&mut partitions, &life).await {
            let complaints = complaints(&life.below(&ends), &log);
            *lives.checked.lock().expect("no holder panics") += 1;
            let mut all = notes.complaints.lock().expect("no holder panics");
            all.extend(complaints);
        }
        if !delete(&mut direct, id, notes).await {
            return;
        }
    }
}

fn per_partition(addresses: &[String]) -> Vec<Direct> {
    let directs = (0..PARTITIONS).map(|_| Direct::new(addresses.to_vec()));
    directs.collect()
}

/// `None` when the history is over.
async fn create(direct: &mut Direct, notes: &Notes) -> Option<Uuid> {
    let configs = [
        ("min.insync.replicas", "2"),
        ("internal.segment.bytes", "65536"),
        ("remote.storage.enable", "true"),
        ("local.retention.bytes", "131072"),
        ("retention.ms", "-1"),
    ];
    while !notes.stopped() {
        if let Ok(id) = direct.create_topic(TOPIC, PARTITIONS, &configs).await {
            return Some(id);
        }
        tokio::time::sleep(PACE).await;
    }
    None
}

/// Returns `false` if the history ends before a node confirms the deletion.
async fn delete(direct: &mut Direct, id: Uuid, notes: &Notes) -> bool {
    while !notes.stopped() {
        let deleted = direct.delete_topic(id).await;
        let gone = Refusal::Code(ErrorCode::UnknownTopicId);
        if deleted.is_ok() || deleted == Err(gone) {
            return true;
        }
        tokio::time::sleep(PACE).await;
    }
    false
}

async fn write(partitions: &mut [Direct], life: &mut Life, length: Duration, notes: &Notes) {
    let (began, mut sequence) = (Instant::now(), 0);
    while sequence < SHORTEST_LIFE || began.elapsed() < length && !notes.settles() {
        let partition = (sequence / RECORDS_PER_BATCH % PARTITIONS as u64) as i32;
        let sequences = sequence..sequence + RECORDS_PER_BATCH;
        let values: Vec<String> = sequences
            .clone()
            .map(|s| format!("{}:{s}:{}", life.number, "x".repeat(PADDING)))
            .collect();
        let Some(direct) = partitions.get_mut(partition as usize) else {
            return;
        };
        let written = direct.produce(life.id, partition, &values).await;
        for (i, sequence) in sequences.enumerate() {
            life.sent.push(Sent {
                producer: life.number,
                sequence,
                partition,
                outcome: match written {
                    Ok(base) => Outcome::Acknowledged {
                        offset: Some(base + i as i64),
                    },
                    // A leader may have appended before it refused.
                    Err(_) => Outcome::Unknown,
                },
            });
        }
        sequence += RECORDS_PER_BATCH;
        tokio::time::sleep(PACE).await;
    }
}

/// All records that are in the topic now, and the end offsets of its partitions.
async fn read(partitions: &mut [Direct], life: &Life) -> Result<(Vec<Read>, Vec<i64>), Refusal> {
    let (mut log, mut all_ends) = (Vec::new(), Vec::new());
    for (partition, direct) in (0..).zip(partitions) {
        let begins = direct.list_offset(TOPIC, partition, EARLIEST, -1).await?;
        let ends = direct.list_offset(TOPIC, partition, LATEST, -1).await?;
        let records = direct.read(life.id, partition, begins, ends).await?;
        let of = |(offset, value): (i64, String)| {
            crate::workload::parse(partition, offset, Some(value.as_bytes()))
        };
        log.extend(records.into_iter().map(of));
        all_ends.push(ends);
    }
    Ok((log, all_ends))
}

/// The violations in a life; `log` is every record that can be read.
pub fn complaints(life: &Life, log: &[Read]) -> Vec<String> {
    let mut found: Vec<String> = checker::check(&life.sent, log, &[])
        .iter()
        .take(5)
        .map(|a| format!("{TOPIC}, life {}: {a:?}", life.number))
        .collect();
    for partition in 0..PARTITIONS {
        let offsets = log.iter().filter(|r| r.partition == partition);
        let gap = offsets.zip(0..).find(|(read, at)| read.offset != *at);
        if let Some((read, at)) = gap {
            found.push(format!(
                "{TOPIC}, life {}: {read:?} where offset {at} should be",
                life.number
            ));
        }
    }
    found
}

/// Reads the last life at the end of a history, when everything is healed.
pub async fn check_last(
    addresses: Vec<String>,
    lives: &Lives,
    limit: Duration,
) -> Result<Vec<String>, String> {
    let last = lives.last.lock().expect("no holder panics").clone();
    let Some(life) = last else {
        return Ok(vec![format!("{TOPIC} never lived")]);
    };
    let (mut partitions, began) = (per_partition(&addresses), Instant::now());
    let mut refusals = BTreeSet::new();
    while began.elapsed() < limit {
        match read(&mut partitions, &life).await {
            Ok((log, _)) => return Ok(complaints(&life, &log)),
            Err(error) => refusals.insert(format!("{error:?}")),
        };
        tokio::time::sleep(PACE).await;
    }
    // Brokers that do not lead refuse, too; the leader's reason is one of these.
    Err(format!("{TOPIC} cannot be read: {refusals:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life() -> Life {
        let sent = |sequence: u64| Sent {
            producer: 2,
            sequence,
            partition: 0,
            outcome: Outcome::Acknowledged {
                offset: Some(sequence as i64),
            },
        };
        Life {
            id: Uuid::nil(),
            number: 2,
            sent: (0..4).map(sent).collect(),
        }
    }

    fn read(offset: i64, producer: u32, sequence: u64) -> Read {
        Read {
            partition: 0,
            offset,
            producer,
            sequence,
        }
    }

    #[test]
    fn a_life_that_holds_what_was_written_to_it_is_right() {
        let log: Vec<Read> = (0..4).map(|i| read(i, 2, i as u64)).collect();
        assert_eq!(complaints(&life(), &log), Vec::<String>::new());
    }

    #[test]
    fn a_reading_from_a_leader_that_is_behind_need_not_show_the_end() {
        let log: Vec<Read> = (0..2).map(|i| read(i, 2, i as u64)).collect();
        assert_eq!(
            complaints(&life().below(&[2, 0]), &log),
            Vec::<String>::new()
        );
        assert!(complaints(&life().below(&[3, 0]), &log)[0].contains("Lost"));
    }

    #[test]
    fn a_record_of_an_earlier_life_is_found() {
        let mut log: Vec<Read> = (0..4).map(|i| read(i, 2, i as u64)).collect();
        log.push(read(4, 1, 4));
        assert!(complaints(&life(), &log)[0].contains("NeverSent"));
    }

    #[test]
    fn a_life_that_does_not_begin_at_offset_0_is_found() {
        let mut life = life();
        let at = |sent: &mut Sent| sent.outcome = Outcome::Acknowledged { offset: None };
        life.sent.iter_mut().for_each(at);
        let log: Vec<Read> = (0..4).map(|i| read(i + 7, 2, i as u64)).collect();
        assert!(complaints(&life, &log)[0].contains("where offset 0 should be"));
    }
}
