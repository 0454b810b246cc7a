//! `strandline demo`: produces real records, waits until they have left the local disk, reads them back and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use strandline_client::{
    ClientError, ClientOptions, Cluster, Consumer, ConsumerOptions, Key, Producer, ProducerOptions,
    list_offsets,
};
use strandline_wire::batch::RecordToWrite;
use strandline_wire::special_timestamp::{EARLIEST, EARLIEST_LOCAL, LATEST};

const PARTITIONS: i32 = 3;
/// Records that follow each other into one partition.
const RECORDS_IN_A_ROW: u64 = 500;
/// Small segments, so that a small demonstration has some.
const SEGMENT_BYTES: &str = "1048576";
const OFFLOAD_TIMEOUT: Duration = Duration::from_secs(300);

pub async fn run(bootstrap: &str, http: &str, bytes: u64) -> Result<(), String> {
    demo(bootstrap, http, bytes)
        .await
        .map_err(|e| e.to_string())
}

/// Checksum and count of the records written to or read from a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Digest {
    crc: u32,
    records: u64,
    bytes: u64,
}

impl Digest {
    fn add(&mut self, value: &[u8]) {
        self.crc = crc32c::crc32c_append(self.crc, value);
        self.records += 1;
        self.bytes += value.len() as u64;
    }
}

fn bar(length: u64, what: &'static str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg:<28} {bar:32} {bytes}/{total_bytes} {bytes_per_sec}")
            .expect("the template is valid");
    ProgressBar::new(length)
        .with_style(style)
        .with_message(what)
}

async fn demo(bootstrap: &str, http: &str, bytes: u64) -> Result<(), ClientError> {
    let options = ClientOptions {
        client_id: "strandline-demo".into(),
        ..ClientOptions::default()
    };
    let cluster = Cluster::new(bootstrap, options);
    let stamp = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let topic = format!("strandline-demo-{stamp}");
    let configs = [
        ("remote.storage.enable", "true"),
        ("segment.bytes", SEGMENT_BYTES),
        ("local.retention.bytes", "1"),
    ];
    cluster.create_topic(&topic, PARTITIONS, &configs).await?;
    let written = produce(&cluster, &topic, bytes).await?;
    wait_for_offload(&cluster, &topic).await?;
    let read = read_back(&cluster, &topic, &written).await?;
    for (partition, digest) in &written {
        let back = read.get(partition).copied().unwrap_or_default();
        let verdict = if back == *digest {
            "equal"
        } else {
            "DIFFERENT"
        };
        println!(
            "{topic}-{partition}: {} records, {} bytes, crc32c {:#010x} written, {:#010x} read: {verdict}",
            digest.records, digest.bytes, digest.crc, back.crc
        );
    }
    print_requests(http).await;
    if read == written {
        return Ok(());
    }
    Err(ClientError::Decode {
        address: bootstrap.to_owned(),
        reason: "what was read is not what was written".into(),
    })
}

/// Lines such as a log has them, from a seed: the same in every run, and compressible as real ones are.
fn line(rng: &mut StdRng, number: u64) -> Bytes {
    const WORDS: [&str; 12] = [
        "GET",
        "POST",
        "/orders",
        "/users/",
        "200",
        "404",
        "timeout",
        "retry",
        "eu-west-1",
        "cache",
        "miss",
        "hit",
    ];
    let mut text = format!("{number:012} ");
    for _ in 0..rng.random_range(8..24) {
        text.push_str(WORDS[rng.random_range(0..WORDS.len())]);
        text.push_str(&format!(" {:x} ", rng.random::<u32>()));
    }
    text.into()
}

async fn produce(
    cluster: &Arc<Cluster>,
    topic: &str,
    bytes: u64,
) -> Result<BTreeMap<i32, Digest>, ClientError> {
    let progress = bar(bytes, "producing");
    let failure: Arc<Mutex<Option<ClientError>>> = Arc::default();
    let failed = failure.clone();
    let options = ProducerOptions {
        linger: Duration::from_millis(5),
        batch_bytes: 128 << 10,
        ..ProducerOptions::default()
    };
    let producer = Producer::new(cluster.clone(), options, move |delivery| {
        if let Err(error) = delivery.result {
            *failed.lock().expect("no holder panics") = Some(error);
        }
    });
    let mut rng = StdRng::seed_from_u64(1);
    let mut digests: BTreeMap<i32, Digest> =
        (0..PARTITIONS).map(|p| (p, Digest::default())).collect();
    let (mut done, mut number) = (0, 0u64);
    while done < bytes {
        let partition = (number / RECORDS_IN_A_ROW % PARTITIONS as u64) as i32;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let value = line(&mut rng, number);
        number += 1;
        done += value.len() as u64;
        let digest = digests.entry(partition).or_default();
        digest.add(&value);
        let record = RecordToWrite {
            timestamp: now.map_or(0, |d| d.as_millis() as i64),
            value: Some(value),
            ..RecordToWrite::default()
        };
        producer
            .send(topic, Some(partition), &record, number)
            .await?;
        if number % RECORDS_IN_A_ROW == 0 {
            progress.set_position(done.min(bytes));
            // The sender has its turn, too.
            tokio::task::yield_now().await;
        }
    }
    producer.flush().await;
    progress.finish();
    let failure = failure.lock().expect("no holder panics").take();
    failure.map_or(Ok(digests), Err)
}

/// An offset of each partition, by Kafka's special timestamp for it.
async fn offsets(
    cluster: &Cluster,
    topic: &str,
    timestamp: i64,
) -> Result<BTreeMap<i32, i64>, ClientError> {
    let asked: BTreeSet<Key> = (0..PARTITIONS).map(|p| (Arc::from(topic), p)).collect();
    let found = list_offsets(cluster, &asked, timestamp).await?;
    let found = found
        .into_iter()
        .map(|((_, partition), (offset, _))| (partition, offset));
    Ok(found.collect())
}

/// Waits until no partition has more than its active segment on the local disk.
async fn wait_for_offload(cluster: &Cluster, topic: &str) -> Result<(), ClientError> {
    let total: i64 = offsets(cluster, topic, LATEST).await?.values().sum();
    let style = ProgressStyle::with_template("{msg:<28} {bar:32} {pos}/{len} offsets")
        .expect("the template is valid");
    let progress = ProgressBar::new(total as u64)
        .with_style(style)
        .with_message("leaving the local disk");
    let deadline = tokio::time::Instant::now() + OFFLOAD_TIMEOUT;
    let (mut last, mut quiet) = (-1, 0);
    // Done when the local start has stopped moving: only the active segments are left.
    while quiet < 5 {
        let gone: i64 = offsets(cluster, topic, EARLIEST_LOCAL)
            .await?
            .values()
            .sum();
        quiet = if gone == last && gone > 0 {
            quiet + 1
        } else {
            0
        };
        last = gone;
        progress.set_position(gone as u64);
        if tokio::time::Instant::now() > deadline {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    progress.finish();
    Ok(())
}

async fn read_back(
    cluster: &Arc<Cluster>,
    topic: &str,
    written: &BTreeMap<i32, Digest>,
) -> Result<BTreeMap<i32, Digest>, ClientError> {
    let progress = bar(
        written.values().map(|d| d.bytes).sum(),
        "reading from both tiers",
    );
    let mut digests = BTreeMap::new();
    for (partition, end) in offsets(cluster, topic, LATEST).await? {
        let mut digest = Digest::default();
        let options = ConsumerOptions::default();
        let mut consumer =
            Consumer::assign(cluster.clone(), topic, partition, None, EARLIEST, options);
        let mut next = 0;
        while next < end {
            for consumed in consumer.poll(Duration::from_secs(1)).await? {
                let value = consumed.record.value.unwrap_or_default();
                digest.add(&value);
                progress.inc(value.len() as u64);
                next = consumed.record.offset + 1;
            }
        }
        digests.insert(partition, digest);
    }
    progress.finish();
    Ok(digests)
}

/// Requests to the object store and cache figures, as the broker counts them.
async fn print_requests(http: &str) {
    match crate::http_get::get(http, "/metrics").await {
        Ok((200, page)) => {
            let wanted = [
                "strandline_remote_requests_total",
                "strandline_remote_bytes_total",
                "strandline_remote_cache",
            ];
            page.lines()
                .filter(|l| wanted.iter().any(|w| l.starts_with(w)) && !l.ends_with(" 0"))
                .for_each(|l| println!("{l}"));
        }
        Ok((status, _)) => println!("http://{http}/metrics answered {status}"),
        Err(error) => println!("{error}"),
    }
}
