//! Prometheus metrics: Kafka's names where Kafka has the metric, `strandline_` for the cold tier. Hot paths touch counters; gauges are read when scraped.

mod memory;
mod tier;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use strandline_log::DiskSpace;
use strandline_quorum::Quorum;
use strandline_wire::ApiKey;
use strandline_wire::produce::TopicKey;

use crate::context::BrokerContext;
use crate::disconnects::Disconnects;
use crate::lag::{GroupLag, group_lags};
use crate::partition::Partition;

/// Bytes and records of one topic.
#[derive(Default)]
struct TopicCounters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    messages_in: AtomicU64,
}

/// Latencies of one API: a log-scale histogram, two buckets an octave, from 16 µs.
struct Latencies {
    buckets: [AtomicU64; 48],
    sum_micros: AtomicU64,
    count: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum_micros: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }
}

impl Latencies {
    fn record(&self, elapsed: Duration) {
        let micros = elapsed.as_micros() as u64;
        let bucket = Self::bucket(micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn bucket(micros: u64) -> usize {
        let scaled = (micros / 16).max(1);
        let octave = scaled.ilog2() as usize;
        let half = usize::from(octave > 0 && scaled >> (octave - 1) & 1 == 1);
        (octave * 2 + half).min(47)
    }

    /// Upper end of a bucket in milliseconds.
    fn upper_ms(bucket: usize) -> f64 {
        let base = 16.0 * 2f64.powi((bucket / 2) as i32);
        base * if bucket % 2 == 1 { 2.0 } else { 1.5 } / 1000.0
    }

    fn quantile_ms(&self, quantile: f64) -> f64 {
        let total = self.count.load(Ordering::Relaxed);
        let wanted = (total as f64 * quantile).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count.load(Ordering::Relaxed);
            if seen >= wanted && total > 0 {
                return Self::upper_ms(bucket);
            }
        }
        0.0
    }
}

/// The counters of a broker.
#[derive(Default)]
pub struct Metrics {
    topics: RwLock<HashMap<Arc<str>, Arc<TopicCounters>>>,
    names: Mutex<HashMap<uuid::Uuid, Arc<str>>>,
    requests: RwLock<HashMap<i16, Arc<Latencies>>>,
    /// Bytes that replicas here have fetched from leaders, and that leaders here have sent to replicas elsewhere.
    pub replication_bytes_in: AtomicU64,
    pub replication_bytes_out: AtomicU64,
}

impl Metrics {
    fn topic(&self, name: &str) -> Arc<TopicCounters> {
        if let Some(counters) = self.topics.read().expect("no holder panics").get(name) {
            return counters.clone();
        }
        let mut topics = self.topics.write().expect("no holder panics");
        topics.entry(name.into()).or_default().clone()
    }

    pub fn produced(&self, topic: &str, bytes: u64, records: u64) {
        let counters = self.topic(topic);
        counters.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        counters.messages_in.fetch_add(records, Ordering::Relaxed);
    }

    pub fn fetched(&self, topic: &TopicKey, bytes: u64) {
        let name = match topic {
            TopicKey::Name(_) => topic.name().map(Into::into),
            TopicKey::Id(id) => self
                .names
                .lock()
                .expect("no holder panics")
                .get(id)
                .cloned(),
        };
        if let Some(name) = name {
            let name: Arc<str> = name;
            self.topic(&name)
                .bytes_out
                .fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Learns the names behind topic ids, and forgets deleted topics.
    pub fn follow(&self, topics: impl Iterator<Item = (uuid::Uuid, Arc<str>)>) {
        let names: HashMap<_, _> = topics.collect();
        let kept: std::collections::HashSet<_> = names.values().cloned().collect();
        self.topics
            .write()
            .expect("no holder panics")
            .retain(|name, _| kept.contains(name));
        *self.names.lock().expect("no holder panics") = names;
    }

    pub fn request_done(&self, key: ApiKey, elapsed: Duration) {
        let known = self
            .requests
            .read()
            .expect("no holder panics")
            .get(&(key as i16))
            .cloned();
        let latencies = known.unwrap_or_else(|| {
            let mut requests = self.requests.write().expect("no holder panics");
            requests.entry(key as i16).or_default().clone()
        });
        latencies.record(elapsed);
    }
}

/// Escapes a label's value for Prometheus' text format.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.0
            .push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        if !labels.is_empty() {
            let labels: Vec<_> = labels
                .iter()
                .map(|(k, v)| format!("{k}=\"{}\"", escape(v)))
                .collect();
            self.0.push_str(&format!("{{{}}}", labels.join(",")));
        }
        self.0.push_str(&format!(" {value}\n"));
    }
}

/// The whole page.
pub async fn render(context: &BrokerContext) -> String {
    let mut page = Page(String::new());
    render_topics(&mut page, &context.metrics);
    render_replication(&mut page, &context.metrics);
    render_requests(&mut page, &context.metrics);
    render_disconnects(&mut page, &context.disconnects);
    memory::render(&mut page, &context.memory, &context.fetch_sessions);
    let partitions = context.partitions.all();
    let offline = partitions.iter().filter(|p| p.is_offline()).count();
    let offline = offline + context.partitions.failed_count();
    let led: Vec<_> = partitions.iter().filter(|p| p.is_leader()).collect();
    let image = context.quorum.image();
    let is_short = |p: &&&Arc<Partition>| {
        let state = image.partition(p.id());
        state.is_some_and(|s| s.isr.len() < s.target_replicas().len())
    };
    for (name, help, value) in [
        (
            "kafka_server_replicamanager_underreplicatedpartitions",
            "Partitions that this broker leads with fewer replicas in sync than assigned.",
            led.iter().filter(is_short).count(),
        ),
        (
            "kafka_server_replicamanager_underminisrpartitioncount",
            "Partitions that this broker leads with fewer replicas in sync than min.insync.replicas.",
            led.iter().filter(|p| !p.role().enough_in_sync).count(),
        ),
        (
            "kafka_server_replicamanager_offlinereplicacount",
            "Replicas on failed log directories, or whose log does not open.",
            offline,
        ),
        (
            "kafka_server_replicamanager_leadercount",
            "Partitions that this broker leads.",
            led.len(),
        ),
    ] {
        page.family(name, "gauge", help);
        page.sample(name, &[], value);
    }
    render_disks(&mut page, context, &partitions);
    render_groups(&mut page, &group_lags(context).await);
    render_process(&mut page);
    render_quorum(&mut page, &context.quorum);
    if let Some(tier) = &context.tier {
        tier::render(&mut page, tier);
    }
    page.0
}

/// The page of a process that is a controller only.
pub fn render_controller(quorum: &Quorum) -> String {
    let mut page = Page(String::new());
    render_quorum(&mut page, quorum);
    render_process(&mut page);
    page.0
}

fn render_quorum(page: &mut Page, quorum: &Quorum) {
    let image = quorum.image();
    let partitions = || image.topics().flat_map(|t| t.partitions.values());
    for (name, help, value) in [
        (
            "strandline_metadata_applied_index",
            "Index of the last change of the metadata that this process has applied.",
            image.applied_index as usize,
        ),
        (
            "kafka_controller_kafkacontroller_activecontrollercount",
            "1 on the active controller.",
            usize::from(quorum.is_active_controller()),
        ),
        (
            "kafka_controller_kafkacontroller_activebrokercount",
            "Brokers that are registered and not fenced.",
            image.live_brokers().count(),
        ),
        (
            "kafka_controller_kafkacontroller_fencedbrokercount",
            "Brokers that are registered and fenced.",
            image.brokers.len() - image.live_brokers().count(),
        ),
        (
            "kafka_controller_kafkacontroller_offlinepartitionscount",
            "Partitions without a leader.",
            partitions().filter(|p| p.leader.is_none()).count(),
        ),
    ] {
        page.family(name, "gauge", help);
        page.sample(name, &[], value);
    }
}

/// One counter of a topic.
type Read = fn(&TopicCounters) -> &AtomicU64;

fn render_topics(page: &mut Page, metrics: &Metrics) {
    let topics = metrics.topics.read().expect("no holder panics");
    let families: [(&str, &str, Read); 3] = [
        (
            "kafka_server_brokertopicmetrics_bytesin_total",
            "Bytes of record batches produced.",
            |t| &t.bytes_in,
        ),
        (
            "kafka_server_brokertopicmetrics_bytesout_total",
            "Bytes of record batches fetched by consumers.",
            |t| &t.bytes_out,
        ),
        (
            "kafka_server_brokertopicmetrics_messagesin_total",
            "Records produced.",
            |t| &t.messages_in,
        ),
    ];
    for (name, help, read) in families {
        page.family(name, "counter", help);
        for (topic, counters) in topics.iter() {
            page.sample(
                name,
                &[("topic", topic)],
                read(counters).load(Ordering::Relaxed),
            );
        }
    }
}

fn render_replication(page: &mut Page, metrics: &Metrics) {
    for (name, help, counter) in [
        (
            "kafka_server_brokertopicmetrics_replicationbytesin_total",
            "Bytes of record batches that replicas here have taken from leaders.",
            &metrics.replication_bytes_in,
        ),
        (
            "kafka_server_brokertopicmetrics_replicationbytesout_total",
            "Bytes of record batches that leaders here have given to other replicas.",
            &metrics.replication_bytes_out,
        ),
    ] {
        page.family(name, "counter", help);
        page.sample(name, &[], counter.load(Ordering::Relaxed));
    }
}

fn render_disconnects(page: &mut Page, disconnects: &Disconnects) {
    const NAME: &str = "strandline_connections_closed_total";
    let help = "Client connections that the broker closed, by cause.";
    page.family(NAME, "counter", help);
    for (cause, count) in disconnects.counts() {
        page.sample(NAME, &[("cause", cause.name())], count);
    }
}

fn render_requests(page: &mut Page, metrics: &Metrics) {
    const NAME: &str = "kafka_network_requestmetrics_totaltimems";
    page.family(
        NAME,
        "summary",
        "Time from a request's arrival to its answer.",
    );
    for (key, latencies) in metrics.requests.read().expect("no holder panics").iter() {
        let Ok(api) = ApiKey::try_from(*key) else {
            continue;
        };
        let request = format!("{api:?}");
        for quantile in [0.5, 0.95, 0.99, 0.999] {
            let labels = [
                ("request", request.as_str()),
                ("quantile", &quantile.to_string()),
            ];
            page.sample(NAME, &labels, latencies.quantile_ms(quantile));
        }
        let labels = [("request", request.as_str())];
        let sum = latencies.sum_micros.load(Ordering::Relaxed) as f64 / 1000.0;
        page.sample(&format!("{NAME}_sum"), &labels, sum);
        page.sample(
            &format!("{NAME}_count"),
            &labels,
            latencies.count.load(Ordering::Relaxed),
        );
    }
}

fn render_disks(page: &mut Page, context: &BrokerContext, partitions: &[Arc<Partition>]) {
    let dirs = &context.partitions.log_dirs.dirs;
    for (name, help, read) in [
        (
            "strandline_log_dir_size_bytes",
            "Size of the file system that holds a log directory.",
            DiskSpace::total_bytes as fn(&DiskSpace) -> u64,
        ),
        (
            "strandline_log_dir_available_bytes",
            "Free bytes of the file system that holds a log directory.",
            DiskSpace::available_bytes,
        ),
    ] {
        page.family(name, "gauge", help);
        for dir in dirs {
            let path = dir.path.display().to_string();
            page.sample(name, &[("dir", &path)], read(&dir.space));
        }
    }
    let name = "strandline_log_dir_offline";
    let help = "1 where a log directory has failed or could not be opened.";
    page.family(name, "gauge", help);
    let log_dirs = &context.partitions.log_dirs;
    for (index, dir) in dirs.iter().enumerate() {
        let path = dir.path.display().to_string();
        page.sample(name, &[("dir", &path)], u8::from(log_dirs.is_failed(index)));
    }
    for dir in &log_dirs.absent {
        page.sample(name, &[("dir", &dir.path.display().to_string())], 1);
    }
    let mut local: BTreeMap<&str, u64> = BTreeMap::new();
    for partition in partitions {
        *local.entry(&partition.topic_partition.topic).or_default() +=
            partition.view().local_bytes();
    }
    let name = "strandline_local_log_size_bytes";
    page.family(
        name,
        "gauge",
        "Bytes of a topic's replicas on this broker's disks.",
    );
    for (topic, bytes) in local {
        page.sample(name, &[("topic", topic)], bytes);
    }
}

fn render_groups(page: &mut Page, lags: &[GroupLag]) {
    for (name, help, read) in [
        (
            "kafka_consumergroup_current_offset",
            "Committed offset of a group that is coordinated here.",
            (|l| l.committed) as fn(&GroupLag) -> i64,
        ),
        (
            "kafka_consumergroup_lag",
            "Records between the committed offset and the high watermark.",
            |l| l.lag,
        ),
    ] {
        page.family(name, "gauge", help);
        for lag in lags {
            let partition = lag.partition.partition.to_string();
            let labels = [
                ("group", lag.group.as_str()),
                ("topic", &lag.partition.topic),
                ("partition", &partition),
            ];
            page.sample(name, &labels, read(lag));
        }
    }
}

/// The metrics of a process that Prometheus' own client libraries report.
fn render_process(page: &mut Page) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold spaces; the fields behind it are counted from the state, the third.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    let field = |number: usize| -> f64 {
        let text = fields.get(number - 3);
        text.and_then(|t| t.parse().ok()).unwrap_or_default()
    };
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page_bytes = rustix::param::page_size() as f64;
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "User and system time.",
            (field(14) + field(15)) / ticks,
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory.",
            field(24) * page_bytes,
        ),
        (
            "process_open_fds",
            "gauge",
            "Open file descriptors.",
            files as f64,
        ),
        (
            "process_max_fds",
            "gauge",
            "File descriptors that may be open (RLIMIT_NOFILE).",
            crate::descriptors::limit() as f64,
        ),
    ] {
        page.family(name, kind, help);
        page.sample(name, &[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_in_the_bucket_of_the_value() {
        let latencies = Latencies::default();
        for _ in 0..99 {
            latencies.record(Duration::from_millis(1));
        }
        latencies.record(Duration::from_millis(100));
        let (median, last) = (latencies.quantile_ms(0.5), latencies.quantile_ms(0.999));
        assert!((1.0..=1.6).contains(&median), "{median}");
        assert!((100.0..=160.0).contains(&last), "{last}");
    }
}
