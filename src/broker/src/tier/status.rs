//! What `tier status` and the metrics show of each tiered partition.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};
use strandline_types::{TimestampMs, TopicPartition};

/// One partition's cold tier, as an operator sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionTierStatus {
    pub topic: String,
    pub partition: i32,
    pub local_start_offset: i64,
    pub local_end_offset: i64,
    pub local_bytes: u64,
    /// −1 where nothing is in the cold tier.
    pub remote_start_offset: i64,
    /// Exclusive; −1 where nothing is in the cold tier.
    pub remote_end_offset: i64,
    pub remote_bytes: u64,
    pub remote_segments: u64,
    /// Sealed bytes that are not copied yet.
    pub copy_lag_bytes: u64,
    /// Age of the oldest of them.
    pub copy_lag_ms: i64,
    pub last_success_ms: Option<TimestampMs>,
    pub last_error: Option<String>,
    pub last_error_ms: Option<TimestampMs>,
    /// When a failed copy is tried again.
    pub next_try_ms: Option<TimestampMs>,
}

/// The latest status of every tiered partition.
#[derive(Default)]
pub struct TierStatus {
    partitions: Mutex<BTreeMap<TopicPartition, PartitionTierStatus>>,
}

impl TierStatus {
    pub fn update(&self, tp: &TopicPartition, change: impl FnOnce(&mut PartitionTierStatus)) {
        let mut partitions = self.partitions.lock().expect("no holder panics");
        let status = partitions
            .entry(tp.clone())
            .or_insert_with(|| PartitionTierStatus {
                topic: tp.topic.to_string(),
                partition: tp.partition,
                remote_start_offset: -1,
                remote_end_offset: -1,
                ..PartitionTierStatus::default()
            });
        change(status);
    }

    pub fn retain(&self, keep: impl Fn(&TopicPartition) -> bool) {
        self.partitions
            .lock()
            .expect("no holder panics")
            .retain(|tp, _| keep(tp));
    }

    pub fn all(&self) -> Vec<PartitionTierStatus> {
        self.partitions
            .lock()
            .expect("no holder panics")
            .values()
            .cloned()
            .collect()
    }
}
