//! The load of the benchmarks: producers, a consumer, a loop of requests. Prints one JSON object.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Parser, Subcommand};
use kafka_protocol::messages as m;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use strandline_client::{
    ClientError, ClientOptions, Cluster, Connection, Consumer, ConsumerOptions, OffsetReset,
    Producer, ProducerOptions, check,
};
use strandline_wire::batch::{RecordToWrite, split_batches};
use strandline_wire::{ApiKey, text};

type Figures = BTreeMap<&'static str, f64>;
type Failure = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
#[command(version, about)]
struct Options {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Producers, each with connections of its own, that write to all partitions in turn with acks=all.
    Produce {
        bootstrap: String,
        topic: String,
        #[arg(long, default_value_t = 1)]
        producers: usize,
        /// Records per second over all producers; 0: as many as go.
        #[arg(long, default_value_t = 0.0)]
        rate: f64,
        /// Seconds that are not measured.
        #[arg(long, default_value_t = 5.0)]
        warmup: f64,
        /// Seconds that are measured.
        #[arg(long, default_value_t = 20.0)]
        duration: f64,
        /// `linger.ms`
        #[arg(long, default_value_t = 0)]
        linger: u64,
        /// Bytes of a record.
        #[arg(long, default_value_t = 1024)]
        size: usize,
    },
    /// One consumer, in a group of its own, from the beginning.
    Consume {
        bootstrap: String,
        topic: String,
        #[arg(long)]
        records: u64,
    },
    /// Topics PREFIX0, PREFIX1, …: one request for each, with the broker's default of replicas.
    Create {
        bootstrap: String,
        prefix: String,
        #[arg(long, default_value_t = 1)]
        topics: usize,
        #[arg(long, default_value_t = 1)]
        partitions: i32,
    },
    /// Asks as a consumer does, for a MiB of every partition, and looks at batch headers only.
    Fetch {
        bootstrap: String,
        topic: String,
        #[arg(long)]
        records: u64,
        #[arg(long, default_value_t = 1)]
        partitions: i32,
    },
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let figures = match Options::parse().load {
        Load::Produce {
            bootstrap,
            topic,
            producers,
            rate,
            warmup,
            duration,
            linger,
            size,
        } => {
            let plan = Plan {
                topic,
                each: (rate > 0.0).then(|| Duration::from_secs_f64(producers as f64 / rate)),
                warmup: Duration::from_secs_f64(warmup),
                duration: Duration::from_secs_f64(duration),
                linger: Duration::from_millis(linger),
                size,
            };
            produce(&bootstrap, producers, Arc::new(plan)).await?
        }
        Load::Consume {
            bootstrap,
            topic,
            records,
        } => consume(&bootstrap, &topic, records).await?,
        Load::Create {
            bootstrap,
            prefix,
            topics,
            partitions,
        } => create(&bootstrap, &prefix, topics, partitions).await?,
        Load::Fetch {
            bootstrap,
            topic,
            records,
            partitions,
        } => fetch(&bootstrap, &topic, records, partitions).await?,
    };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

fn cluster(bootstrap: &str) -> Arc<Cluster> {
    let options = ClientOptions {
        client_id: "load".into(),
        ..ClientOptions::default()
    };
    Cluster::new(bootstrap, options)
}

struct Plan {
    topic: String,
    /// Between two records of one producer.
    each: Option<Duration>,
    warmup: Duration,
    duration: Duration,
    linger: Duration,
    size: usize,
}

async fn produce(bootstrap: &str, producers: usize, plan: Arc<Plan>) -> Result<Figures, Failure> {
    let mut random = StdRng::seed_from_u64(1);
    let values: Vec<Bytes> = (0..256)
        .map(|_| {
            (0..plan.size)
                .map(|_| random.random_range(b'A'..=b'Z'))
                .collect()
        })
        .collect();
    let mut running = Vec::new();
    for _ in 0..producers {
        let cluster = cluster(bootstrap);
        running.push(tokio::spawn(produce_as_one(
            cluster,
            values.clone(),
            plan.clone(),
        )));
    }
    let mut latencies = Vec::new();
    for one in running {
        latencies.extend(one.await??);
    }
    if latencies.is_empty() {
        return Err(format!("nothing was acknowledged in {:?}", plan.duration).into());
    }
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = ((share * latencies.len() as f64) as usize).min(latencies.len() - 1);
        latencies[index] as f64 / 1000.0
    };
    let megabytes = (latencies.len() * plan.size) as f64 / 1e6;
    Ok(Figures::from([
        ("records", latencies.len() as f64),
        ("mb_per_s", megabytes / plan.duration.as_secs_f64()),
        ("p50_ms", at(0.5)),
        ("p99_ms", at(0.99)),
        ("p999_ms", at(0.999)),
    ]))
}

/// Latencies in microseconds of records that were acknowledged during the measurement.
async fn produce_as_one(
    cluster: Arc<Cluster>,
    values: Vec<Bytes>,
    plan: Arc<Plan>,
) -> Result<Vec<u64>, ClientError> {
    let metadata = cluster
        .metadata(Some(std::slice::from_ref(&plan.topic)))
        .await?;
    let partitions = metadata
        .topics
        .iter()
        .map(|t| t.partitions.len())
        .sum::<usize>() as u64;
    let options = ProducerOptions {
        linger: plan.linger,
        batch_bytes: 128 << 10,
        ..ProducerOptions::default()
    };
    let begin = Instant::now();
    let measured = plan.warmup..plan.warmup + plan.duration;
    let found: Arc<Mutex<Result<Vec<u64>, ClientError>>> = Arc::new(Mutex::new(Ok(Vec::new())));
    let (noted, noting) = (found.clone(), measured.clone());
    let producer = Producer::new(cluster, options, move |delivery| {
        let done = begin.elapsed();
        let mut noted = noted.lock().expect("no holder panics");
        match (delivery.result, &mut *noted) {
            (Err(error), noted) => *noted = Err(error),
            (Ok(_), Ok(latencies)) if noting.contains(&done) => {
                let micros = done.as_micros() as u64;
                latencies.extend(delivery.tokens.iter().map(|sent| micros - sent));
            }
            _ => {}
        }
    });
    for number in 0u64.. {
        let mut now = begin.elapsed();
        if now >= measured.end {
            break;
        }
        if let Some(each) = plan.each {
            let due = each.mul_f64(number as f64);
            if due > now + Duration::from_millis(1) {
                tokio::time::sleep_until((begin + due).into()).await;
                now = begin.elapsed();
            }
        }
        let record = RecordToWrite {
            value: Some(values[number as usize % values.len()].clone()),
            ..RecordToWrite::default()
        };
        let partition = (number % partitions.max(1)) as i32;
        let token = now.as_micros() as u64;
        producer
            .send(&plan.topic, Some(partition), &record, token)
            .await?;
        if number % 64 == 0 {
            // The sender has its turn, too.
            tokio::task::yield_now().await;
        }
    }
    producer.flush().await;
    let mut found = found.lock().expect("no holder panics");
    std::mem::replace(&mut *found, Ok(Vec::new()))
}

fn read_figures(began: Instant, records: u64, bytes: u64) -> Figures {
    let seconds = began.elapsed().as_secs_f64();
    Figures::from([
        ("records", records as f64),
        ("seconds", seconds),
        ("mb_per_s", bytes as f64 / 1e6 / seconds),
    ])
}

async fn consume(bootstrap: &str, topic: &str, records: u64) -> Result<Figures, Failure> {
    let began = Instant::now();
    let options = ConsumerOptions {
        reset: OffsetReset::Earliest,
        auto_commit: None,
        ..ConsumerOptions::default()
    };
    let group = format!("load-{}", std::process::id());
    let topics = [topic.to_owned()];
    let mut consumer = Consumer::subscribe(cluster(bootstrap), &group, &topics, options);
    let (mut read, mut bytes) = (0, 0);
    while read < records {
        for consumed in consumer.poll(Duration::from_secs(1)).await? {
            read += 1;
            bytes += consumed.record.value.map_or(0, |v| v.len() as u64);
        }
    }
    let figures = read_figures(began, read, bytes);
    consumer.close().await?;
    Ok(figures)
}

async fn create(
    bootstrap: &str,
    prefix: &str,
    topics: usize,
    partitions: i32,
) -> Result<Figures, Failure> {
    let cluster = cluster(bootstrap);
    let began = Instant::now();
    for number in 0..topics {
        let name = format!("{prefix}{number}");
        cluster.create_topic(&name, partitions, &[]).await?;
    }
    Ok(Figures::from([("seconds", began.elapsed().as_secs_f64())]))
}

async fn fetch(
    bootstrap: &str,
    topic: &str,
    records: u64,
    partitions: i32,
) -> Result<Figures, Failure> {
    let began = Instant::now();
    let mut connection = Connection::open(bootstrap).await?;
    let mut offsets = vec![0i64; partitions as usize];
    let (mut read, mut bytes) = (0, 0);
    while read < records {
        let asked = offsets.iter().enumerate().map(|(partition, offset)| {
            FetchPartition::default()
                .with_partition(partition as i32)
                .with_current_leader_epoch(-1)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(1 << 20)
        });
        let topics = vec![
            FetchTopic::default()
                .with_topic(m::TopicName(text(topic)))
                .with_partitions(asked.collect()),
        ];
        let request = m::FetchRequest::default()
            .with_replica_id(m::BrokerId(-1))
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_session_epoch(-1)
            .with_topics(topics);
        // The last version that names topics by name.
        let answer: m::FetchResponse = connection.call(ApiKey::Fetch, 12, &request).await?;
        check(topic, answer.error_code, None)?;
        for partition in answer.responses.into_iter().flat_map(|t| t.partitions) {
            check(topic, partition.error_code, None)?;
            let batches = partition.records.unwrap_or_default();
            for found in split_batches(&batches) {
                // The last batch may be incomplete because of the limit.
                let Ok((_, header)) = found else { break };
                let next = header.last_offset() + 1;
                offsets[partition.partition_index as usize] = next;
                read += header.record_count as u64;
                bytes += header.size() as u64;
            }
        }
    }
    Ok(read_figures(began, read, bytes))
}
