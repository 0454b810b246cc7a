//! The sections of a side object beside the checksums, derived from the batches of the segment: indexes, lineage,
//! producers.
//!
//! A local index or snapshot may be missing, empty or of another history, and a copy would keep that fault for good. So
//! the indexes are built anew, by the same rule as in `log::segment`. The lineage and the snapshot also describe
//! records below the segment; they are taken as they are where the batches do not contradict them.

use strandline_log::ProducerState;
use strandline_tiering::upload::Walked;
use strandline_types::{EpochStart, LeaderEpoch, NO_TIMESTAMP, Offset, TimestampMs};
use strandline_wire::batch::BatchHeader;

/// The facts that the log's files claim about a segment, beside the batches.
#[derive(Clone, Debug, Default)]
pub struct Claimed {
    pub base_offset: Offset,
    /// Exclusive.
    pub end_offset: Offset,
    /// `index.interval.bytes`
    pub index_interval_bytes: u64,
    /// The lineage up to the segment's end.
    pub lineage: Vec<EpochStart>,
    /// Where the segment begins, and where it ends; `None` where the file is missing or damaged.
    pub producers_before: Option<ProducerState>,
    pub producers_after: Option<ProducerState>,
}

/// Gathers the sections batch by batch.
#[derive(Debug)]
pub struct Sections {
    claimed: Claimed,
    bytes_since_entry: u64,
    offset_index: Vec<u8>,
    time_index: Vec<u8>,
    last_time_entry: Option<TimestampMs>,
    max_timestamp: (TimestampMs, Offset),
    epochs: Vec<EpochStart>,
    /// Producers of this segment's batches alone, and together with the producers before the segment.
    written: ProducerState,
    replayed: ProducerState,
}

impl Sections {
    pub fn new(mut claimed: Claimed) -> Self {
        let replayed = claimed.producers_before.take().unwrap_or_default();
        Self {
            max_timestamp: (NO_TIMESTAMP, claimed.base_offset),
            claimed,
            bytes_since_entry: 0,
            offset_index: Vec::new(),
            time_index: Vec::new(),
            last_time_entry: None,
            epochs: Vec::new(),
            written: ProducerState::default(),
            replayed,
        }
    }

    /// Notes the batch at `position`, which was checked.
    pub fn note(&mut self, header: &BatchHeader, position: u64) {
        if header.max_timestamp > self.max_timestamp.0 {
            self.max_timestamp = (header.max_timestamp, header.last_offset());
        }
        if self.bytes_since_entry > self.claimed.index_interval_bytes {
            let relative = self.relative(header.last_offset()).to_be_bytes();
            if let Ok(position) = u32::try_from(position) {
                self.offset_index.extend(relative);
                self.offset_index.extend(position.to_be_bytes());
            }
            self.push_time_entry();
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += header.size() as u64;
        let epoch = LeaderEpoch(header.partition_leader_epoch);
        if self.epochs.last().is_none_or(|last| last.epoch != epoch) {
            self.epochs.push(EpochStart {
                epoch,
                start_offset: header.base_offset,
            });
        }
        self.written.update(header);
        self.replayed.update(header);
    }

    fn relative(&self, offset: Offset) -> u32 {
        u32::try_from(offset.saturating_sub(self.claimed.base_offset)).unwrap_or(u32::MAX)
    }

    fn push_time_entry(&mut self) {
        let (timestamp, offset) = self.max_timestamp;
        let is_news = self.last_time_entry.is_none_or(|last| timestamp > last);
        if timestamp != NO_TIMESTAMP && is_news {
            self.time_index.extend(timestamp.to_be_bytes());
            let relative = self.relative(offset).to_be_bytes();
            self.time_index.extend(relative);
            self.last_time_entry = Some(timestamp);
        }
    }

    pub fn finish(&mut self) -> Walked {
        // A roll writes the last time entry, too.
        self.push_time_entry();
        let claimed = std::mem::take(&mut self.claimed);
        let lineage = lineage(&claimed, &self.epochs);
        let mut text = format!("0\n{}\n", lineage.len());
        for entry in &lineage {
            text.push_str(&format!("{} {}\n", entry.epoch, entry.start_offset));
        }
        let fits = |state: &ProducerState| state.ends_like(&self.written);
        let producers = claimed.producers_after.filter(fits);
        let producers = producers.unwrap_or_else(|| std::mem::take(&mut self.replayed));
        let within = lineage
            .iter()
            .rposition(|e| e.start_offset <= claimed.base_offset);
        Walked {
            offset_index: std::mem::take(&mut self.offset_index),
            time_index: std::mem::take(&mut self.time_index),
            producer_snapshot: producers.encode().to_vec(),
            leader_epochs: text,
            segment_leader_epochs: lineage
                .get(within.unwrap_or(0)..)
                .unwrap_or_default()
                .to_vec(),
            max_timestamp_ms: self.max_timestamp.0,
        }
    }
}

/// The claimed lineage; where it differs from the batches, the lineage of the batches from the segment on.
fn lineage(claimed: &Claimed, batches: &[EpochStart]) -> Vec<EpochStart> {
    let (from, end) = (claimed.base_offset, claimed.end_offset);
    let known = &claimed.lineage;
    let differs = EpochStart::first_difference(known, batches, from, end).is_some();
    let first = batches.first().map_or(end, |first| first.start_offset);
    if !differs && EpochStart::epoch_at(known, first).is_some() {
        return known.clone();
    }
    tracing::warn!(
        base_offset = from,
        "the leader epochs of a segment are taken from its batches: the lineage of the log does not have them"
    );
    let below = known.iter().filter(|e| e.start_offset < first);
    let mut lineage: Vec<_> = below.copied().collect();
    for entry in batches {
        lineage.retain(|known| known.epoch < entry.epoch);
        lineage.push(*entry);
    }
    lineage
}
