//! Transactions that were aborted, as a `read_committed` consumer knows them (KIP-98).

use std::collections::{HashSet, VecDeque};

use kafka_protocol::messages::fetch_response::AbortedTransaction;
use strandline_wire::batch::{BatchHeader, Records};

/// The aborted transactions of one partition, whose records must not be seen.
#[derive(Default)]
pub(crate) struct AbortedTransactions {
    /// First offset and producer id, ascending.
    to_come: VecDeque<(i64, i64)>,
    producers: HashSet<i64>,
}

impl AbortedTransactions {
    /// The aborted transactions that a fetch response names, for the batches that follow.
    pub fn learn(&mut self, listed: &[AbortedTransaction]) {
        let mut listed: Vec<(i64, i64)> = listed
            .iter()
            .map(|t| (t.first_offset, t.producer_id.0))
            .collect();
        listed.sort_unstable();
        self.to_come = listed.into();
    }

    /// Whether a batch belongs to a transaction that was aborted.
    pub fn hides(&mut self, header: &BatchHeader, records: &mut Records<'_>) -> bool {
        while let Some((_, producer)) = self
            .to_come
            .pop_front_if(|(first, _)| *first <= header.last_offset())
        {
            self.producers.insert(producer);
        }
        if !header.has_producer_id() || !self.producers.contains(&header.producer_id) {
            return false;
        }
        if header.is_control() {
            // Version and type of the marker; 0 is an abort.
            let marker = records.next_record().ok().flatten().and_then(|r| r.key);
            let aborts = marker.is_some_and(|key| key.len() >= 4 && key[2..4] == [0, 0]);
            if aborts {
                self.producers.remove(&header.producer_id);
            }
            return true;
        }
        header.is_transactional()
    }
}
