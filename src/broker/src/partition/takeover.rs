//! The first step of a new leader: compare its log with its cold tier. The broker reads, writes, copies and deletes
//! nothing until the two are one log.
//!
//! If they agree, which is the rule, the broker leads at once. Otherwise the owner does not lead yet, and
//! `tier::takeover` repairs: the repair waits for a side object and a committed record, and an owner must not wait.

use std::sync::atomic::Ordering;

use strandline_metadata::RemoteLogImage;
use strandline_replication::Leadership;
use strandline_tiering::lineage::{Comparison, LocalLog, compare, first_held_offset};
use strandline_types::LeaderEpoch;

use super::handle::{Partition, Role};
use super::owned::OwnedPartition;

impl Partition {
    /// Whether this broker should lead, but its log and the cold tier are not one log yet.
    pub fn is_taking_over(&self) -> bool {
        self.taking_over.load(Ordering::Acquire)
    }
}

impl OwnedPartition {
    /// Leads, unless the cold tier says otherwise. `remote` is of the image that named this broker the leader.
    pub(super) fn take_over(&mut self, leadership: Leadership, remote: Option<&RemoteLogImage>) {
        let agrees = remote.is_none_or(|log| self.compare_with(log) == Comparison::Agrees);
        if agrees {
            self.forget_takeover();
            self.begin_where_held(remote);
            self.lead(leadership);
            return;
        }
        self.stop_leading();
        self.publish_role(Role {
            leader: Some(self.node_id),
            leader_epoch: leadership.leader_epoch,
            is_leader: false,
            enough_in_sync: false,
        });
        self.takeover = Some(leadership);
        self.handle.taking_over.store(true, Ordering::Release);
    }

    pub(super) fn forget_takeover(&mut self) {
        self.takeover = None;
        self.handle.taking_over.store(false, Ordering::Release);
    }

    /// The leader epoch in which this broker should lead and does not yet.
    pub fn takeover_epoch(&self) -> Option<LeaderEpoch> {
        self.takeover.as_ref().map(|l| l.leader_epoch)
    }

    /// Leads if log and tier agree by now; returns the repair that is still needed.
    pub fn try_takeover(&mut self, remote: &RemoteLogImage) -> Comparison {
        let compared = self.compare_with(remote);
        if compared == Comparison::Agrees
            && let Some(leadership) = self.takeover.take()
        {
            self.forget_takeover();
            self.begin_where_held(Some(remote));
            self.lead(leadership);
        }
        compared
    }

    /// Raises the log start of a tiered topic to the first offset that it may begin with: see [`first_held_offset`].
    fn begin_where_held(&mut self, remote: Option<&RemoteLogImage>) {
        if remote.is_none() && !self.handle.config().remote_storage_enable {
            return;
        }
        let readable = remote.into_iter().flat_map(RemoteLogImage::readable);
        let first = first_held_offset(readable, &self.local_log());
        if first <= self.log.log_start_offset() {
            return;
        }
        let handle = self.handle.clone();
        let partition = &handle.topic_partition;
        tracing::warn!(%partition, log_start_offset = first, "the log start is raised: the cold tier or the log begins there");
        // The records below were committed, or nobody has them. A log start never exceeds the high watermark.
        self.log.advance_high_watermark(first);
        if let Err(error) = self.change_log(|log| log.advance_log_start(first)) {
            tracing::error!(%partition, %error, "the log start was not raised");
        }
    }

    fn compare_with(&self, remote: &RemoteLogImage) -> Comparison {
        compare(remote.readable(), &self.local_log())
    }

    fn local_log(&self) -> LocalLog<'_> {
        LocalLog {
            lineage: self.log.epochs().entries(),
            log_start_offset: self.log.log_start_offset(),
            local_start_offset: self.log.local_log_start_offset(),
            end_offset: self.log.log_end_offset(),
        }
    }
}
