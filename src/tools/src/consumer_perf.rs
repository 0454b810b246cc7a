//! `kafka-consumer-perf-test`

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::Rng;
use strandline_client::{Cluster, Consumer};

use crate::command::{Connect, Failure, Outcome, POLL, included_topics, options, parse};
use crate::console_consumer::consumer_options;
use crate::properties::Properties;
use crate::time::{now_ms, perf_stamp};

const MEBIBYTE: f64 = 1024.0 * 1024.0;
const HEADER: &str = "start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec";
const DETAILED_HEADER: &str = "time, threadId, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, fetch.MB.sec, fetch.nMsg.sec";

#[derive(clap::Parser)]
pub(crate) struct Options {
    /// The brokers to ask first: HOST:PORT, several separated by commas. Without it, the environment's STRANDLINE_BOOTSTRAP_SERVER.
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_server: Option<String>,
    /// The topic to read.
    #[arg(long)]
    topic: Option<String>,
    /// Topics as a regular expression.
    #[arg(long)]
    include: Option<String>,
    /// How many records to read.
    #[arg(long, alias = "messages")]
    num_records: u64,
    /// The consumer group. Without it, a new one.
    #[arg(long)]
    group: Option<String>,
    /// Bytes of one fetch.
    #[arg(long, default_value_t = 1_048_576)]
    fetch_size: i32,
    /// Begins with the next new records, not at the beginning.
    #[arg(long)]
    from_latest: bool,
    /// Size of the socket's buffer, in bytes.
    #[arg(long)]
    socket_buffer_size: Option<usize>,
    /// A properties file with settings of the consumer.
    #[arg(long, alias = "consumer.config")]
    command_config: Option<PathBuf>,
    /// A setting of the consumer.
    #[arg(long, value_name = "NAME=VALUE")]
    command_property: Vec<String>,
    /// Print metrics at the end.
    #[arg(long)]
    print_metrics: bool,
    /// Print a line for each interval.
    #[arg(long)]
    show_detailed_stats: bool,
    /// Milliseconds between lines of --show-detailed-stats.
    #[arg(long, default_value_t = 5000)]
    reporting_interval: u64,
    /// Print no header.
    #[arg(long)]
    hide_header: bool,
    /// Milliseconds without a record after which it ends.
    #[arg(long, default_value_t = 10_000)]
    timeout: u64,
    /// The form of times.
    #[arg(long)]
    date_format: Option<String>,
}

fn rate(amount: f64, over: Duration) -> f64 {
    let seconds = over.as_secs_f64();
    if seconds > 0.0 { amount / seconds } else { 0.0 }
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let given: Options = parse(tool, arguments)?;
    if given.topic.is_some() == given.include.is_some() {
        return Err(Failure::stderr(
            "Exactly one of the following arguments is required: topic, include",
        ));
    }
    let mut properties = match &given.command_config {
        Some(path) => Properties::load(path)?,
        None => Properties::default(),
    };
    properties.add(&given.command_property)?;
    let reset = if given.from_latest {
        "latest"
    } else {
        "earliest"
    };
    properties.set("auto.offset.reset", reset);
    properties.set("max.partition.fetch.bytes", &given.fetch_size.to_string());
    properties.set("check.crcs", "false");
    let connect = Connect {
        bootstrap_server: given.bootstrap_server.clone(),
        command_config: None,
    };
    let bootstrap = connect.address()?;
    let number = rand::rng().random_range(0..100_000);
    let group = given.group.clone();
    let group = group.unwrap_or_else(|| format!("perf-consumer-{number}"));
    let cluster = Cluster::new(&bootstrap, options(&properties, "perf-consumer-client")?);
    let topics = match (&given.topic, &given.include) {
        (Some(topic), _) => vec![topic.clone()],
        (None, pattern) => {
            included_topics(&cluster, pattern.as_deref().unwrap_or_default()).await?
        }
    };
    if !given.hide_header {
        let header = if given.show_detailed_stats {
            DETAILED_HEADER
        } else {
            HEADER
        };
        println!("{header}");
    }
    let consumer = Consumer::subscribe(cluster, &group, &topics, consumer_options(&properties)?);
    measure(consumer, &given).await
}

async fn measure(mut consumer: Consumer, given: &Options) -> Outcome {
    let (start_ms, began) = (now_ms(), Instant::now());
    let (mut count, mut bytes) = (0u64, 0u64);
    let mut heard = Instant::now();
    // State of the last line of detailed statistics.
    let (mut line_at, mut line_count, mut line_bytes) = (Instant::now(), 0u64, 0u64);
    let mut line_joining = Duration::ZERO;
    let interval = Duration::from_millis(given.reporting_interval.max(1));
    while count < given.num_records && heard.elapsed() < Duration::from_millis(given.timeout) {
        let records = consumer.poll(POLL).await?;
        if !records.is_empty() {
            heard = Instant::now();
        }
        for one in &records {
            count += 1;
            let length = |b: &Option<bytes::Bytes>| b.as_ref().map_or(0, bytes::Bytes::len) as u64;
            bytes += length(&one.record.key) + length(&one.record.value);
        }
        if given.show_detailed_stats && line_at.elapsed() >= interval {
            let elapsed = line_at.elapsed();
            let joining = consumer.joining().saturating_sub(line_joining);
            let fetching = elapsed.saturating_sub(joining);
            let megabytes = (bytes - line_bytes) as f64 / MEBIBYTE;
            let records = (count - line_count) as f64;
            println!(
                "{}, 0, {:.4}, {:.4}, {count}, {:.4}, {}, {}, {:.4}, {:.4}",
                perf_stamp(now_ms()),
                bytes as f64 / MEBIBYTE,
                rate(megabytes, elapsed),
                rate(records, elapsed),
                joining.as_millis(),
                fetching.as_millis(),
                rate(megabytes, fetching),
                rate(records, fetching)
            );
            line_at = Instant::now();
            (line_count, line_bytes, line_joining) = (count, bytes, consumer.joining());
        }
    }
    let (elapsed, joining) = (began.elapsed(), consumer.joining());
    let (end_ms, megabytes) = (now_ms(), bytes as f64 / MEBIBYTE);
    if count < given.num_records {
        println!(
            "WARNING: Exiting before consuming the expected number of records: timeout ({} ms) exceeded. You can use the --timeout option to increase the timeout.",
            given.timeout
        );
    }
    if !given.show_detailed_stats {
        let fetching = elapsed.saturating_sub(joining);
        println!(
            "{}, {}, {megabytes:.4}, {:.4}, {count}, {:.4}, {}, {}, {:.4}, {:.4}",
            perf_stamp(start_ms),
            perf_stamp(end_ms),
            rate(megabytes, elapsed),
            rate(count as f64, elapsed),
            joining.as_millis(),
            fetching.as_millis(),
            rate(megabytes, fetching),
            rate(count as f64, fetching)
        );
    }
    consumer.close().await?;
    Ok(())
}
