//! Retention of tiered topics: local segments whose copies are committed, and total retention over both tiers.

use std::sync::Arc;

use strandline_log::LogView;
use strandline_metadata::RemoteLogImage;
use strandline_tiering::lineage::{LocalLog, agreed_end_offset};
use strandline_tiering::planner::{
    LocalSegment, TierRules, plan_local_retention, plan_total_retention,
};
use strandline_types::Offset;

use super::deleting::each_of;
use super::passes::{StepError, TierManager};
use crate::clock::now_ms;
use crate::partition::Partition;
use crate::retention::apply_local_retention;

/// The last offset of a log that its cold tier holds, −1 where there is none: segments of another history do not count.
pub fn last_copied_offset(log: &RemoteLogImage, view: &LogView) -> Offset {
    let local = LocalLog {
        lineage: view.epochs.entries(),
        log_start_offset: view.log_start_offset,
        local_start_offset: view.local_log_start_offset,
        end_offset: view.log_end_offset,
    };
    agreed_end_offset(log.readable(), &local) - 1
}

impl TierManager {
    pub(super) fn rules(partition: &Partition) -> TierRules {
        let config = partition.config();
        TierRules {
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
            local_retention_ms: config.local_retention_ms,
            local_retention_bytes: config.local_retention_bytes,
            copy_disabled: config.remote_log_copy_disable,
            copy_lag_ms: config.remote_copy_lag_ms,
            copy_lag_bytes: config.remote_copy_lag_bytes,
        }
    }

    /// Sealed segments as plans see them, and the bytes of the active one.
    pub(super) async fn local_segments(
        partition: &Arc<Partition>,
    ) -> Result<(Vec<LocalSegment>, u64), StepError> {
        let ages = partition
            .run(|owned| (owned.log().sealed_ages(), owned.log().active_bytes()))
            .await
            .map_err(|e| e.to_string())?;
        let segments = ages.0.iter().map(|age| LocalSegment {
            base_offset: age.base_offset,
            end_offset: age.end_offset,
            bytes: age.bytes,
            newest_record_ms: age.newest_record_ms(),
        });
        Ok((segments.collect(), ages.1))
    }

    pub(super) fn highest_remote(&self, partition: &Partition) -> Offset {
        let image = self.context.quorum.image();
        let Some(log) = image.remote_log(partition.id()) else {
            return -1;
        };
        last_copied_offset(log, &partition.view())
    }

    pub(super) async fn trim_local(&self, partition: &Arc<Partition>) -> Result<(), StepError> {
        let (sealed, active) = Self::local_segments(partition).await?;
        let highest = Some(self.highest_remote(partition));
        let plan =
            plan_local_retention(&sealed, active, highest, &Self::rules(partition), now_ms());
        let Some(start) = plan else { return Ok(()) };
        let deleted = partition
            .run(move |owned| owned.change_log(|log| log.delete_local_below(start)))
            .await;
        deleted
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())
    }

    pub(super) async fn apply_total_retention(
        &self,
        partition: &Arc<Partition>,
    ) -> Result<(), StepError> {
        let image = self.context.quorum.image();
        let Some(log) = image.remote_log(partition.id()).cloned() else {
            return self.retain_without_copies(partition).await;
        };
        let readable: Vec<_> = log.readable().collect();
        let (sealed, active) = Self::local_segments(partition).await?;
        let highest = self.highest_remote(partition);
        let local_only = active
            + sealed
                .iter()
                .filter(|s| s.base_offset > highest)
                .map(|s| s.bytes)
                .sum::<u64>();
        let start = partition.view().log_start_offset;
        let plan = plan_total_retention(
            &readable,
            local_only,
            start,
            &Self::rules(partition),
            now_ms(),
        );
        if let Some(new_start) = plan.new_log_start_offset {
            self.advance_log_start(partition, new_start).await?;
        }
        let expired: Vec<_> = readable
            .iter()
            .filter(|s| plan.delete.contains(&s.id))
            .map(|s| (*s).clone())
            .collect();
        each_of(&expired, |segment| self.delete_segment(segment)).await?;
        if readable.is_empty() {
            self.retain_without_copies(partition).await
        } else {
            Ok(())
        }
    }

    /// A tiered topic of which nothing has been copied obeys total retention like any other.
    pub(super) async fn retain_without_copies(
        &self,
        partition: &Arc<Partition>,
    ) -> Result<(), StepError> {
        apply_local_retention(partition).await
    }

    pub(super) async fn advance_log_start(
        &self,
        partition: &Arc<Partition>,
        to: Offset,
    ) -> Result<(), StepError> {
        let moved = partition
            .run(move |owned| owned.change_log(|log| log.advance_log_start(to)))
            .await;
        moved.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }
}
