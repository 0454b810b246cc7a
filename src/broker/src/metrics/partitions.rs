//! The replicas that live here, and the bytes between them and others.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Metrics;
use super::page::Page;
use crate::context::BrokerContext;
use crate::partition::Partition;

pub(super) fn render(page: &mut Page, context: &BrokerContext, partitions: &[Arc<Partition>]) {
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
}

pub(super) fn render_replication(page: &mut Page, metrics: &Metrics) {
    for (name, help, counter) in [
        (
            "kafka_server_replicamanager_isrshrinks_total",
            "Times that a leader here has taken a replica out of its in-sync replicas.",
            &metrics.isr_shrinks,
        ),
        (
            "kafka_server_replicamanager_isrexpands_total",
            "Times that a leader here has taken a replica into its in-sync replicas.",
            &metrics.isr_expands,
        ),
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
