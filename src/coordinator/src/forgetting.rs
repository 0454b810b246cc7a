//! Positions of topics that were deleted. A tombstone that the log refused is appended again: a topic that is created under
//! the same name must not begin with positions of its predecessor.

use strandline_types::{MonotonicMs, Now, TopicPartition};

use crate::classic::tombstone;
use crate::coordinator::GroupCoordinator;
use crate::outcome::{Effect, Outcome, PendingAppend};
use crate::record::OffsetAndMetadata;

/// Between a refused append and the next one.
const RETRY_MS: i64 = 1000;

/// A position as it stood when its topic was deleted. A later commit is of a topic that was created again, and stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forgotten {
    group: String,
    partition: TopicPartition,
    position: OffsetAndMetadata,
}

/// Positions whose tombstones the log has refused.
#[derive(Debug, Default)]
pub(crate) struct Forgetting {
    refused: Vec<Forgotten>,
    retry_at: MonotonicMs,
}

impl Forgetting {
    pub fn next_deadline(&self) -> Option<MonotonicMs> {
        (!self.refused.is_empty()).then_some(self.retry_at)
    }

    pub fn refused(&mut self, positions: Vec<Forgotten>, now: Now) {
        self.refused.extend(positions);
        self.retry_at = now.monotonic.plus_ms(RETRY_MS);
    }
}

impl GroupCoordinator {
    /// Removes committed positions of partitions whose topic is gone.
    pub fn forget_topic(&mut self, topic: &str) -> Outcome {
        let mut positions = Vec::new();
        for (id, group) in &self.groups {
            let gone = group.offsets.iter().filter(|(tp, _)| &*tp.topic == topic);
            positions.extend(gone.map(|(partition, position)| Forgotten {
                group: id.clone(),
                partition: partition.clone(),
                position: position.clone(),
            }));
        }
        forget(positions)
    }

    /// Appends refused tombstones again, of positions that have not changed since.
    pub(crate) fn forget_again(&mut self, now: Now) -> Outcome {
        if self
            .forgetting
            .next_deadline()
            .is_none_or(|at| at > now.monotonic)
        {
            return Outcome::default();
        }
        let mut positions = std::mem::take(&mut self.forgetting.refused);
        positions.retain(|p| self.offset(&p.group, &p.partition) == Some(&p.position));
        forget(positions)
    }
}

fn forget(positions: Vec<Forgotten>) -> Outcome {
    let mut out = Outcome::default();
    if !positions.is_empty() {
        let tombstones = positions.iter().map(|p| tombstone(&p.group, &p.partition));
        out.appends.push(PendingAppend {
            records: tombstones.collect(),
            effect: Effect::Forget { positions },
        });
    }
    out
}
