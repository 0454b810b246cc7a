//! A leader's work on the cold tier: takes over, copies, cleans up, trims, reads.

use rand::Rng;
use strandline_log::LeaderEpochs;
use strandline_metadata::RemoteLogImage;
use strandline_metadata::controller::{Command, RemoteLogCut};
use strandline_tiering::lineage::{
    Comparison, agreed_end_offset, compare, first_held_offset, holder, lineage_of,
};
use strandline_tiering::planner::{TierRules, abandoned_copies, plan_copy, plan_local_retention};
use strandline_types::{
    LeaderEpoch, RemoteLogSegmentId, RemoteLogSegmentMetadata, RemoteLogSegmentState,
};
use uuid::Uuid;

use super::cluster::{Cluster, Object, PARTITION};
use super::{Record, Rule};

const RULES: TierRules = TierRules {
    retention_ms: -1,
    retention_bytes: -1,
    local_retention_ms: -1,
    local_retention_bytes: 1,
    copy_disabled: false,
    copy_lag_ms: 0,
    copy_lag_bytes: 0,
};

impl Cluster {
    fn new_id(&mut self) -> RemoteLogSegmentId {
        RemoteLogSegmentId(Uuid::from_u128(self.random.random()))
    }

    /// The epoch in which the node should lead, according to the metadata that it has applied.
    fn named_leader(&self, at: usize) -> Option<LeaderEpoch> {
        let node = &self.nodes[at];
        let state = node.image.partition(PARTITION)?;
        (node.up && state.leader == Some(node.id)).then_some(state.leader_epoch)
    }

    /// One step of a takeover: one comparison and its repair.
    pub fn take_over(&mut self, at: usize) {
        let Some(epoch) = self.named_leader(at) else {
            self.nodes[at].leads = None;
            return;
        };
        if self.nodes[at].leads == Some(epoch) {
            return;
        }
        self.nodes[at].leads = None;
        let log = self.nodes[at].image.remote_log(PARTITION).cloned();
        let log = log.unwrap_or_default();
        let compared = match self.rule {
            Rule::Epochs => compare(log.readable(), &self.nodes[at].disk.local_log()),
            Rule::Offsets => Comparison::Agrees,
        };
        match compared {
            Comparison::Agrees => {
                let disk = &mut self.nodes[at].disk;
                if self.rule == Rule::Epochs {
                    disk.log_start = first_held_offset(log.readable(), &disk.local_log());
                }
                let end = disk.end();
                disk.epochs.assign(epoch, end);
                self.nodes[at].leads = Some(epoch);
            }
            Comparison::TierIsAhead { end_offset } => {
                let lineage = self.state_at(&log, end_offset);
                let lineage = lineage.expect("a readable segment has its objects");
                let first = log.readable().next().map_or(0, |s| s.base_offset);
                let disk = &mut self.nodes[at].disk;
                let log_start = disk.log_start.max(first);
                disk.begin_behind_tier(end_offset, log_start, lineage);
                self.repaired.behind_tier += 1;
            }
            Comparison::Diverges { from, resumes_at } => {
                let cut = RemoteLogCut {
                    partition: PARTITION,
                    broker_id: self.nodes[at].id,
                    leader_epoch: epoch,
                    from,
                    resumes_at,
                    gap: self.new_id(),
                    gap_leader_epochs: self.nodes[at].disk.epochs.range(from, resumes_at),
                    event_timestamp_ms: 0,
                };
                if self.submit(Command::CutRemoteLog(cut)) {
                    self.repaired.cut += 1;
                    self.repaired.gaps += u64::from(resumes_at > from);
                    self.nodes[at].image = self.image.clone();
                }
            }
        }
    }

    /// The lineage that the side object of the segment before `offset` tells.
    pub fn state_at(&self, log: &RemoteLogImage, offset: i64) -> Option<LeaderEpochs> {
        let segment = log.segment_for(offset - 1)?;
        if segment.is_gap() {
            return Some(LeaderEpochs::from_entries(lineage_of(log.readable())));
        }
        let mut lineage = self.bucket.get(&segment.id)?.lineage.clone();
        lineage.truncate_from_end(segment.end_offset);
        Some(lineage)
    }

    fn copied_end(&self, at: usize) -> i64 {
        let node = &self.nodes[at];
        let Some(log) = node.image.remote_log(PARTITION) else {
            return 0;
        };
        match self.rule {
            Rule::Epochs => agreed_end_offset(log.readable(), &node.disk.local_log()),
            Rule::Offsets => log.highest_remote_offset() + 1,
        }
    }

    /// Starts a copy, uploads it or finishes it.
    pub fn copy(&mut self, at: usize) {
        match self.nodes[at].copying.take() {
            None => self.start_copy(at),
            Some((segment, false)) => {
                self.upload(at, &segment);
                self.nodes[at].copying = Some((segment, true));
            }
            Some((segment, true)) => {
                let finished = RemoteLogSegmentMetadata {
                    state: RemoteLogSegmentState::CopySegmentFinished,
                    ..segment
                };
                let done = self.submit(Command::UpdateRemoteSegment(finished));
                self.repaired.copies += u64::from(done);
            }
        }
    }

    fn start_copy(&mut self, at: usize) {
        let copied = self.copied_end(at) - 1;
        let node = &self.nodes[at];
        let (Some(leader_epoch), disk) = (node.leads, &node.disk) else {
            return;
        };
        let plans = plan_copy(&disk.sealed(), 1, copied, disk.high_watermark, &RULES, 0);
        let Some(plan) = plans.first() else { return };
        let segment = RemoteLogSegmentMetadata {
            id: RemoteLogSegmentId(Uuid::nil()),
            partition: PARTITION,
            base_offset: plan.base_offset,
            end_offset: plan.end_offset,
            max_timestamp_ms: 0,
            broker_id: node.id,
            leader_epoch,
            event_timestamp_ms: 0,
            segment_leader_epochs: disk.epochs.range(plan.base_offset, plan.end_offset),
            log_bytes: 100,
            log_crc32c: 0,
            side_bytes: 0,
            side_crc32c: 0,
            state: RemoteLogSegmentState::CopySegmentStarted,
        };
        let segment = RemoteLogSegmentMetadata {
            id: self.new_id(),
            ..segment
        };
        if self.submit(Command::UpdateRemoteSegment(segment.clone())) {
            self.nodes[at].copying = Some((segment, false));
        }
    }

    fn upload(&mut self, at: usize, segment: &RemoteLogSegmentMetadata) {
        let disk = &self.nodes[at].disk;
        let offsets = segment.base_offset..segment.end_offset;
        let records: Vec<_> = offsets.map_while(|offset| disk.get(offset)).collect();
        let range = disk.epochs.range(0, segment.end_offset);
        let object = Object {
            base_offset: segment.base_offset,
            records,
            lineage: LeaderEpochs::from_entries(range),
        };
        self.bucket.insert(segment.id, object);
    }

    /// Abandons unfinished copies that no process continues, and deletes marked segments.
    pub fn clean_up(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Some(log) = node
            .image
            .remote_log(PARTITION)
            .filter(|_| node.leads.is_some())
        else {
            return;
        };
        let copying = node.copying.iter();
        let running = copying.map(|(s, _)| (s.id, s.base_offset)).collect();
        let abandoned = abandoned_copies(log.segments(), &running);
        let segments: Vec<_> = log.segments().cloned().collect();
        for segment in segments {
            let id = segment.id;
            let marked = segment.state == RemoteLogSegmentState::DeleteSegmentStarted;
            let abandon = Command::AbandonCopy {
                partition: PARTITION,
                id,
            };
            if marked || abandoned.contains(&id) && self.submit(abandon) {
                self.bucket.remove(&id);
                self.submit(Command::UpdateRemoteSegment(RemoteLogSegmentMetadata {
                    state: RemoteLogSegmentState::DeleteSegmentFinished,
                    ..segment
                }));
            }
        }
    }

    /// Total retention deletes the first remote segment. Followers learn the new log start when they fetch.
    pub fn retain(&mut self, at: usize) {
        let node = &self.nodes[at];
        let log = node
            .image
            .remote_log(PARTITION)
            .filter(|_| node.leads.is_some());
        let Some(first) = log.and_then(|log| log.readable().next()).cloned() else {
            return;
        };
        let start = first.end_offset.max(node.disk.log_start);
        if start > node.disk.high_watermark {
            return;
        }
        self.nodes[at].disk.log_start = start;
        self.nodes[at].disk.delete_below(start);
        self.submit(Command::UpdateRemoteSegment(RemoteLogSegmentMetadata {
            state: RemoteLogSegmentState::DeleteSegmentStarted,
            ..first
        }));
        self.repaired.retained += 1;
    }

    pub fn trim(&mut self, at: usize) {
        let copied = Some(self.copied_end(at) - 1);
        let disk = &mut self.nodes[at].disk;
        if let Some(start) = plan_local_retention(&disk.sealed(), 1, copied, &RULES, 0) {
            disk.delete_below(start.min(disk.high_watermark));
        }
    }

    /// The record at an offset as this node answers for it from the bucket.
    pub fn read_cold(&self, at: usize, offset: i64) -> Option<Record> {
        let node = &self.nodes[at];
        let log = node.image.remote_log(PARTITION)?;
        let segment = match self.rule {
            Rule::Epochs => holder(log.readable(), offset, node.disk.epochs.entries())?.0,
            Rule::Offsets => log.segment_for(offset)?,
        };
        let object = self.bucket.get(&segment.id)?;
        let within = usize::try_from(offset - object.base_offset).ok()?;
        object.records.get(within).copied()
    }

    /// The cold tier has a gap at this offset: no replica has the record.
    pub fn is_gap(&self, at: usize, offset: i64) -> bool {
        let log = self.nodes[at].image.remote_log(PARTITION);
        let segment = log.and_then(|log| log.segment_for(offset));
        segment.is_some_and(RemoteLogSegmentMetadata::is_gap)
    }
}
