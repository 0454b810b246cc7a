//! A replica's log on its disk.

use strandline_log::LeaderEpochs;
use strandline_tiering::lineage::LocalLog;
use strandline_tiering::planner::LocalSegment;
use strandline_types::LeaderEpoch;

use super::Record;

#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub log_start: i64,
    /// Offset of the first record here.
    pub start: i64,
    pub records: Vec<Record>,
    pub epochs: LeaderEpochs,
    /// Where segments begin; the last one is active.
    pub bases: Vec<i64>,
    pub flushed: i64,
    pub high_watermark: i64,
}

impl Disk {
    pub fn new() -> Self {
        Self {
            bases: vec![0],
            ..Self::default()
        }
    }

    pub fn end(&self) -> i64 {
        self.start + self.records.len() as i64
    }

    pub fn get(&self, offset: i64) -> Option<Record> {
        let at = usize::try_from(offset - self.start).ok()?;
        self.records.get(at).copied()
    }

    pub fn append(&mut self, record: Record) {
        self.epochs.assign(LeaderEpoch(record.epoch), self.end());
        self.records.push(record);
    }

    pub fn roll(&mut self) {
        if self.bases.last().is_none_or(|base| *base < self.end()) {
            self.bases.push(self.end());
        }
    }

    pub fn truncate(&mut self, to: i64) {
        if to >= self.end() {
            return;
        }
        if to <= self.start {
            self.restart(to);
            self.log_start = self.log_start.min(to);
            return;
        }
        self.records.truncate((to - self.start) as usize);
        self.bases.retain(|base| *base < to);
        self.flushed = self.flushed.min(to);
        self.high_watermark = self.high_watermark.min(to);
        self.epochs.truncate_from_end(to);
    }

    /// Begins again, empty.
    pub fn restart(&mut self, at: i64) {
        self.records.clear();
        self.start = at;
        self.bases = vec![at];
        self.flushed = at;
        self.high_watermark = self.high_watermark.min(at);
        self.epochs.truncate_from_end(at);
    }

    pub fn begin_behind_tier(&mut self, at: i64, log_start: i64, mut lineage: LeaderEpochs) {
        self.restart(at);
        lineage.truncate_from_end(at);
        self.epochs = lineage;
        self.log_start = log_start;
        self.high_watermark = at;
    }

    /// The power fails: unflushed records are gone.
    pub fn lose_power(&mut self) {
        self.truncate(self.flushed);
    }

    /// Deletes segments that lie wholly below `offset`, never the active one.
    pub fn delete_below(&mut self, offset: i64) {
        let first = self
            .bases
            .iter()
            .copied()
            .filter(|base| *base <= offset)
            .max();
        let Some(first) = first.filter(|first| *first > self.start) else {
            return;
        };
        self.bases.retain(|base| *base >= first);
        self.records.drain(..(first - self.start) as usize);
        self.start = first;
    }

    pub fn local_log(&self) -> LocalLog<'_> {
        LocalLog {
            lineage: self.epochs.entries(),
            log_start_offset: self.log_start,
            local_start_offset: self.start,
            end_offset: self.end(),
        }
    }

    pub fn sealed(&self) -> Vec<LocalSegment> {
        let pairs = self.bases.windows(2);
        pairs
            .map(|pair| LocalSegment {
                base_offset: pair[0],
                end_offset: pair[1],
                bytes: 100,
                newest_record_ms: 0,
            })
            .collect()
    }
}
