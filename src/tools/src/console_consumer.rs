//! `kafka-console-consumer`

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::Rng;
use strandline_client::{Cluster, Consumed, Consumer, ConsumerOptions, OffsetReset};
use strandline_wire::special_timestamp::{EARLIEST, LATEST};

use crate::command::{
    Connect, Failure, Outcome, POLL, included_topics, interrupted, options, parse, told,
};
use crate::properties::Properties;
use crate::time::log_stamp;

#[derive(clap::Parser)]
pub(crate) struct Options {
    /// The brokers to ask first: HOST:PORT, several separated by commas. Without it, the environment's STRANDLINE_BOOTSTRAP_SERVER.
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_server: Option<String>,
    /// The topic to read.
    #[arg(long)]
    topic: Option<String>,
    /// Topics as a regular expression.
    #[arg(long, alias = "whitelist")]
    include: Option<String>,
    /// Read this partition only.
    #[arg(long)]
    partition: Option<i32>,
    /// A number, earliest or latest.
    #[arg(long)]
    offset: Option<String>,
    /// Begin with the oldest record where the group has no position.
    #[arg(long)]
    from_beginning: bool,
    /// End after so many records.
    #[arg(long)]
    max_messages: Option<u64>,
    /// Ends when nothing has come for so long.
    #[arg(long)]
    timeout_ms: Option<u64>,
    /// The consumer group. Without it, a new one.
    #[arg(long)]
    group: Option<String>,
    /// Go on behind a record that cannot be shown.
    #[arg(long)]
    skip_message_on_error: bool,
    /// read_uncommitted (the default) or read_committed.
    #[arg(long)]
    isolation_level: Option<String>,
    /// Log events of the life of the consumer, for system tests.
    #[arg(long)]
    enable_systest_events: bool,
    /// The parts of a record to print: print.timestamp, print.key, print.offset, print.delivery, print.epoch,
    /// print.partition, print.headers, print.value, key.separator, line.separator, headers.separator, null.literal.
    #[arg(long, value_name = "NAME=VALUE")]
    formatter_property: Vec<String>,
    /// A properties file for the formatter.
    #[arg(long, value_name = "FILE")]
    formatter_config: Option<PathBuf>,
    /// The older name of --formatter-property.
    #[arg(long, value_name = "NAME=VALUE")]
    property: Vec<String>,
    /// The formatter: one of Kafka's class names.
    #[arg(long)]
    formatter: Option<String>,
    /// How keys are shown: one of Kafka's class names.
    #[arg(long)]
    key_deserializer: Option<String>,
    /// How values are shown: one of Kafka's class names.
    #[arg(long)]
    value_deserializer: Option<String>,
    /// A setting of the consumer.
    #[arg(long, value_name = "NAME=VALUE")]
    command_property: Vec<String>,
    /// A setting of the consumer (the older name of --command-property).
    #[arg(long, value_name = "NAME=VALUE")]
    consumer_property: Vec<String>,
    /// A properties file with settings of the consumer.
    #[arg(long, value_name = "FILE", alias = "consumer.config")]
    command_config: Option<PathBuf>,
}

/// How a record is printed (`DefaultMessageFormatter`).
struct Formatter {
    timestamp: bool,
    key: bool,
    offset: bool,
    partition: bool,
    headers: bool,
    epoch: bool,
    delivery: bool,
    value: bool,
    key_separator: Vec<u8>,
    line_separator: Vec<u8>,
    headers_separator: Vec<u8>,
    null: Vec<u8>,
}

impl Formatter {
    fn new(properties: &Properties) -> Self {
        let bytes =
            |key: &str, default: &str| properties.get(key).unwrap_or(default).as_bytes().to_vec();
        Self {
            timestamp: properties.is_true("print.timestamp"),
            key: properties.is_true("print.key"),
            offset: properties.is_true("print.offset"),
            partition: properties.is_true("print.partition"),
            headers: properties.is_true("print.headers"),
            epoch: properties.is_true("print.epoch"),
            delivery: properties.is_true("print.delivery"),
            value: properties.get("print.value").is_none_or(|v| v == "true"),
            key_separator: bytes("key.separator", "\t"),
            line_separator: bytes("line.separator", "\n"),
            headers_separator: bytes("headers.separator", ","),
            null: bytes("null.literal", "null"),
        }
    }

    fn write(&self, consumed: &Consumed, out: &mut Vec<u8>) {
        let record = &consumed.record;
        let mut fields: Vec<Vec<u8>> = Vec::new();
        if self.timestamp {
            let kind = if consumed.log_append_time {
                "LogAppendTime"
            } else {
                "CreateTime"
            };
            fields.push(match record.timestamp {
                -1 => b"NO_TIMESTAMP".to_vec(),
                at => format!("{kind}:{at}").into_bytes(),
            });
        }
        if self.partition {
            fields.push(format!("Partition:{}", consumed.partition).into_bytes());
        }
        if self.offset {
            fields.push(format!("Offset:{}", record.offset).into_bytes());
        }
        if self.delivery {
            fields.push(b"Delivery:NOT_PRESENT".to_vec());
        }
        if self.epoch {
            fields.push(b"Epoch:NOT_PRESENT".to_vec());
        }
        if self.headers {
            fields.push(self.headers_field(consumed));
        }
        let shown = |bytes: &Option<bytes::Bytes>| {
            bytes
                .as_ref()
                .map_or_else(|| self.null.clone(), |b| b.to_vec())
        };
        if self.key {
            fields.push(shown(&record.key));
        }
        if self.value {
            fields.push(shown(&record.value));
        }
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(&self.key_separator);
            }
            out.extend_from_slice(field);
        }
        out.extend_from_slice(&self.line_separator);
    }

    fn headers_field(&self, consumed: &Consumed) -> Vec<u8> {
        let headers = &consumed.record.headers;
        if headers.is_empty() {
            return b"NO_HEADERS".to_vec();
        }
        let mut field = Vec::new();
        for (index, header) in headers.iter().enumerate() {
            if index > 0 {
                field.extend_from_slice(&self.headers_separator);
            }
            field.extend_from_slice(&header.key);
            field.push(b':');
            field.extend_from_slice(header.value.as_deref().unwrap_or(&self.null));
        }
        field
    }
}

/// The consumer that settings describe.
pub fn consumer_options(properties: &Properties) -> Result<ConsumerOptions, Failure> {
    let defaults = ConsumerOptions::default();
    let reset = match properties.get("auto.offset.reset").unwrap_or("latest") {
        "earliest" => OffsetReset::Earliest,
        "latest" => OffsetReset::Latest,
        "none" => OffsetReset::None,
        other => {
            return Err(Failure::stderr(format!(
                "Invalid value {other} for configuration auto.offset.reset: String must be one of: latest, earliest, none"
            )));
        }
    };
    let read_committed = match properties
        .get("isolation.level")
        .unwrap_or("read_uncommitted")
    {
        "read_committed" => true,
        "read_uncommitted" => false,
        other => {
            return Err(Failure::stderr(format!(
                "Invalid value {other} for configuration isolation.level: String must be one of: read_committed, read_uncommitted"
            )));
        }
    };
    let commits = properties.get("enable.auto.commit").unwrap_or("true") == "true";
    let interval = properties.millis("auto.commit.interval.ms", Duration::from_secs(5))?;
    Ok(ConsumerOptions {
        reset,
        max_wait: properties.millis("fetch.max.wait.ms", defaults.max_wait)?,
        min_bytes: properties.number("fetch.min.bytes", defaults.min_bytes)?,
        max_bytes: properties.number("fetch.max.bytes", defaults.max_bytes)?,
        max_partition_bytes: properties
            .number("max.partition.fetch.bytes", defaults.max_partition_bytes)?,
        session_timeout: properties.millis("session.timeout.ms", defaults.session_timeout)?,
        heartbeat_interval: properties
            .millis("heartbeat.interval.ms", defaults.heartbeat_interval)?,
        max_poll_interval: properties.millis("max.poll.interval.ms", defaults.max_poll_interval)?,
        auto_commit: commits.then_some(interval),
        read_committed,
        rack: properties.get("client.rack").unwrap_or_default().to_owned(),
        check_crcs: properties.get("check.crcs").is_none_or(|v| v == "true"),
    })
}

/// Where a consumer of one partition begins.
enum Start {
    At(i64),
    Timestamp(i64),
}

fn start_of(given: &Options) -> Result<Start, Failure> {
    Ok(match given.offset.as_deref() {
        None if given.from_beginning => Start::Timestamp(EARLIEST),
        None | Some("latest") => Start::Timestamp(LATEST),
        Some("earliest") => Start::Timestamp(EARLIEST),
        Some(number) => {
            let offset = number.parse().ok().filter(|o: &i64| *o >= 0);
            Start::At(offset.ok_or_else(|| {
                Failure::stderr(format!(
                    "The provided offset value '{number}' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long."
                ))
            })?)
        }
    })
}

fn check_usage(given: &Options) -> Result<(), Failure> {
    let usage = |message: &str| Err(Failure::stderr(message));
    if given.topic.is_some() == given.include.is_some() {
        return usage("Exactly one of --include/--topic is required.");
    }
    if given.partition.is_some() && given.topic.is_none() {
        return usage("The topic is required when partition is specified.");
    }
    if given.partition.is_some() && given.group.is_some() {
        return usage("Options group and partition cannot be specified together.");
    }
    if given.offset.is_some() && given.partition.is_none() {
        return usage("The partition is required when offset is specified.");
    }
    if given.from_beginning && given.offset.is_some() {
        return usage("Options from-beginning and offset cannot be specified together.");
    }
    if given
        .formatter
        .as_deref()
        .is_some_and(|f| !f.ends_with("DefaultMessageFormatter"))
    {
        return usage("--formatter: only the default one is built in");
    }
    Ok(())
}

fn settings(given: &Options) -> Result<Properties, Failure> {
    let mut properties = match &given.command_config {
        Some(path) => Properties::load(path)?,
        None => Properties::default(),
    };
    properties.add(&given.consumer_property)?;
    properties.add(&given.command_property)?;
    if let Some(level) = &given.isolation_level {
        properties.set("isolation.level", level);
    }
    if given.from_beginning {
        if properties.get("auto.offset.reset") == Some("latest") {
            return Err(Failure::stderr(
                "Can't simultaneously specify --from-beginning and 'auto.offset.reset=latest', please remove one option",
            ));
        }
        properties.set("auto.offset.reset", "earliest");
    }
    if let Some(group) = &given.group {
        properties.set("group.id", group);
    }
    if properties.get("group.id").is_none() {
        let number = rand::rng().random_range(0..100_000);
        properties.set("group.id", &format!("console-consumer-{number}"));
        // Nothing will read the offsets of a temporary group.
        if properties.get("enable.auto.commit").is_none() {
            properties.set("enable.auto.commit", "false");
        }
    }
    Ok(properties)
}

pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> Outcome {
    let given: Options = parse(tool, arguments)?;
    check_usage(&given)?;
    let connect = Connect {
        bootstrap_server: given.bootstrap_server.clone(),
        command_config: None,
    };
    let bootstrap = connect.address()?;
    let properties = settings(&given)?;
    let mut printing = match &given.formatter_config {
        Some(path) => Properties::load(path)?,
        None => Properties::default(),
    };
    if !given.property.is_empty() {
        println!(
            "Option --property is deprecated and will be removed in a future version. Use --formatter-property instead."
        );
    }
    printing.add(&given.property)?;
    printing.add(&given.formatter_property)?;
    let formatter = Formatter::new(&printing);
    let consuming = consumer_options(&properties)?;
    let cluster = Cluster::new(&bootstrap, options(&properties, "console-consumer")?);
    let consumer = if let (Some(topic), Some(partition)) = (&given.topic, given.partition) {
        let (offset, timestamp) = match start_of(&given)? {
            Start::At(offset) => (Some(offset), EARLIEST),
            Start::Timestamp(timestamp) => (None, timestamp),
        };
        Consumer::assign(cluster, topic, partition, offset, timestamp, consuming)
    } else {
        let topics = topics(&cluster, &given).await?;
        let group = properties.get("group.id").unwrap_or_default();
        Consumer::subscribe(cluster, group, &topics, consuming)
    };
    let (count, result) = consume(consumer, &given, &formatter).await;
    eprintln!("Processed a total of {count} messages");
    result
}

async fn topics(cluster: &Cluster, given: &Options) -> Result<Vec<String>, Failure> {
    if let Some(topic) = &given.topic {
        return Ok(vec![topic.clone()]);
    }
    included_topics(cluster, given.include.as_deref().unwrap_or_default()).await
}

async fn consume(mut consumer: Consumer, given: &Options, formatter: &Formatter) -> (u64, Outcome) {
    let mut count = 0;
    let mut result = Ok(());
    let mut heard = Instant::now();
    let mut out = Vec::new();
    let interrupted = interrupted();
    tokio::pin!(interrupted);
    'reading: while given.max_messages.is_none_or(|max| count < max) {
        let polled = tokio::select! {
            () = &mut interrupted => break,
            polled = consumer.poll(POLL) => polled,
        };
        let records = match polled {
            Ok(records) => records,
            Err(error) => {
                eprintln!(
                    "[{}] ERROR Error processing message, terminating consumer process:  (org.apache.kafka.tools.consumer.ConsoleConsumer)\n{}",
                    log_stamp(),
                    told(&error)
                );
                result = Err(Failure::default());
                break;
            }
        };
        if records.is_empty() {
            let limit = given.timeout_ms.map(Duration::from_millis);
            if limit.is_some_and(|limit| heard.elapsed() > limit) {
                eprintln!(
                    "[{}] ERROR Error processing message, terminating consumer process:  (org.apache.kafka.tools.consumer.ConsoleConsumer)\norg.apache.kafka.common.errors.TimeoutException: null",
                    log_stamp()
                );
                break;
            }
            continue;
        }
        heard = Instant::now();
        out.clear();
        for one in &records {
            if given.max_messages.is_some_and(|max| count >= max) {
                // A record that is not printed is not consumed.
                consumer.consumed_until(&one.topic, one.partition, one.record.offset);
                continue;
            }
            formatter.write(one, &mut out);
            count += 1;
        }
        let mut stdout = std::io::stdout().lock();
        if stdout
            .write_all(&out)
            .and_then(|()| stdout.flush())
            .is_err()
        {
            // The reader of standard output has gone.
            break 'reading;
        }
    }
    if let Err(error) = consumer.close().await {
        eprintln!("{}", told(&error));
    }
    (count, result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use strandline_wire::batch::Record;

    #[test]
    fn fields_come_in_kafkas_order() {
        let mut properties = Properties::default();
        for key in [
            "timestamp",
            "key",
            "offset",
            "partition",
            "headers",
            "epoch",
            "delivery",
        ] {
            properties.set(&format!("print.{key}"), "true");
        }
        let consumed = Consumed {
            topic: "t".into(),
            partition: 2,
            log_append_time: false,
            record: Record {
                offset: 7,
                timestamp: 1000,
                key: None,
                value: Some(Bytes::from("v")),
                headers: Vec::new(),
            },
        };
        let mut out = Vec::new();
        Formatter::new(&properties).write(&consumed, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "CreateTime:1000\tPartition:2\tOffset:7\tDelivery:NOT_PRESENT\tEpoch:NOT_PRESENT\tNO_HEADERS\tnull\tv\n"
        );
    }
}
