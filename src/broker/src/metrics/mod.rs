//! Prometheus metrics, one file a subject: Kafka's names where Kafka has the metric, `strandline_` for the cold tier. Hot
//! paths touch counters; gauges are read when scraped.

mod connections;
mod disks;
mod errors;
mod groups;
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

pub(crate) use self::connections::OpenConnections;
use self::errors::RequestErrors;
use self::page::Page;
use self::topics::TopicCounters;
use crate::context::BrokerContext;
use crate::lag::group_lags;
use crate::latencies::Latencies;

/// The counters of a broker.
#[derive(Default)]
pub struct Metrics {
    topics: RwLock<HashMap<Arc<str>, Arc<TopicCounters>>>,
    names: Mutex<HashMap<uuid::Uuid, Arc<str>>>,
    requests: RwLock<HashMap<i16, Arc<Latencies>>>,
    errors: RequestErrors,
    /// Connections of clients, by listener.
    pub(crate) connections: OpenConnections,
    /// Times that a leader here has taken a replica out of its ISR, or into it.
    pub isr_shrinks: AtomicU64,
    pub isr_expands: AtomicU64,
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
    errors::render(&mut page, &context.metrics.errors);
    connections::render(&mut page, &context.metrics.connections);
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
