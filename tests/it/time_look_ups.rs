//! `ListOffsets` by timestamp against a scan of all readable records: disorder, every tier, deletions into batches.
//!
//! `LOOK_UPS` says how many (10 000); `SEED` repeats a run.

use kafka_protocol::messages as m;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use strandline_client::{Client, Connection};
use strandline_tests::{TestBroker, eventually};
use strandline_wire::batch::RecordToWrite;
use strandline_wire::compression::Compression;
use strandline_wire::special_timestamp::{
    EARLIEST, EARLIEST_LOCAL, EARLIEST_PENDING_UPLOAD, LATEST, LATEST_TIERED, MAX_TIMESTAMP,
};
use strandline_wire::{ApiKey, StrBytes};

use crate::log_starts::delete_records;
use crate::{TIERED, timestamp};

const PARTITIONS: i32 = 8;
const BATCHES: usize = 60;
/// Rounds of look-ups; records are deleted before each.
const ROUNDS: usize = 10;

const COMPRESSIONS: [Compression; 4] = [
    Compression::None,
    Compression::Gzip,
    Compression::Lz4,
    Compression::Zstd,
];

fn number(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(default, |v| v.parse().expect("a number"))
}

/// Writes batches of random timestamps; returns those of all records, by offset.
async fn fill(client: &mut Client, partition: i32, random: &mut StdRng) -> Vec<i64> {
    let mut all = Vec::new();
    for batch in 0..BATCHES {
        let count = random.random_range(1..20);
        let mut records = Vec::new();
        for _ in 0..count {
            // Rising on the whole, and up to twenty batches out of order; some without any timestamp.
            let disorder = random.random_range(0..200);
            let time = match random.random_range(0..20) {
                0 => -1,
                _ => timestamp(batch * 10 + disorder),
            };
            let mut value = vec![0; random.random_range(20..200)];
            random.fill(&mut value[..]);
            records.push(RecordToWrite {
                timestamp: time,
                value: Some(value.into()),
                ..RecordToWrite::default()
            });
            all.push(time);
        }
        let compression = COMPRESSIONS[random.random_range(0..COMPRESSIONS.len())];
        client
            .produce("t", partition, compression, &records)
            .await
            .unwrap();
    }
    all
}

/// Offset and timestamp for one timestamp of each partition.
async fn look_up(connection: &mut Connection, timestamps: &[i64]) -> Vec<(i64, i64)> {
    let partitions = timestamps.iter().enumerate().map(|(partition, at)| {
        ListOffsetsPartition::default()
            .with_partition_index(partition as i32)
            .with_current_leader_epoch(-1)
            .with_timestamp(*at)
    });
    let topic = ListOffsetsTopic::default()
        .with_name(m::TopicName(StrBytes::from_static_str("t")))
        .with_partitions(partitions.collect());
    let request = m::ListOffsetsRequest::default()
        .with_replica_id(m::BrokerId(-1))
        .with_topics(vec![topic]);
    let response: m::ListOffsetsResponse = connection
        .call(ApiKey::ListOffsets, 9, &request)
        .await
        .unwrap();
    let answers = response.topics[0].partitions.iter();
    answers
        .map(|answer| {
            assert_eq!(answer.error_code, 0);
            (answer.offset, answer.timestamp)
        })
        .collect()
}

/// The same timestamp for each partition.
async fn look_up_all(connection: &mut Connection, at: i64) -> Vec<i64> {
    let answers = look_up(connection, &[at; PARTITIONS as usize]).await;
    answers.into_iter().map(|(offset, _)| offset).collect()
}

fn scan_for(all: &[i64], start: i64, at: i64) -> (i64, i64) {
    let readable = (start..).zip(&all[start as usize..]);
    let found = readable.into_iter().find(|(_, time)| **time >= at);
    found.map_or((-1, -1), |(offset, time)| (offset, *time))
}

fn scan_for_largest(all: &[i64], start: i64) -> (i64, i64) {
    let mut best = (-1, -1);
    for (offset, time) in (start..).zip(&all[start as usize..]) {
        if *time > best.1 {
            best = (offset, *time);
        }
    }
    best
}

#[tokio::test(flavor = "multi_thread")]
async fn look_ups_by_time_answer_as_a_scan_does_in_every_tier() {
    let seed = number("SEED", rand::rng().random_range(0..1_000_000));
    let look_ups = number("LOOK_UPS", 10_000) as usize;
    println!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut broker = TestBroker::start_tiered(&[]).await;
    let mut client = broker.client().await;
    let configs = [
        TIERED[0],
        ("internal.segment.bytes", "15000"),
        ("local.retention.bytes", "20000"),
        ("retention.ms", "-1"),
        ("index.interval.bytes", "300"),
    ];
    client
        .create_topic("t", PARTITIONS, &configs)
        .await
        .unwrap();
    let mut logs = Vec::new();
    for partition in 0..PARTITIONS {
        logs.push(fill(&mut client, partition, &mut random).await);
    }
    let connection = tokio::sync::Mutex::new(Connection::open(&broker.address()).await.unwrap());
    eventually("every partition is in both tiers", || async {
        let mut connection = connection.lock().await;
        let local = look_up_all(&mut connection, EARLIEST_LOCAL).await;
        let tiered = look_up_all(&mut connection, LATEST_TIERED).await;
        let both = |(local, tiered): (&i64, &i64)| *local > 0 && *tiered >= *local - 1;
        local.iter().zip(&tiered).all(both).then_some(())
    })
    .await;
    let mut connection = connection.into_inner();
    let mut starts = vec![0; PARTITIONS as usize];
    for round in 0..ROUNDS {
        if round == ROUNDS / 2 {
            broker.stop().await;
            broker.resume().await;
            connection = Connection::open(&broker.address()).await.unwrap();
        }
        for (partition, start) in starts.iter_mut().enumerate() {
            // The log start reaches the local log after some steps.
            let to = *start + random.random_range(0..=logs[partition].len() as i64 / 10);
            if to > *start {
                delete_records(&mut connection, "t", partition as i32, to).await;
                *start = to;
            }
        }
        special_timestamps_answer_as_defined(&mut connection, &logs, &starts).await;
        for _ in 0..look_ups / ROUNDS / PARTITIONS as usize {
            let at = [(); PARTITIONS as usize].map(|()| timestamp(random.random_range(0..820)) - 1);
            let found = look_up(&mut connection, &at).await;
            for (partition, log) in logs.iter().enumerate() {
                let scanned = scan_for(log, starts[partition], at[partition]);
                assert_eq!(
                    found[partition], scanned,
                    "partition {partition} from {}, SEED={seed}",
                    starts[partition]
                );
            }
        }
    }
    broker.stop().await;
}

async fn special_timestamps_answer_as_defined(
    connection: &mut Connection,
    logs: &[Vec<i64>],
    starts: &[i64],
) {
    let largest = look_up(connection, &[MAX_TIMESTAMP; PARTITIONS as usize]).await;
    let earliest = look_up_all(connection, EARLIEST).await;
    let latest = look_up_all(connection, LATEST).await;
    // In this order: a copy that ends in between only raises the second answer.
    let tiered = look_up_all(connection, LATEST_TIERED).await;
    let pending = look_up_all(connection, EARLIEST_PENDING_UPLOAD).await;
    let local = look_up_all(connection, EARLIEST_LOCAL).await;
    for (partition, log) in logs.iter().enumerate() {
        let start = starts[partition];
        assert_eq!(largest[partition], scan_for_largest(log, start));
        assert_eq!(earliest[partition], start);
        assert_eq!(latest[partition], log.len() as i64);
        let (pending, tiered) = (pending[partition], tiered[partition]);
        assert!(pending >= start && pending <= log.len() as i64, "{pending}");
        assert!(tiered < pending, "{tiered} {pending}");
        assert!(local[partition] >= start && local[partition] <= log.len() as i64);
    }
}
