//! `kafka-producer-perf-test`

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use strandline_client::{Cluster, Delivery, Producer};
use strandline_wire::batch::RecordToWrite;

use crate::command::{Failure, Outcome, options, parse, told};
use crate::console_producer::producer_options;
use crate::properties::Properties;
use crate::time::{log_stamp, now_ms};

const MEBIBYTE: f64 = 1024.0 * 1024.0;

#[derive(clap::Parser)]
pub(crate) struct Options {
    /// The brokers to ask first: HOST:PORT, several separated by commas. Without it, the environment's STRANDLINE_BOOTSTRAP_SERVER.
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_server: Option<String>,
    /// The topic to write to.
    #[arg(long)]
    topic: String,
    /// How many records to write.
    #[arg(long)]
    num_records: u64,
    /// Bytes of a record.
    #[arg(long)]
    record_size: Option<usize>,
    /// Values, one a line, chosen at random.
    #[arg(long)]
    payload_file: Option<PathBuf>,
    /// The separator of the payloads of a file.
    #[arg(long, default_value = "\\n")]
    payload_delimiter: String,
    /// Values are numbers that rise.
    #[arg(long)]
    payload_monotonic: bool,
    /// Records per second at most; −1: as many as go.
    #[arg(long, allow_negative_numbers = true)]
    throughput: f64,
    /// Settings of the producer: NAME=VALUE …
    #[arg(long, num_args = 1.., value_name = "NAME=VALUE")]
    producer_props: Vec<String>,
    /// A setting of the producer.
    #[arg(long, num_args = 1.., value_name = "NAME=VALUE")]
    command_property: Vec<String>,
    /// A properties file with settings of the producer.
    #[arg(long, alias = "producer.config")]
    command_config: Option<PathBuf>,
    /// Print metrics at the end.
    #[arg(long)]
    print_metrics: bool,
    /// Milliseconds between lines.
    #[arg(long, default_value_t = 5000)]
    reporting_interval: u64,
    /// Records at the beginning that do not count.
    #[arg(long, default_value_t = 0)]
    warmup_records: u64,
}

/// Records that have been acknowledged since the tally began.
struct Tally {
    began: Instant,
    count: u64,
    bytes: u64,
    total_ms: u64,
    max_ms: u64,
}

impl Tally {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            count: 0,
            bytes: 0,
            total_ms: 0,
            max_ms: 0,
        }
    }

    fn note(&mut self, latency_ms: u64, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
        self.total_ms += latency_ms;
        self.max_ms = self.max_ms.max(latency_ms);
    }
}

/// Statistics of all records, and of those since the last line. Latencies are counted by the millisecond up to a
/// minute, exact enough for percentiles in milliseconds.
struct Stats {
    all: Tally,
    window: Tally,
    by_ms: Vec<u64>,
    interval: Duration,
}

const SLOWEST_MS: usize = 60_000;

impl Stats {
    fn new(interval: Duration) -> Self {
        Self {
            all: Tally::new(),
            window: Tally::new(),
            by_ms: vec![0; SLOWEST_MS + 1],
            interval,
        }
    }

    fn note(&mut self, latency_ms: u64, bytes: u64) {
        self.by_ms[(latency_ms as usize).min(SLOWEST_MS)] += 1;
        self.all.note(latency_ms, bytes);
        self.window.note(latency_ms, bytes);
    }

    /// Prints a line for the records since the last line, when it is time.
    fn report_window(&mut self) {
        let elapsed = self.window.began.elapsed();
        if elapsed < self.interval {
            return;
        }
        let window = std::mem::replace(&mut self.window, Tally::new());
        let seconds = elapsed.as_secs_f64();
        println!(
            "{} records sent, {:.1} records/sec ({:.2} MB/sec), {:.1} ms avg latency, {:.1} ms max latency.",
            window.count,
            window.count as f64 / seconds,
            window.bytes as f64 / seconds / MEBIBYTE,
            window.total_ms as f64 / window.count.max(1) as f64,
            window.max_ms as f64
        );
    }

    fn percentile(&self, share: f64) -> usize {
        let wanted = ((self.all.count as f64 * share) as u64).min(self.all.count.saturating_sub(1));
        let mut seen = 0;
        for (ms, count) in self.by_ms.iter().enumerate() {
            seen += count;
            if seen > wanted {
                return ms;
            }
        }
        0
    }

    fn report(&self) {
        let seconds = self.all.began.elapsed().as_secs_f64();
        println!(
            "{} records sent, {:.6} records/sec ({:.2} MB/sec), {:.2} ms avg latency, {:.2} ms max latency, {} ms 50th, {} ms 95th, {} ms 99th, {} ms 99.9th.",
            self.all.count,
            self.all.count as f64 / seconds,
            self.all.bytes as f64 / seconds / MEBIBYTE,
            self.all.total_ms as f64 / self.all.count.max(1) as f64,
            self.all.max_ms as f64,
            self.percentile(0.5),
            self.percentile(0.95),
            self.percentile(0.99),
            self.percentile(0.999)
        );
    }
}

fn payloads(given: &Options) -> Result<Vec<Bytes>, Failure> {
    if let Some(path) = &given.payload_file {
        let shown = path.display();
        println!("Reading payloads from: {shown}");
        let text = std::fs::read(path).map_err(|e| Failure::stderr(format!("{shown}: {e}")))?;
        let delimiter = given
            .payload_delimiter
            .replace("\\n", "\n")
            .replace("\\t", "\t");
        let text = String::from_utf8_lossy(&text).into_owned();
        let all: Vec<Bytes> = text
            .split(&delimiter)
            .filter(|p| !p.is_empty())
            .map(|p| Bytes::copy_from_slice(p.as_bytes()))
            .collect();
        println!("Number of records read: {}", all.len());
        if all.is_empty() {
            return Err(Failure::stderr(format!(
                "File does not exist or empty file provided: {shown}"
            )));
        }
        return Ok(all);
    }
    let Some(size) = given.record_size else {
        return if given.payload_monotonic {
            Ok(Vec::new())
        } else {
            Err(Failure::stderr(
                "one of the arguments --record-size --payload-file --payload-monotonic is required",
            ))
        };
    };
    if size == 0 {
        return Err(Failure::stderr(
            "--record-size should be greater than zero.",
        ));
    }
    // One value for all, as Kafka's tool makes it, and a few more so that they compress as text does.
    let mut random = StdRng::seed_from_u64(0);
    let values = (0..16).map(|_| {
        let value: Vec<u8> = (0..size)
            .map(|_| random.random_range(b'A'..=b'Z'))
            .collect();
        Bytes::from(value)
    });
    Ok(values.collect())
}

/// Milliseconds of a clock that does not go back.
fn millis_since(start: Instant) -> u64 {
    start.elapsed().as_millis() as u64
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let given: Options = parse(tool, arguments)?;
    let mut properties = match &given.command_config {
        Some(path) => Properties::load(path)?,
        None => Properties::default(),
    };
    properties.add(&given.producer_props)?;
    properties.add(&given.command_property)?;
    let connect = crate::command::Connect {
        bootstrap_server: given
            .bootstrap_server
            .clone()
            .or_else(|| properties.get("bootstrap.servers").map(str::to_owned)),
        command_config: None,
    };
    let bootstrap = connect.address()?;
    let payloads = payloads(&given)?;
    let cluster = Cluster::new(&bootstrap, options(&properties, "perf-producer-client")?);
    let interval = Duration::from_millis(given.reporting_interval.max(1));
    let stats = Arc::new(Mutex::new(Stats::new(interval)));
    let (noting, start) = (stats.clone(), Instant::now());
    let sizes: u64 = payloads.first().map_or(8, Bytes::len) as u64;
    let warm = given.warmup_records;
    let producer = Producer::new(cluster, producer_options(&properties)?, move |delivery| {
        note(&delivery, &noting, start, sizes);
    });
    let mut random = StdRng::seed_from_u64(1);
    let mut record = RecordToWrite::default();
    let mut paced = Instant::now();
    let mut paced_from = 0;
    for number in 0..given.num_records {
        record.value = Some(match payloads.len() {
            0 => Bytes::from(number.to_string()),
            1 => payloads[0].clone(),
            several => payloads[random.random_range(0..several)].clone(),
        });
        record.timestamp = now_ms();
        let token = millis_since(start);
        if let Err(error) = producer.send(&given.topic, None, &record, token).await {
            return Err(Failure::stderr(told(&error)));
        }
        if number + 1 == warm {
            producer.flush().await;
            *stats.lock().expect("no holder panics") = Stats::new(interval);
            paced = Instant::now();
            paced_from = number + 1;
        }
        if given.throughput > 0.0 {
            let due = (number + 1 - paced_from) as f64 / given.throughput;
            let due = Duration::try_from_secs_f64(due).unwrap_or(Duration::MAX);
            let early = due.saturating_sub(paced.elapsed());
            if early > Duration::from_millis(1) {
                tokio::time::sleep(early).await;
            }
        }
        if number % 64 == 0 {
            stats.lock().expect("no holder panics").report_window();
            // The sender has its turn, too.
            tokio::task::yield_now().await;
        }
    }
    producer.flush().await;
    stats.lock().expect("no holder panics").report();
    if given.print_metrics {
        println!("(no metrics beside these are kept by this producer)");
    }
    Ok(())
}

fn note(delivery: &Delivery, stats: &Mutex<Stats>, start: Instant, bytes: u64) {
    let now = millis_since(start);
    match &delivery.result {
        Ok(_) => {
            let mut stats = stats.lock().expect("no holder panics");
            for sent in &delivery.tokens {
                stats.note(now.saturating_sub(*sent), bytes);
            }
        }
        Err(error) => eprintln!(
            "[{}] ERROR {} record(s) of {}-{} were not written: {}",
            log_stamp(),
            delivery.tokens.len(),
            delivery.topic,
            delivery.partition,
            told(error)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_records() {
        let mut stats = Stats::new(Duration::from_secs(5));
        for ms in 0..1000 {
            stats.note(ms, 1);
        }
        assert_eq!(stats.percentile(0.5), 500);
        assert_eq!(stats.percentile(0.99), 990);
        assert_eq!(stats.percentile(1.0), 999);
        assert_eq!(stats.all.max_ms, 999);
    }
}
