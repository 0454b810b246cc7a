//! Anomalies that a history may not contain: records that were acknowledged and are lost, duplicated, reordered or
//! changed, and records that nobody sent.

use std::collections::{BTreeMap, HashMap, HashSet};

/// The outcome of sending a record, as its producer knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The record is in the log. `offset` is `None` if the client learned so only from the answer to a later request.
    Acknowledged { offset: Option<i64> },
    /// The record was provably not appended.
    Refused,
    /// A time-out or a lost answer: the record may be in the log or not.
    Unknown,
}

/// A record as its producer sent it. A producer sends to a partition in the order of its sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub producer: u32,
    pub sequence: u64,
    pub partition: i32,
    pub outcome: Outcome,
}

/// A record as a consumer read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    pub producer: u32,
    pub sequence: u64,
}

/// A violation, with the records that show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anomaly {
    Lost(Sent),
    /// The log has the record at another offset than the producer was told.
    Moved(Sent, i64),
    Duplicated(Read, Read),
    Reordered(Read, Read),
    NeverSent(Read),
    /// The broker refused the record, and the log has it all the same.
    Resurrected(Sent, i64),
    /// A consumer read another record at this offset than another consumer, or than later.
    Changed(Read, Option<Read>),
    /// Two records at one offset, or offsets out of order.
    Offsets(Read, Read),
}

/// Compares the records that were sent with two readings: `log`, every record that is readable at the end, in the order
/// of each partition, and `seen`, the records that consumers read while faults went on.
pub fn check(sent: &[Sent], log: &[Read], seen: &[Read]) -> Vec<Anomaly> {
    let mut anomalies = Vec::new();
    let by_id: HashMap<(u32, u64), &Sent> =
        sent.iter().map(|s| ((s.producer, s.sequence), s)).collect();
    let mut found: HashMap<(u32, u64), Read> = HashMap::new();
    let mut at: HashMap<(i32, i64), Read> = HashMap::new();
    let mut last_of_partition: BTreeMap<i32, Read> = BTreeMap::new();
    let mut last_of_producer: HashMap<(u32, i32), Read> = HashMap::new();
    for read in log {
        if let Some(last) = last_of_partition.insert(read.partition, *read)
            && last.offset >= read.offset
        {
            anomalies.push(Anomaly::Offsets(last, *read));
        }
        at.insert((read.partition, read.offset), *read);
        let id = (read.producer, read.sequence);
        match by_id.get(&id) {
            Some(s) if s.partition == read.partition => {}
            _ => anomalies.push(Anomaly::NeverSent(*read)),
        }
        if let Some(first) = found.insert(id, *read) {
            anomalies.push(Anomaly::Duplicated(first, *read));
            continue;
        }
        let stream = (read.producer, read.partition);
        if let Some(last) = last_of_producer.insert(stream, *read)
            && last.sequence >= read.sequence
        {
            anomalies.push(Anomaly::Reordered(last, *read));
        }
    }
    for s in sent {
        let read = found.get(&(s.producer, s.sequence));
        match (s.outcome, read) {
            (Outcome::Acknowledged { .. }, None) => anomalies.push(Anomaly::Lost(*s)),
            (
                Outcome::Acknowledged {
                    offset: Some(offset),
                },
                Some(read),
            ) if read.offset != offset => {
                anomalies.push(Anomaly::Moved(*s, read.offset));
            }
            (Outcome::Refused, Some(read)) => {
                anomalies.push(Anomaly::Resurrected(*s, read.offset));
            }
            _ => {}
        }
    }
    let distinct: HashSet<&Read> = seen.iter().collect();
    for read in distinct {
        let now = at.get(&(read.partition, read.offset));
        if now != Some(read) {
            anomalies.push(Anomaly::Changed(*read, now.copied()));
        }
    }
    anomalies
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(sequence: u64, outcome: Outcome) -> Sent {
        Sent {
            producer: 1,
            sequence,
            partition: 0,
            outcome,
        }
    }

    fn read(offset: i64, sequence: u64) -> Read {
        Read {
            partition: 0,
            offset,
            producer: 1,
            sequence,
        }
    }

    fn acknowledged(offset: i64) -> Outcome {
        Outcome::Acknowledged {
            offset: Some(offset),
        }
    }

    /// Ten records, all acknowledged but two whose fate is unknown; the log has one of these.
    fn good() -> (Vec<Sent>, Vec<Read>) {
        let mut all: Vec<Sent> = (0..8).map(|i| sent(i, acknowledged(i as i64))).collect();
        all.push(sent(8, Outcome::Unknown));
        all.push(sent(9, Outcome::Unknown));
        all.push(sent(10, Outcome::Refused));
        let log = (0..9).map(|i| read(i as i64, i)).collect();
        (all, log)
    }

    #[test]
    fn a_correct_history_has_no_anomaly() {
        let (sent, log) = good();
        assert_eq!(check(&sent, &log, &log[2..5]), []);
    }

    #[test]
    fn a_lost_record_is_found() {
        let (all, mut log) = good();
        log.remove(3);
        assert_eq!(check(&all, &log, &[]), [Anomaly::Lost(all[3])]);
    }

    #[test]
    fn a_record_acknowledged_without_an_offset_must_be_there_all_the_same() {
        let (mut all, mut log) = good();
        all[3] = sent(3, Outcome::Acknowledged { offset: None });
        assert_eq!(check(&all, &log, &[]), []);
        log.remove(3);
        assert_eq!(check(&all, &log, &[]), [Anomaly::Lost(all[3])]);
    }

    #[test]
    fn a_duplicated_record_is_found() {
        let (sent, mut log) = good();
        log.push(read(9, 5));
        assert_eq!(
            check(&sent, &log, &[]),
            [
                Anomaly::Duplicated(read(5, 5), read(9, 5)),
                Anomaly::Moved(sent[5], 9)
            ]
        );
    }

    #[test]
    fn a_reordered_record_is_found() {
        let (mut all, mut log) = good();
        log[4] = read(4, 5);
        log[5] = read(5, 4);
        all[4] = sent(4, acknowledged(5));
        all[5] = sent(5, acknowledged(4));
        assert_eq!(
            check(&all, &log, &[]),
            [Anomaly::Reordered(read(4, 5), read(5, 4))]
        );
    }

    #[test]
    fn a_record_that_nobody_sent_or_that_was_refused_is_found() {
        let (sent, mut log) = good();
        log.push(read(9, 77));
        log.push(read(10, 10));
        let anomalies = check(&sent, &log, &[]);
        assert!(anomalies.contains(&Anomaly::NeverSent(read(9, 77))));
        assert!(anomalies.contains(&Anomaly::Resurrected(sent[10], 10)));
    }

    #[test]
    fn a_record_that_was_read_and_is_another_now_is_found() {
        let (sent, log) = good();
        let seen = [read(2, 3), read(20, 6)];
        let anomalies = check(&sent, &log, &seen);
        assert_eq!(anomalies.len(), 2);
        assert!(anomalies.contains(&Anomaly::Changed(read(2, 3), Some(read(2, 2)))));
        assert!(anomalies.contains(&Anomaly::Changed(read(20, 6), None)));
    }

    #[test]
    fn two_records_at_one_offset_are_found() {
        let (sent, mut log) = good();
        log[4] = read(3, 4);
        let anomalies = check(&sent, &log, &[]);
        assert!(anomalies.contains(&Anomaly::Offsets(read(3, 3), read(3, 4))));
    }
}
