//! Bytes and records by topic.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strandline_wire::produce::TopicKey;

use super::Metrics;
use super::page::Page;

/// Bytes and records of one topic.
#[derive(Default)]
pub(super) struct TopicCounters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    messages_in: AtomicU64,
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
        let kept: HashSet<_> = names.values().cloned().collect();
        self.topics
            .write()
            .expect("no holder panics")
            .retain(|name, _| kept.contains(name));
        *self.names.lock().expect("no holder panics") = names;
    }
}

/// One counter of a topic.
type Read = fn(&TopicCounters) -> &AtomicU64;

pub(super) fn render(page: &mut Page, metrics: &Metrics) {
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
