//! Idempotence (KIP-98): a partition's batches carry a producer id, an epoch and consecutive sequences, from which the
//! broker recognizes a retry.
//!
//! A batch keeps its sequence for all its attempts. Where a sequence is missing for good, because its batch failed, the
//! partition begins again at sequence 0 under a new producer id, when no batch of the old one is under way.

use strandline_wire::batch::BatchBuilder;

/// The producer id and epoch under which a partition's batches are numbered.
#[derive(Clone, Copy)]
pub(super) struct Identity {
    pub producer_id: i64,
    pub epoch: i16,
}

/// The numbers of one partition.
#[derive(Default)]
pub(super) struct Numbering {
    identity: Option<Identity>,
    next_sequence: i32,
    /// The broker refuses this identity's numbers: begin with another one when nothing is under way.
    renew: bool,
}

impl Numbering {
    /// Gives a batch its sequence, if it has none yet. Returns false, and changes nothing, if that needs a fresh identity.
    pub fn number(&mut self, builder: &mut BatchBuilder, fresh: Option<Identity>) -> bool {
        let current = self.identity.map(|i| (i.producer_id, i.epoch));
        let own = (builder.producer_id, builder.producer_epoch);
        if builder.base_sequence >= 0 && !self.renew && current == Some(own) {
            return true;
        }
        let identity = match (self.identity, fresh) {
            (Some(identity), _) if !self.renew => identity,
            (_, None) => return false,
            (_, Some(fresh)) => {
                self.next_sequence = 0;
                self.renew = false;
                *self.identity.insert(fresh)
            }
        };
        builder.producer_id = identity.producer_id;
        builder.producer_epoch = identity.epoch;
        builder.base_sequence = self.next_sequence;
        self.next_sequence = self.next_sequence.wrapping_add(builder.record_count()) & i32::MAX;
        true
    }

    /// A sequence is missing for good: later batches need another identity.
    pub fn renew(&mut self) {
        self.renew = true;
    }

    pub fn must_renew(&self) -> bool {
        self.renew
    }
}

#[cfg(test)]
mod tests {
    use strandline_wire::batch::RecordToWrite;
    use strandline_wire::compression::Compression;

    use super::*;

    fn batch(records: i32) -> BatchBuilder {
        let mut builder = BatchBuilder::new(Compression::None);
        (0..records).for_each(|_| builder.push(&RecordToWrite::default()));
        builder
    }

    fn identity(producer_id: i64) -> Identity {
        let epoch = 0;
        Identity { producer_id, epoch }
    }

    #[test]
    fn a_batch_keeps_its_sequence_and_the_next_one_follows() {
        let mut numbering = Numbering::default();
        let (mut first, mut second) = (batch(3), batch(1));
        assert!(!numbering.number(&mut first, None), "no identity yet");
        assert!(numbering.number(&mut first, Some(identity(7))));
        assert!(numbering.number(&mut second, None));
        assert!(numbering.number(&mut first, None), "a retry");
        assert_eq!((first.producer_id, first.base_sequence), (7, 0));
        assert_eq!((second.producer_id, second.base_sequence), (7, 3));
    }

    #[test]
    fn a_renewed_partition_begins_at_zero_under_another_producer_id() {
        let mut numbering = Numbering::default();
        let mut builder = batch(2);
        assert!(numbering.number(&mut builder, Some(identity(7))));
        numbering.renew();
        assert!(!numbering.number(&mut builder, None));
        assert!(numbering.number(&mut builder, Some(identity(8))));
        assert_eq!((builder.producer_id, builder.base_sequence), (8, 0));
        assert!(!numbering.must_renew());
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut numbering = Numbering {
            next_sequence: i32::MAX,
            ..Numbering::default()
        };
        numbering.identity = Some(identity(7));
        let (mut last, mut first) = (batch(1), batch(1));
        assert!(numbering.number(&mut last, None));
        assert!(numbering.number(&mut first, None));
        assert_eq!((last.base_sequence, first.base_sequence), (i32::MAX, 0));
    }
}
