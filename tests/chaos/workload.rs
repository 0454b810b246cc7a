//! Clients under fault: idempotent producers that note their answers, a consumer that notes its records, and the final
//! reading of all records.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use strandline_client::{Client, ClientError};
use strandline_wire::batch::RecordToWrite;
use strandline_wire::compression::Compression;

use crate::checker::{Outcome, Read, Sent};

pub const TOPIC: &str = "chaos";
pub const PARTITIONS: i32 = 4;
/// Between records of one producer.
const PACE: Duration = Duration::from_millis(8);
/// Size of the padding, so that segments roll and go to the cold tier.
const PADDING: usize = 2000;

/// The observations of a history's clients.
#[derive(Default)]
pub struct Notes {
    pub sent: Mutex<Vec<Sent>>,
    pub seen: Mutex<Vec<Read>>,
    /// When each partition acknowledged, for the longest gaps.
    acknowledged_at: Mutex<BTreeMap<i32, Vec<Instant>>>,
    next_producer: AtomicU32,
    /// Offsets that a group has committed and read back.
    pub commits: AtomicU32,
    /// Violations in committed offsets, in words.
    pub complaints: Mutex<Vec<String>>,
    pub stop: AtomicBool,
    /// Faults are over: topics that were deleted and made again stay.
    pub settle: AtomicBool,
}

impl Notes {
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub fn settles(&self) -> bool {
        self.settle.load(Ordering::Acquire) || self.stopped()
    }

    /// Notes that a record under `key` was acknowledged now.
    fn note_acknowledgement(&self, key: i32) {
        let mut all = self.acknowledged_at.lock().expect("no holder panics");
        all.entry(key).or_default().push(Instant::now());
    }

    pub fn acknowledged(&self) -> usize {
        let sent = self.sent.lock().expect("no holder panics");
        let is_acknowledged = |s: &&Sent| matches!(s.outcome, Outcome::Acknowledged { .. });
        sent.iter().filter(is_acknowledged).count()
    }

    /// The first acknowledgement of a partition after `moment`.
    pub fn next_acknowledged(&self, partition: i32, moment: Instant) -> Option<Instant> {
        let all = self.acknowledged_at.lock().expect("no holder panics");
        all.get(&partition)?.iter().copied().find(|at| *at > moment)
    }

    /// The longest time that a partition went without an acknowledgement after `moment`.
    pub fn gap_since(&self, partition: i32, moment: Instant) -> Duration {
        let all = self.acknowledged_at.lock().expect("no holder panics");
        let times = all.get(&partition).into_iter().flatten().copied();
        let since: Vec<Instant> = std::iter::once(moment)
            .chain(times.filter(|at| *at > moment))
            .chain([Instant::now()])
            .collect();
        let gaps = since.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }

    /// The longest time that a partition went without an acknowledgement, and when that began.
    pub fn longest_gap(&self, began: Instant) -> (Duration, Duration) {
        let all = self.acknowledged_at.lock().expect("no holder panics");
        all.iter()
            .filter(|(key, _)| **key != COMMITS)
            .flat_map(|(_, times)| times.windows(2))
            .map(|pair| (pair[1] - pair[0], pair[0].saturating_duration_since(began)))
            .max()
            .unwrap_or_default()
    }
}

/// The key under which the probe's acknowledgements are noted.
pub const PROBE: i32 = -1;
/// The key under which acknowledged commits of offsets are noted.
pub const COMMITS: i32 = -2;
/// Every live node answers the probe within this time.
pub const PROBE_TIMEOUT: Duration = Duration::from_millis(1000);

/// Writes one record after the other to the first partition of a topic of its own, to its leader, without the pauses of
/// client libraries: the remaining silence is the cluster's.
pub async fn probe(addresses: Vec<String>, topic: &str, notes: Arc<Notes>, patience: Duration) {
    let record = RecordToWrite {
        timestamp: 0,
        key: None,
        value: Some("probe".into()),
        headers: Vec::new(),
    };
    let mut clients: BTreeMap<String, Client> = BTreeMap::new();
    let mut turn = 0;
    while !notes.stopped() {
        let address = &addresses[turn % addresses.len()];
        let attempt = async {
            if !clients.contains_key(address) {
                clients.insert(address.clone(), Client::connect(address).await?);
            }
            let client = clients.get_mut(address).expect("it was just put there");
            client
                .produce(topic, 0, Compression::None, std::slice::from_ref(&record))
                .await
        };
        match tokio::time::timeout(patience, attempt).await {
            Ok(Ok(_)) => {
                notes.note_acknowledgement(PROBE);
            }
            Ok(Err(ClientError::Broker { .. })) => turn += 1,
            _ => {
                clients.remove(address);
                turn += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        // The client's own pauses grow to a second by default; here the cluster's are measured.
        .set("retry.backoff.max.ms", "100")
        .set("topic.metadata.refresh.fast.interval.ms", "50")
        .set("socket.connection.setup.timeout.ms", "2000")
        .set("log_level", "0");
    config
}

/// Sends until the history stops. A producer that has failed a record cannot vouch for the order of later records, so
/// another producer takes its place, under another number.
pub async fn produce(bootstrap: String, notes: Arc<Notes>) {
    while !notes.stopped() {
        let number = notes.next_producer.fetch_add(1, Ordering::AcqRel);
        let producer: FutureProducer = config(&bootstrap)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "2")
            .set("retry.backoff.ms", "20")
            .set("message.timeout.ms", "60000")
            .create()
            .expect("a producer can be made");
        let failed = Arc::new(AtomicBool::new(false));
        let mut sending = tokio::task::JoinSet::new();
        let mut sequence = 0u64;
        while !notes.stopped() && !failed.load(Ordering::Acquire) {
            let partition = (sequence % PARTITIONS as u64) as i32;
            let payload = format!("{number}:{sequence}:{}", "x".repeat(PADDING));
            let record = FutureRecord::<(), String>::to(TOPIC)
                .payload(&payload)
                .partition(partition);
            match producer.send_result(record) {
                Ok(delivery) => {
                    let (notes, failed) = (notes.clone(), failed.clone());
                    sending.spawn(async move {
                        let outcome = match delivery.await {
                            Ok(Ok(delivery)) => {
                                notes.note_acknowledgement(partition);
                                Outcome::Acknowledged {
                                    // librdkafka's "invalid offset" is negative.
                                    offset: Some(delivery.offset).filter(|o| *o >= 0),
                                }
                            }
                            other => {
                                failed.store(true, Ordering::Release);
                                match other {
                                    Ok(Err((error, _))) if never_left(&error) => Outcome::Refused,
                                    _ => Outcome::Unknown,
                                }
                            }
                        };
                        notes.sent.lock().expect("no holder panics").push(Sent {
                            producer: number,
                            sequence,
                            partition,
                            outcome,
                        });
                    });
                    sequence += 1;
                }
                Err((error, _))
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {}
                // After a fatal error, another producer continues.
                Err(_) => break,
            }
            tokio::time::sleep(PACE).await;
        }
        while sending.join_next().await.is_some() {}
    }
}

/// The client dropped the record before it sent the record to any broker.
fn never_left(error: &rdkafka::error::KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::MessageSizeTooLarge)
    )
}

pub fn parse(partition: i32, offset: i64, payload: Option<&[u8]>) -> Read {
    let text = payload.and_then(|p| std::str::from_utf8(p).ok());
    let mut words = text.unwrap_or_default().split(':');
    let mut number = || words.next().and_then(|w| w.parse::<u64>().ok());
    Read {
        partition,
        offset,
        producer: number().map_or(u32::MAX, |n| n as u32),
        sequence: number().unwrap_or(u64::MAX),
    }
}

fn consumer(bootstrap: &str) -> BaseConsumer {
    let consumer: BaseConsumer = config(bootstrap)
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "false")
        .set("check.crcs", "true")
        // An offset that is gone is an error here, never a silent jump.
        .set("auto.offset.reset", "error")
        .create()
        .expect("a consumer can be made");
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let added = all.add_partition_offset(TOPIC, partition, Offset::Offset(0));
        added.expect("an offset can be asked for");
    }
    consumer.assign(&all).expect("partitions can be assigned");
    consumer
}

/// Reads along until the history stops. Runs on a thread of its own.
pub fn follow(bootstrap: &str, notes: &Notes) -> Result<(), String> {
    let consumer = consumer(bootstrap);
    while !notes.stopped() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let read = parse(message.partition(), message.offset(), message.payload());
                notes.seen.lock().expect("no holder panics").push(read);
            }
            Some(Err(error)) if is_fatal(&error) => return Err(error.to_string()),
            _ => {}
        }
    }
    Ok(())
}

pub use strandline_types::OFFSETS_TOPIC;
/// The group whose offsets are checked. Partition 0 of three of the offsets topic is its home.
pub const GROUP: &str = "offsets-kept";

/// Commits one offset after the other and reads each back: it must be the last one that was acknowledged, or one whose
/// fate is unknown. Runs on a thread of its own until the history stops.
pub fn commit(bootstrap: &str, notes: &Notes) {
    let consumer: BaseConsumer = config(bootstrap)
        .set("group.id", GROUP)
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer can be made");
    let at = |offset: Offset| {
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(TOPIC, 0, offset);
        added.expect("an offset can be named");
        list
    };
    let mut acknowledged = None;
    let mut unknown = Vec::new();
    let mut next = 0;
    while !notes.stopped() {
        next += 1;
        match consumer.commit(&at(Offset::Offset(next)), CommitMode::Sync) {
            Ok(()) => {
                acknowledged = Some(next);
                notes.note_acknowledgement(COMMITS);
            }
            Err(_) => unknown.push(next),
        }
        let read = consumer.committed_offsets(at(Offset::Invalid), Duration::from_secs(5));
        if let Ok(list) = read
            && let Some(found) = list.find_partition(TOPIC, 0)
            && found.error().is_ok()
        {
            let found = match found.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            if found != acknowledged && found.is_none_or(|f| !unknown.contains(&f)) {
                let mut complaints = notes.complaints.lock().expect("no holder panics");
                complaints.push(format!(
                    "the group's offset is {found:?}; {acknowledged:?} was acknowledged last"
                ));
            }
            notes.commits.fetch_add(1, Ordering::AcqRel);
        }
        std::thread::sleep(PACE * 4);
    }
}

fn is_fatal(error: &rdkafka::error::KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
    )
}

/// Reads all records up to the end offsets at the time of the call. Blocks.
pub fn read_all(bootstrap: &str, limit: Duration) -> Result<Vec<Read>, String> {
    let consumer = consumer(bootstrap);
    let deadline = Instant::now() + limit;
    let mut ends = BTreeMap::new();
    for partition in 0..PARTITIONS {
        loop {
            match consumer.fetch_watermarks(TOPIC, partition, Duration::from_secs(5)) {
                Ok((_, end)) => {
                    ends.insert(partition, end);
                    break;
                }
                Err(error) if Instant::now() > deadline => return Err(error.to_string()),
                Err(_) => {}
            }
        }
    }
    let mut reads = Vec::new();
    let mut at: BTreeMap<i32, i64> = ends.keys().map(|p| (*p, 0)).collect();
    while at.iter().any(|(p, offset)| *offset < ends[p]) {
        if Instant::now() > deadline {
            return Err(format!("read up to {at:?} of {ends:?} within {limit:?}"));
        }
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                let read = parse(message.partition(), message.offset(), message.payload());
                at.insert(read.partition, read.offset + 1);
                if read.offset < ends[&read.partition] {
                    reads.push(read);
                }
            }
            Some(Err(error)) if is_fatal(&error) => return Err(error.to_string()),
            _ => {}
        }
    }
    // Stable: within a partition the order of delivery stays.
    reads.sort_by_key(|r| r.partition);
    Ok(reads)
}
