//! The requests to the object store, the distance of the cold tier from the logs, and the cache of cold records.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use strandline_tiering::meter::Operation;

use super::page::Page;
use crate::tier::Tier;

pub(super) fn render(page: &mut Page, tier: &Tier) {
    page.family(
        "strandline_remote_requests_total",
        "counter",
        "Requests to the object store.",
    );
    for operation in Operation::ALL {
        let (ok, error, _) = tier.store.meter.read(operation);
        for (result, count) in [("ok", ok), ("error", error)] {
            let labels = [("op", operation.name()), ("result", result)];
            page.sample("strandline_remote_requests_total", &labels, count);
        }
    }
    page.family(
        "strandline_remote_bytes_total",
        "counter",
        "Bytes moved to and from the object store.",
    );
    for operation in Operation::ALL {
        let labels = [("op", operation.name())];
        page.sample(
            "strandline_remote_bytes_total",
            &labels,
            tier.store.meter.read(operation).2,
        );
    }
    let mut topics: BTreeMap<String, (u64, f64, u64)> = BTreeMap::new();
    for status in tier.status.all().into_iter().filter(|s| s.leads) {
        let sums = topics.entry(status.topic).or_default();
        sums.0 += status.copy_lag_bytes;
        sums.1 = sums.1.max(status.copy_lag_ms as f64 / 1000.0);
        sums.2 += status.remote_bytes;
    }
    page.family(
        "strandline_remote_copy_lag_bytes",
        "gauge",
        "Sealed bytes that are not in the cold tier yet.",
    );
    for (topic, sums) in &topics {
        page.sample(
            "strandline_remote_copy_lag_bytes",
            &[("topic", topic)],
            sums.0,
        );
    }
    page.family(
        "strandline_remote_copy_lag_seconds",
        "gauge",
        "Age of the oldest sealed segment that is not in the cold tier yet.",
    );
    for (topic, sums) in &topics {
        page.sample(
            "strandline_remote_copy_lag_seconds",
            &[("topic", topic)],
            sums.1,
        );
    }
    page.family(
        "strandline_remote_log_size_bytes",
        "gauge",
        "Readable bytes in the cold tier, of the partitions that this broker leads.",
    );
    for (topic, sums) in &topics {
        page.sample(
            "strandline_remote_log_size_bytes",
            &[("topic", topic)],
            sums.2,
        );
    }
    let stats = tier.reader.cache.stats();
    for (name, help, value) in [
        (
            "strandline_remote_cache_hits_total",
            "Chunks found in memory or on the cache disk.",
            &stats.hits,
        ),
        (
            "strandline_remote_cache_misses_total",
            "Chunks fetched from the bucket.",
            &stats.misses,
        ),
        (
            "strandline_remote_cache_evictions_total",
            "Chunks that left memory to make room for others.",
            &stats.evictions,
        ),
        (
            "strandline_remote_damaged_answers_total",
            "Answers of the store whose checksum did not fit; each was asked for again.",
            &stats.damaged,
        ),
        (
            "strandline_remote_failed_reads_total",
            "Reads of cold records that ended with an error.",
            &tier.failed_reads,
        ),
        (
            "strandline_remote_failed_steps_total",
            "Steps of copying, deleting and retention that failed and are tried again.",
            &tier.failed_steps,
        ),
    ] {
        page.family(name, "counter", help);
        page.sample(name, &[], value.load(Ordering::Relaxed));
    }
}
