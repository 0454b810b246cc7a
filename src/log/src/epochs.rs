//! The lineage of leader epochs (KIP-101): which epoch wrote from which offset on.

use strandline_types::{EpochStart, LeaderEpoch, Offset};

/// Epochs in ascending order with ascending start offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<EpochStart>,
}

impl LeaderEpochs {
    pub fn from_entries(entries: Vec<EpochStart>) -> Self {
        let mut epochs = Self::default();
        for entry in entries {
            epochs.assign(entry.epoch, entry.start_offset);
        }
        epochs
    }

    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|e| e.epoch)
    }

    /// Notes that `epoch` writes from `start_offset` on; returns whether that was new. Drops entries that contradict
    /// the new one (a later start, or an epoch that is not lower). Epochs that began here and wrote nothing go first,
    /// because the epoch before them may be the one that continues.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        while let Some(last) = self.entries.last()
            && last.epoch != epoch
            && last.start_offset >= start_offset
        {
            self.entries.pop();
        }
        if self.entries.last().is_some_and(|last| last.epoch == epoch) {
            return false;
        }
        self.entries
            .retain(|e| e.epoch < epoch && e.start_offset < start_offset);
        self.entries.push(EpochStart {
            epoch,
            start_offset,
        });
        true
    }

    /// The epoch that wrote `offset`.
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.entries
            .iter()
            .rev()
            .find(|e| e.start_offset <= offset)
            .map(|e| e.epoch)
    }

    /// Kafka's `endOffsetFor`: the largest epoch at or below `requested`, and where it ends (exclusive).
    /// `None` when the request is for an epoch that this log has not seen yet, or there are none.
    pub fn end_offset_for(
        &self,
        requested: LeaderEpoch,
        log_end_offset: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let latest = self.latest()?;
        if requested == latest {
            return Some((latest, log_end_offset));
        }
        let higher = self.entries.iter().find(|e| e.epoch > requested)?;
        let floor = self.entries.iter().rev().find(|e| e.epoch <= requested);
        Some((floor.map_or(requested, |e| e.epoch), higher.start_offset))
    }

    /// Drops epochs that begin at or after `end_offset`.
    pub fn truncate_from_end(&mut self, end_offset: Offset) {
        self.entries.retain(|e| e.start_offset < end_offset);
    }

    /// Drops epochs that end at or before `start_offset`; the epoch that spans it now starts there.
    pub fn truncate_from_start(&mut self, start_offset: Offset) {
        let spanning = self
            .entries
            .iter()
            .rposition(|e| e.start_offset <= start_offset);
        if let Some(at) = spanning {
            self.entries.drain(..at);
            self.entries[0].start_offset = start_offset;
        }
    }

    /// The part of the lineage that covers `[base_offset, end_offset)`.
    pub fn range(&self, base_offset: Offset, end_offset: Offset) -> Vec<EpochStart> {
        let first = self
            .entries
            .iter()
            .rposition(|e| e.start_offset <= base_offset)
            .unwrap_or(0);
        self.entries[first.min(self.entries.len())..]
            .iter()
            .filter(|e| e.start_offset < end_offset)
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(entries: &[(i32, i64)]) -> LeaderEpochs {
        let entry = |(epoch, start_offset): &(i32, i64)| EpochStart {
            epoch: LeaderEpoch(*epoch),
            start_offset: *start_offset,
        };
        LeaderEpochs::from_entries(entries.iter().map(entry).collect())
    }

    #[test]
    fn end_offsets_follow_kip_101() {
        let epochs = lineage(&[(2, 10), (5, 20), (7, 30)]);
        let end = |e| {
            epochs
                .end_offset_for(LeaderEpoch(e), 40)
                .map(|(e, o)| (e.0, o))
        };
        assert_eq!(end(7), Some((7, 40)));
        assert_eq!(end(8), None);
        assert_eq!(end(5), Some((5, 30)));
        assert_eq!(end(6), Some((5, 30)));
        assert_eq!(end(2), Some((2, 20)));
        assert_eq!(end(1), Some((1, 10)));
        assert_eq!(
            LeaderEpochs::default().end_offset_for(LeaderEpoch(0), 4),
            None
        );
    }

    #[test]
    fn a_new_epoch_drops_what_contradicts_it() {
        let mut epochs = lineage(&[(1, 0), (2, 10), (3, 20)]);
        assert!(epochs.assign(LeaderEpoch(4), 15));
        assert_eq!(epochs, lineage(&[(1, 0), (2, 10), (4, 15)]));
        assert!(!epochs.assign(LeaderEpoch(4), 99));
    }

    #[test]
    fn an_epoch_goes_on_behind_newer_ones_that_wrote_nothing() {
        let mut epochs = lineage(&[(2, 0), (5, 3)]);
        assert!(!epochs.assign(LeaderEpoch(2), 3));
        assert_eq!(epochs, lineage(&[(2, 0)]));
        let mut epochs = lineage(&[(2, 0), (5, 3)]);
        assert!(epochs.assign(LeaderEpoch(4), 3));
        assert_eq!(epochs, lineage(&[(2, 0), (4, 3)]));
    }

    #[test]
    fn the_start_can_move_into_an_epoch() {
        let mut epochs = lineage(&[(1, 0), (2, 10), (3, 20)]);
        epochs.truncate_from_start(15);
        assert_eq!(epochs, lineage(&[(2, 15), (3, 20)]));
        epochs.truncate_from_end(20);
        assert_eq!(epochs, lineage(&[(2, 15)]));
        assert_eq!(
            lineage(&[(1, 0), (2, 10), (3, 20)]).range(12, 20),
            lineage(&[(2, 10)]).entries
        );
    }
}
