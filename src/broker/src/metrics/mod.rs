//! Prometheus metrics, one file a subject: Kafka's names where Kafka has the metric, `strandline_` for the cold tier. Hot
//! paths touch counters; gauges are read when scraped.

mod disks;
mod groups;
mod latencies;
mod memory;
mod page;
mod partitions;
mod process;
mod quorum;
mod requests;
mod tier;
mod topics;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use strandline_quorum::Quorum;

use self::latencies::Latencies;
use self::page::Page;
use self::topics::TopicCounters;
use crate::context::BrokerContext;
use crate::lag::group_lags;

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

/// The whole page.
pub async fn render(context: &BrokerContext) -> String {
    let mut page = Page::new();
    let partitions = context.partitions.all();
    topics::render(&mut page, &context.metrics);
    partitions::render_replication(&mut page, &context.metrics);
    requests::render(&mut page, &context.metrics);
    requests::render_disconnects(&mut page, &context.disconnects);
    memory::render(&mut page, &context.memory, &context.fetch_sessions);
    partitions::render(&mut page, context, &partitions);
    disks::render(&mut page, context, &partitions);
    groups::render(&mut page, &group_lags(context).await);
    process::render(&mut page);
    quorum::render(&mut page, &context.quorum);
    if let Some(tier) = &context.tier {
        tier::render(&mut page, tier);
    }
    page.into_text()
}

/// The page of a process that is a controller only.
pub fn render_controller(quorum: &Quorum) -> String {
    let mut page = Page::new();
    quorum::render(&mut page, quorum);
    process::render(&mut page);
    page.into_text()
}
