//! Partitions that cannot take their leader's records. Such a replica never gets in sync, so the first refusal is in
//! the broker's log, and one a minute after it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use strandline_types::TopicIdPartition;

/// How often the same partition is logged.
const INTERVAL: Duration = Duration::from_secs(60);
/// Partitions that are remembered; the refusals of more are not logged.
const REMEMBERED: usize = 1000;

/// When each partition was logged last, and how many refusals there were since.
#[derive(Default)]
pub(super) struct RefusedBatches {
    told: HashMap<TopicIdPartition, (Instant, u64)>,
}

impl RefusedBatches {
    /// Notes a refusal. If it must be logged, returns how many before it were not.
    pub(super) fn note(&mut self, id: TopicIdPartition, now: Instant) -> Option<u64> {
        if self.told.len() >= REMEMBERED {
            self.told
                .retain(|_, (at, _)| now.saturating_duration_since(*at) < INTERVAL);
        }
        if let Some((at, untold)) = self.told.get_mut(&id) {
            if now.saturating_duration_since(*at) < INTERVAL {
                *untold += 1;
                return None;
            }
            let before = std::mem::take(untold);
            *at = now;
            return Some(before);
        }
        if self.told.len() >= REMEMBERED {
            return None;
        }
        self.told.insert(id, (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use strandline_types::TopicId;

    use super::*;

    fn partition(partition: i32) -> TopicIdPartition {
        TopicIdPartition {
            topic_id: TopicId::default(),
            partition,
        }
    }

    #[test]
    fn a_partition_is_told_of_once_a_minute_with_the_number_that_went_untold() {
        let mut refused = RefusedBatches::default();
        let began = Instant::now();
        let second = |n| began + Duration::from_secs(n);
        assert_eq!(refused.note(partition(0), began), Some(0));
        assert_eq!(refused.note(partition(1), began), Some(0));
        for n in 1..60 {
            assert_eq!(refused.note(partition(0), second(n)), None);
        }
        assert_eq!(refused.note(partition(0), second(60)), Some(59));
        assert_eq!(refused.note(partition(0), second(61)), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut refused = RefusedBatches::default();
        let now = Instant::now();
        let told = (0..2000).filter(|n| refused.note(partition(*n), now).is_some());
        assert_eq!(told.count(), REMEMBERED);
        assert_eq!(refused.note(partition(1999), now + INTERVAL), Some(0));
    }
}
