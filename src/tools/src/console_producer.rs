//! `kafka-console-producer`

use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use strandline_client::{Acks, Cluster, Delivery, Producer, ProducerOptions};
use strandline_wire::batch::{RecordHeader, RecordToWrite};
use strandline_wire::compression::Compression;
use tokio::sync::mpsc;

use crate::command::{Failure, Outcome, interrupted, options, parse, told};
use crate::properties::Properties;
use crate::time::{log_stamp, now_ms};

#[derive(clap::Parser)]
pub(crate) struct Options {
    /// The brokers to ask first: HOST:PORT, several separated by commas. Without it, the environment's STRANDLINE_BOOTSTRAP_SERVER.
    #[arg(long, value_name = "HOST:PORT", alias = "broker-list")]
    bootstrap_server: Option<String>,
    /// The topic to write to.
    #[arg(long)]
    topic: String,
    /// Waits for the answer to each record before the next.
    #[arg(long)]
    sync: bool,
    /// none, gzip, snappy, lz4 or zstd; without a value gzip.
    #[arg(long, num_args = 0..=1, default_missing_value = "gzip")]
    compression_codec: Option<String>,
    /// Largest size of a batch, in bytes.
    #[arg(long)]
    batch_size: Option<usize>,
    /// Attempts after the first one.
    #[arg(long)]
    message_send_max_retries: Option<u32>,
    /// Pause before another attempt, in milliseconds.
    #[arg(long)]
    retry_backoff_ms: Option<u64>,
    /// How long records wait for company in a batch, in milliseconds.
    #[arg(long)]
    timeout: Option<u64>,
    /// When a record counts as written: 0, 1 or all.
    #[arg(long)]
    request_required_acks: Option<String>,
    /// How long an answer may take, in milliseconds.
    #[arg(long)]
    request_timeout_ms: Option<u64>,
    /// How long metadata is used, in milliseconds.
    #[arg(long)]
    metadata_expiry_ms: Option<u64>,
    /// How long a record may wait for room or for metadata, in milliseconds.
    #[arg(long)]
    max_block_ms: Option<u64>,
    /// Room for records that wait to be sent, in bytes.
    #[arg(long)]
    max_memory_bytes: Option<usize>,
    /// Largest size of a batch of one partition, in bytes.
    #[arg(long)]
    max_partition_memory_bytes: Option<usize>,
    /// Size of the socket's buffer, in bytes.
    #[arg(long)]
    socket_buffer_size: Option<usize>,
    /// How lines become records: one of Kafka's class names.
    #[arg(long)]
    line_reader: Option<String>,
    /// How lines are read: parse.key, key.separator, parse.headers, headers.delimiter, headers.separator,
    /// headers.key.separator, null.marker, ignore.error.
    #[arg(long, value_name = "NAME=VALUE")]
    reader_property: Vec<String>,
    /// A properties file for the reader.
    #[arg(long, value_name = "FILE")]
    reader_config: Option<PathBuf>,
    /// The older name of --reader-property.
    #[arg(long, value_name = "NAME=VALUE")]
    property: Vec<String>,
    /// A setting of the producer.
    #[arg(long, value_name = "NAME=VALUE")]
    command_property: Vec<String>,
    /// A setting of the producer (the older name of --command-property).
    #[arg(long, value_name = "NAME=VALUE")]
    producer_property: Vec<String>,
    /// A properties file with settings of the producer.
    #[arg(long, value_name = "FILE", alias = "producer.config")]
    command_config: Option<PathBuf>,
}

/// How a line becomes a record.
struct LineReader {
    topic: String,
    parses_key: bool,
    key_separator: String,
    parses_headers: bool,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    ignores_errors: bool,
    null_marker: Option<String>,
}

impl LineReader {
    fn new(properties: &Properties) -> Self {
        let text = |key: &str, default: &str| properties.get(key).unwrap_or(default).to_owned();
        Self {
            topic: String::new(),
            parses_key: properties.is_true("parse.key"),
            key_separator: text("key.separator", "\t"),
            parses_headers: properties.is_true("parse.headers"),
            headers_delimiter: text("headers.delimiter", "\t"),
            headers_separator: text("headers.separator", ","),
            headers_key_separator: text("headers.key.separator", ":"),
            ignores_errors: properties.is_true("ignore.error"),
            null_marker: properties.get("null.marker").map(str::to_owned),
        }
    }

    fn bytes(&self, text: &str) -> Option<Bytes> {
        if self.null_marker.as_deref() == Some(text) {
            None
        } else {
            Some(Bytes::copy_from_slice(text.as_bytes()))
        }
    }

    fn parse(&self, line: &str, number: u64) -> Result<RecordToWrite, String> {
        let mut rest = line;
        let mut headers = Vec::new();
        if self.parses_headers {
            match rest.split_once(&self.headers_delimiter) {
                Some((found, after)) => {
                    headers = self.parse_headers(found, number)?;
                    rest = after;
                }
                None if self.ignores_errors => {}
                None => {
                    return Err(format!(
                        "No header delimiter found on line number {number}: '{line}'"
                    ));
                }
            }
        }
        let mut key = None;
        if self.parses_key {
            match rest.split_once(&self.key_separator) {
                Some((found, after)) => {
                    key = self.bytes(found);
                    rest = after;
                }
                None if self.ignores_errors => {}
                None => {
                    return Err(format!(
                        "No key separator found on line number {number}: '{line}'"
                    ));
                }
            }
        }
        Ok(RecordToWrite {
            timestamp: now_ms(),
            key,
            value: self.bytes(rest),
            headers,
        })
    }

    fn parse_headers(&self, text: &str, number: u64) -> Result<Vec<RecordHeader>, String> {
        let mut headers = Vec::new();
        for pair in text.split(&self.headers_separator) {
            match pair.split_once(&self.headers_key_separator) {
                Some((key, value)) => headers.push(RecordHeader {
                    key: Bytes::copy_from_slice(key.as_bytes()),
                    value: self.bytes(value),
                }),
                None if self.ignores_errors => headers.push(RecordHeader {
                    key: Bytes::copy_from_slice(pair.as_bytes()),
                    value: None,
                }),
                None => {
                    return Err(format!(
                        "No header key separator found in pair '{pair}' on line number {number}"
                    ));
                }
            }
        }
        Ok(headers)
    }
}

/// A codec by its name.
pub fn codec(name: &str) -> Result<Compression, Failure> {
    Ok(match name {
        "none" => Compression::None,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        other => {
            return Err(Failure::stderr(format!(
                "Unknown compression name: {other}"
            )));
        }
    })
}

/// The producer that settings describe.
pub fn producer_options(properties: &Properties) -> Result<ProducerOptions, Failure> {
    let defaults = ProducerOptions::default();
    let acks = match properties.get("acks").unwrap_or("all") {
        "0" => Acks::None,
        "1" => Acks::Leader,
        "all" | "-1" => Acks::All,
        other => {
            return Err(Failure::stderr(format!(
                "Invalid value {other} for configuration acks: String must be one of: all, -1, 0, 1"
            )));
        }
    };
    if properties.get("transactional.id").is_some() {
        return Err(Failure::stderr(
            "transactional.id: transactions are not supported by this tool yet",
        ));
    }
    let wants = properties.get("enable.idempotence").unwrap_or("true");
    Ok(ProducerOptions {
        acks,
        compression: codec(properties.get("compression.type").unwrap_or("none"))?,
        linger: properties.millis("linger.ms", defaults.linger)?,
        batch_bytes: properties.number("batch.size", defaults.batch_bytes)?,
        buffer_bytes: properties.number("buffer.memory", defaults.buffer_bytes)?,
        max_request_bytes: properties.number("max.request.size", defaults.max_request_bytes)?,
        max_block: properties.millis("max.block.ms", defaults.max_block)?,
        delivery_timeout: properties.millis("delivery.timeout.ms", defaults.delivery_timeout)?,
        retry_backoff: properties.millis("retry.backoff.ms", defaults.retry_backoff)?,
        max_in_flight: properties.number(
            "max.in.flight.requests.per.connection",
            defaults.max_in_flight,
        )?,
        idempotent: wants == "true" && acks == Acks::All,
    })
}

fn settings(given: &Options) -> Result<Properties, Failure> {
    let mut properties = match &given.command_config {
        Some(path) => Properties::load(path)?,
        None => Properties::default(),
    };
    // Options that are not given say nothing where the file does.
    let mut put = |key: &str, value: Option<String>, default: Option<&str>| {
        if let Some(value) = value {
            properties.set(key, &value);
        } else if let Some(default) = default.filter(|_| properties.get(key).is_none()) {
            properties.set(key, default);
        }
    };
    let number = |n: Option<u64>| n.map(|n| n.to_string());
    let size = |n: Option<usize>| n.map(|n| n.to_string());
    put("compression.type", given.compression_codec.clone(), None);
    put("acks", given.request_required_acks.clone(), None);
    put("linger.ms", number(given.timeout), Some("1000"));
    put("retry.backoff.ms", number(given.retry_backoff_ms), None);
    put(
        "request.timeout.ms",
        number(given.request_timeout_ms),
        Some("1500"),
    );
    put("max.block.ms", number(given.max_block_ms), None);
    put("buffer.memory", size(given.max_memory_bytes), None);
    put(
        "batch.size",
        size(given.max_partition_memory_bytes.or(given.batch_size)),
        None,
    );
    properties.add(&given.producer_property)?;
    properties.add(&given.command_property)?;
    Ok(properties)
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let given: Options = parse(tool, arguments)?;
    let connect = crate::command::Connect {
        bootstrap_server: given.bootstrap_server.clone(),
        command_config: None,
    };
    let bootstrap = connect.address()?;
    let properties = settings(&given)?;
    let mut reading = match &given.reader_config {
        Some(path) => Properties::load(path)?,
        None => Properties::default(),
    };
    if !given.property.is_empty() {
        println!(
            "Warning: --property is deprecated and will be removed in a future version. Use --reader-property instead."
        );
    }
    reading.add(&given.property)?;
    reading.add(&given.reader_property)?;
    let mut reader = LineReader::new(&reading);
    reader.topic.clone_from(&given.topic);
    let cluster = Cluster::new(&bootstrap, options(&properties, "console-producer")?);
    let failed = Arc::new(AtomicBool::new(false));
    let noting = failed.clone();
    let producer = Producer::new(cluster, producer_options(&properties)?, move |delivery| {
        report(&delivery, &noting);
    });
    let mut lines = stdin_lines();
    let prompts = std::io::stdin().is_terminal();
    let mut number = 0;
    let interrupted = interrupted();
    tokio::pin!(interrupted);
    loop {
        if prompts {
            print!(">");
            let _ = std::io::stdout().flush();
        }
        let next = tokio::select! {
            () = &mut interrupted => None,
            next = lines.recv() => next,
        };
        let Some(line) = next else { break };
        let line = line.map_err(|e| Failure::stderr(format!("standard input: {e}")))?;
        number += 1;
        let record = match reader.parse(&line, number) {
            Ok(record) => record,
            Err(reason) => {
                producer.flush().await;
                return Err(Failure::stderr(format!(
                    "org.apache.kafka.common.KafkaException: {reason}"
                )));
            }
        };
        if let Err(error) = producer.send(&reader.topic, None, &record, number).await {
            failed.store(true, Ordering::Release);
            eprintln!(
                "[{}] ERROR Error when sending message to topic {} with error: (org.apache.kafka.clients.producer.internals.ErrorLoggingCallback)\n{}",
                log_stamp(),
                reader.topic,
                told(&error)
            );
        }
        if given.sync {
            producer.flush().await;
        }
    }
    producer.flush().await;
    if failed.load(Ordering::Acquire) {
        return Err(Failure::default());
    }
    Ok(())
}

/// Lines of standard input, read by a thread of its own: nothing else can wait for them and be interrupted.
fn stdin_lines() -> mpsc::Receiver<std::io::Result<String>> {
    const AHEAD: usize = 1024;
    let (sender, lines) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn report(delivery: &Delivery, failed: &AtomicBool) {
    if let Err(error) = &delivery.result {
        failed.store(true, Ordering::Release);
        eprintln!(
            "[{}] ERROR Error when sending {} message(s) to topic {}, partition {} with error: (org.apache.kafka.clients.producer.internals.ErrorLoggingCallback)\n{}",
            log_stamp(),
            delivery.tokens.len(),
            delivery.topic,
            delivery.partition,
            told(error)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(pairs: &[(&str, &str)]) -> LineReader {
        let mut properties = Properties::default();
        for (key, value) in pairs {
            properties.set(key, value);
        }
        LineReader::new(&properties)
    }

    #[test]
    fn lines_have_headers_keys_and_null_markers() {
        let plain = reader(&[]).parse("a\tb", 1).unwrap();
        assert_eq!(
            (plain.key, plain.value.as_deref()),
            (None, Some(&b"a\tb"[..]))
        );
        let keyed = reader(&[("parse.key", "true"), ("key.separator", ":")]);
        let record = keyed.parse("user:order:1", 1).unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"user"[..]));
        assert_eq!(record.value.as_deref(), Some(&b"order:1"[..]));
        assert_eq!(
            keyed.parse("nosep", 7).unwrap_err(),
            "No key separator found on line number 7: 'nosep'"
        );
        let full = reader(&[
            ("parse.headers", "true"),
            ("parse.key", "true"),
            ("null.marker", "NULL"),
        ]);
        let record = full.parse("h1:a,h2:NULL\tk\tNULL", 1).unwrap();
        assert_eq!(record.headers.len(), 2);
        assert_eq!(
            (record.headers[1].value.clone(), record.value),
            (None, None)
        );
    }
}
