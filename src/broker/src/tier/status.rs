//! The status of each tiered partition, for `tier status` and the metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use strandline_tiering::planner::LocalSegment;
use strandline_types::{TimestampMs, TopicPartition};

use super::next_step::Step;
use super::passes::TierManager;
use crate::clock::now_ms;
use crate::partition::Partition;

/// One partition's cold tier, as an operator sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionTierStatus {
    pub topic: String,
    pub partition: i32,
    /// Whether the broker that says so leads the partition: only a leader copies, and only a leader can be behind.
    #[serde(default)]
    pub leads: bool,
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
    /// When the step that failed last is tried again.
    pub next_try_ms: Option<TimestampMs>,
    /// Steps whose last attempt failed.
    #[serde(skip)]
    failing: BTreeMap<Step, Failure>,
}

#[derive(Clone, Debug, PartialEq)]
struct Failure {
    error: String,
    at_ms: TimestampMs,
    next_try_ms: TimestampMs,
}

impl PartitionTierStatus {
    pub fn step_failed(&mut self, step: Step, error: &str, at_ms: TimestampMs, delay_ms: i64) {
        let failure = Failure {
            error: format!("{}: {error}", step.name()),
            at_ms,
            next_try_ms: at_ms.saturating_add(delay_ms),
        };
        self.failing.insert(step, failure);
        self.show_last();
    }

    pub fn step_succeeded(&mut self, step: Step) {
        if self.failing.remove(&step).is_some() {
            self.show_last();
        }
    }

    fn show_local(&mut self, partition: &Partition) {
        let view = partition.view();
        self.leads = partition.is_leader();
        self.local_start_offset = view.local_log_start_offset;
        self.local_end_offset = view.log_end_offset;
        self.local_bytes = view.local_bytes();
    }

    fn show_last(&mut self) {
        let last = self.failing.values().max_by_key(|failure| failure.at_ms);
        self.last_error = last.map(|failure| failure.error.clone());
        self.last_error_ms = last.map(|failure| failure.at_ms);
        self.next_try_ms = last.map(|failure| failure.next_try_ms);
    }
}

/// The latest status of every tiered partition.
#[derive(Default)]
pub struct TierStatus {
    partitions: Mutex<BTreeMap<TopicPartition, PartitionTierStatus>>,
}

impl TierStatus {
    pub fn update(&self, tp: &TopicPartition, change: impl FnOnce(&mut PartitionTierStatus)) {
        let mut partitions = self.lock();
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

    /// Adds a partition at which no pass has looked yet.
    fn add_new(&self, partition: &Partition) {
        let tp = &partition.topic_partition;
        if self.lock().contains_key(tp) {
            return;
        }
        self.update(tp, |status| status.show_local(partition));
    }

    /// The status of these partitions where they are tiered, and of all that a pass has looked at.
    pub fn with_new(&self, partitions: &[Arc<Partition>]) -> Vec<PartitionTierStatus> {
        let tiered = partitions.iter().filter(|p| !p.is_offline());
        tiered
            .filter(|p| p.config().remote_storage_enable)
            .for_each(|p| self.add_new(p));
        self.all()
    }

    pub fn retain(&self, keep: impl Fn(&TopicPartition) -> bool) {
        self.lock().retain(|tp, _| keep(tp));
    }

    pub fn all(&self) -> Vec<PartitionTierStatus> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<TopicPartition, PartitionTierStatus>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl TierManager {
    pub(super) async fn refresh_status(&self, partition: &Arc<Partition>) {
        let Ok((sealed, _)) = Self::local_segments(partition).await else {
            return;
        };
        let image = self.context.quorum.image();
        let log = image.remote_log(partition.id());
        let highest = log.map_or(-1, |l| l.highest_remote_offset());
        // Only a leader copies, so only a leader can be behind.
        let leads = partition.is_leader();
        let lags = |s: &&LocalSegment| leads && s.end_offset - 1 > highest;
        let waiting: Vec<_> = sealed.iter().filter(lags).collect();
        let view = partition.view();
        self.tier.status.update(&partition.topic_partition, |s| {
            s.show_local(partition);
            s.remote_start_offset = log
                .and_then(|l| l.readable().next())
                .map_or(-1, |s| s.base_offset.max(view.log_start_offset));
            s.remote_end_offset = if highest < 0 { -1 } else { highest + 1 };
            s.remote_bytes = log.map_or(0, |l| l.readable_bytes());
            s.remote_segments = log.map_or(0, |l| l.readable().count() as u64);
            s.copy_lag_bytes = waiting.iter().map(|s| s.bytes).sum();
            s.copy_lag_ms = waiting
                .first()
                .map_or(0, |s| now_ms().saturating_sub(s.newest_record_ms).max(0));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_of_one_step_does_not_hide_the_failure_of_another() {
        let mut status = PartitionTierStatus::default();
        status.step_failed(Step::FinishDeletions, "denied", 10, 5);
        status.step_failed(Step::Copy, "slow", 20, 5);
        assert_eq!(status.last_error.as_deref(), Some("copy: slow"));
        status.step_succeeded(Step::Copy);
        status.step_succeeded(Step::TrimLocal);
        let last = (status.last_error.as_deref(), status.next_try_ms);
        assert_eq!(last, (Some("finish deletions: denied"), Some(15)));
        status.step_succeeded(Step::FinishDeletions);
        assert_eq!((status.last_error, status.next_try_ms), (None, None));
    }
}
