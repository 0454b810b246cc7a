//! Consumers without limits, producers of the largest requests and idle connections, all at once, on a real process: its
//! resident memory stays below a bound, and everybody is served.
//!
//! Every produce is acknowledged with an offset of its own. Every consumer reads the whole of another topic. Every idle
//! connection answers at the end.

#[allow(dead_code)] // The sweep uses the rest.
#[path = "../sweep/process.rs"]
mod process;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use futures::future::try_join_all;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::Decodable;
use strandline_client::Client;
use strandline_tests::{frame, produce_of, unlimited_fetch};
use strandline_wire::ApiKey;
use strandline_wire::batch::split_batches;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use process::{Process, Start};

const MIB: usize = 1 << 20;
/// Bytes of the topic that consumers read, in batches of a mebibyte.
const READ_MIB: usize = 64;
/// Nothing here takes longer, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(1800);

#[derive(Parser)]
struct Options {
    #[arg(long)]
    binary: PathBuf,
    /// Where the broker's data may lie.
    #[arg(long, default_value = "/tmp")]
    work: PathBuf,
    #[arg(long, default_value_t = 100)]
    consumers: usize,
    #[arg(long, default_value_t = 100)]
    producers: usize,
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Megabytes of each produce request.
    #[arg(long, default_value_t = 100)]
    megabytes: usize,
    /// The bound of the resident memory, in megabytes.
    #[arg(long, default_value_t = 600)]
    limit: usize,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Sends a frame and returns the body of the answer.
async fn call(stream: &mut TcpStream, frame: &[u8]) -> Result<Bytes, Failure> {
    stream.write_all(frame).await?;
    let length = stream.read_u32().await? as usize;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    Ok(Bytes::from(answer).slice(4..))
}

fn produce_frame(topic: &str, bytes: usize) -> Bytes {
    let request = produce_of(topic, bytes).with_timeout_ms(600_000);
    frame(ApiKey::Produce, 8, &request)
}

/// Produces once; returns the offset.
async fn produce(address: &str, frame: &[u8]) -> Result<i64, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    let mut answer = call(&mut stream, frame).await?;
    let answer = m::ProduceResponse::decode(&mut answer, 8).map_err(|e| e.to_string())?;
    let partition = &answer.responses[0].partition_responses[0];
    if partition.error_code != 0 {
        return Err(format!("a produce failed with {}", partition.error_code).into());
    }
    Ok(partition.base_offset)
}

/// Reads a topic to `end` with fetches that name no limit; returns the bytes of its records.
async fn consume(address: &str, topic: &str, end: i64) -> Result<usize, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    let (mut offset, mut bytes) = (0, 0);
    while offset < end {
        let request = unlimited_fetch(topic, offset).with_max_wait_ms(500);
        let mut answer = call(&mut stream, &frame(ApiKey::Fetch, 11, &request)).await?;
        let answer = m::FetchResponse::decode(&mut answer, 11).map_err(|e| e.to_string())?;
        let partition = &answer.responses[0].partitions[0];
        if partition.error_code != 0 {
            return Err(format!("a fetch failed with {}", partition.error_code).into());
        }
        let records = partition.records.clone().unwrap_or_default();
        for batch in split_batches(&records) {
            let (_, header) = batch.map_err(|e| e.to_string())?;
            if header.base_offset != offset {
                return Err(format!("offset {} instead of {offset}", header.base_offset).into());
            }
            offset = header.end_offset();
        }
        bytes += records.len();
    }
    Ok(bytes)
}

/// A field of the process's status, in megabytes.
fn memory(id: u32, field: &str) -> Result<usize, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<usize>().ok());
    Ok(kilobytes.ok_or("no such field")? / 1024)
}

async fn load(options: &Options, process: &Process) -> Result<(), Failure> {
    let address = process.address.clone().ok_or("no listener")?;
    let mut client = Client::connect(&address).await?;
    let large = [("max.message.bytes", "104857600")];
    client.create_topic("large", 1, &large).await?;
    client
        .create_topic("read", 1, &[("max.message.bytes", "2000000")])
        .await?;
    let batch = produce_frame("read", MIB);
    for _ in 0..READ_MIB {
        produce(&address, &batch).await?;
    }
    println!(
        "resident before the load: {} MB",
        memory(process.id(), "VmRSS:")?
    );
    let began = Instant::now();
    let mut idle = Vec::with_capacity(options.idle);
    for _ in 0..options.idle {
        idle.push(TcpStream::connect(&address).await?);
    }
    let versions = frame(ApiKey::ApiVersions, 2, &m::ApiVersionsRequest::default());
    // Each has sent a request once, as real connections have.
    for stream in &mut idle {
        call(stream, &versions).await?;
    }
    println!(
        "{} idle connections: {} MB",
        idle.len(),
        memory(process.id(), "VmRSS:")?
    );
    let request = produce_frame("large", options.megabytes * 1_000_000);
    let producing = (0..options.producers).map(|_| produce(&address, &request));
    let consuming = (0..options.consumers).map(|_| consume(&address, "read", READ_MIB as i64));
    let (offsets, read) = tokio::try_join!(try_join_all(producing), try_join_all(consuming))?;
    let distinct: BTreeSet<i64> = offsets.iter().copied().collect();
    if distinct.len() != options.producers {
        return Err(format!(
            "{} offsets for {} produces",
            distinct.len(),
            options.producers
        )
        .into());
    }
    if let Some(bytes) = read.iter().find(|bytes| **bytes < READ_MIB * MIB) {
        return Err(format!("a consumer read {bytes} bytes").into());
    }
    for stream in &mut idle {
        call(stream, &versions).await?;
    }
    println!(
        "{} producers of {} MB, {} consumers: served in {:.1} s",
        options.producers,
        options.megabytes,
        options.consumers,
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let directory = options
        .work
        .join(format!("strandline-limits-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let logs = directory.join("log").display().to_string();
    let properties = [
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("strandline.http.listener", "127.0.0.1:0"),
        ("log.dirs", &logs),
    ];
    let properties = properties.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let process = match process::start(&options.binary, &directory, &properties)? {
        Start::Up(process) => process,
        Start::Refused(line) => return Err(line.into()),
    };
    let loaded = tokio::time::timeout(PATIENCE, load(&options, &process)).await;
    let most = memory(process.id(), "VmHWM:");
    let stopped = process.stop();
    std::fs::remove_dir_all(&directory)?;
    loaded.map_err(|_| "not everybody was served in time")??;
    stopped?;
    let most = most?;
    println!(
        "most resident memory: {most} MB, the bound is {} MB",
        options.limit
    );
    if most > options.limit {
        return Err("the bound was exceeded".into());
    }
    Ok(())
}
