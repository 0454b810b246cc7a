//! Plans for a partition's segments, as pure functions of what is known. Nothing here acts.
//!
//! "Unknown" is a value of its own: where the state of the cold tier is not known, no plan deletes anything.

use std::collections::BTreeMap;

use strandline_types::{
    Offset, RemoteLogSegmentId, RemoteLogSegmentMetadata, RemoteLogSegmentState, TimestampMs,
    is_expired, newest_record_ms,
};

/// A sealed local segment, as far as plans look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalSegment {
    pub base_offset: Offset,
    /// Exclusive.
    pub end_offset: Offset,
    pub bytes: u64,
    /// Age is counted from here: see [`strandline_types::newest_record_ms`].
    pub newest_record_ms: TimestampMs,
}

/// The topic's properties that plans obey; −1 is "no limit" as in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierRules {
    pub retention_ms: i64,
    pub retention_bytes: i64,
    pub local_retention_ms: i64,
    pub local_retention_bytes: i64,
    pub copy_disabled: bool,
    /// KIP-1241: 0 in both copies at once; else a segment waits until one that is set is passed.
    pub copy_lag_ms: i64,
    pub copy_lag_bytes: i64,
}

/// A wish: this segment should be copied next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyPlan {
    pub base_offset: Offset,
    pub end_offset: Offset,
}

/// Which sealed segments to copy, in order. `stable_limit` is the smaller of high watermark and last stable offset:
/// nothing at or above it is copied, because it may still be truncated or aborted.
pub fn plan_copy(
    sealed: &[LocalSegment],
    active_bytes: u64,
    highest_remote_offset: Offset,
    stable_limit: Offset,
    rules: &TierRules,
    now_ms: TimestampMs,
) -> Vec<CopyPlan> {
    if rules.copy_disabled {
        return Vec::new();
    }
    let mut newer_bytes = active_bytes + sealed.iter().map(|s| s.bytes).sum::<u64>();
    let mut plans = Vec::new();
    for segment in sealed {
        newer_bytes -= segment.bytes;
        // Another leader's segments may end at other offsets. A segment that the tier has in part is copied as a whole:
        // otherwise its rest would be lost once the local segment is deleted.
        if segment.end_offset - 1 <= highest_remote_offset {
            continue;
        }
        let old_enough = rules.copy_lag_ms > 0
            && now_ms.saturating_sub(segment.newest_record_ms) >= rules.copy_lag_ms;
        let far_enough = rules.copy_lag_bytes > 0 && newer_bytes >= rules.copy_lag_bytes as u64;
        let at_once = rules.copy_lag_ms == 0 && rules.copy_lag_bytes == 0;
        if segment.end_offset > stable_limit || !(at_once || old_enough || far_enough) {
            // Copies are made in order without a gap.
            break;
        }
        plans.push(CopyPlan {
            base_offset: segment.base_offset,
            end_offset: segment.end_offset,
        });
    }
    plans
}

/// The new local log start, if local segments may go: they exceed local retention *and* their copies are committed.
///
/// `highest_remote_offset` is `None` while the state of the cold tier is unknown.
pub fn plan_local_retention(
    sealed: &[LocalSegment],
    active_bytes: u64,
    highest_remote_offset: Option<Offset>,
    rules: &TierRules,
    now_ms: TimestampMs,
) -> Option<Offset> {
    let highest_remote_offset = highest_remote_offset?;
    let mut total = active_bytes + sealed.iter().map(|s| s.bytes).sum::<u64>();
    let mut start = None;
    for segment in sealed {
        let expired = is_expired(segment.newest_record_ms, rules.local_retention_ms, now_ms);
        let surplus = rules.local_retention_bytes >= 0
            && total.saturating_sub(segment.bytes) >= rules.local_retention_bytes as u64;
        let copied = segment.end_offset - 1 <= highest_remote_offset;
        if !copied || !(expired || surplus) {
            break;
        }
        total -= segment.bytes;
        start = Some(segment.end_offset);
    }
    start
}

/// The segments that total retention removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TotalRetentionPlan {
    /// The first offset that clients may still read.
    pub new_log_start_offset: Option<Offset>,
    /// Remote segments to mark `DeleteSegmentStarted`, oldest first.
    pub delete: Vec<RemoteLogSegmentId>,
}

/// Applies total retention (`retention.*`) over both tiers, and drops remote segments wholly below the log start.
///
/// `readable` are the finished copies in order; `local_only_bytes` counts local bytes that are in no copy, so that
/// nothing is counted twice.
pub fn plan_total_retention(
    readable: &[&RemoteLogSegmentMetadata],
    local_only_bytes: u64,
    log_start_offset: Offset,
    rules: &TierRules,
    now_ms: TimestampMs,
) -> TotalRetentionPlan {
    let mut plan = TotalRetentionPlan::default();
    let mut total = local_only_bytes + readable.iter().map(|s| s.log_bytes).sum::<u64>();
    let mut start = log_start_offset;
    for segment in readable {
        // The copy was finished after the last append.
        let newest = newest_record_ms(segment.max_timestamp_ms, segment.event_timestamp_ms);
        let expired = is_expired(newest, rules.retention_ms, now_ms);
        let surplus = rules.retention_bytes >= 0
            && total.saturating_sub(segment.log_bytes) >= rules.retention_bytes as u64;
        if segment.end_offset > start && !expired && !surplus {
            break;
        }
        total -= segment.log_bytes;
        start = start.max(segment.end_offset);
        plan.delete.push(segment.id);
    }
    plan.new_log_start_offset = (start > log_start_offset).then_some(start);
    plan
}

/// Unfinished copies that no process continues: started by this broker's earlier life or by an earlier leader, and not
/// in `running`.
pub fn abandoned_copies<'a>(
    segments: impl Iterator<Item = &'a RemoteLogSegmentMetadata>,
    running: &BTreeMap<RemoteLogSegmentId, Offset>,
) -> Vec<RemoteLogSegmentId> {
    segments
        .filter(|s| {
            s.state == RemoteLogSegmentState::CopySegmentStarted && !running.contains_key(&s.id)
        })
        .map(|s| s.id)
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use strandline_types::{BrokerId, EpochStart, LeaderEpoch, TopicId, TopicIdPartition};
    use uuid::Uuid;

    use super::*;

    pub(crate) fn remote_segment(
        base_offset: Offset,
        end_offset: Offset,
    ) -> RemoteLogSegmentMetadata {
        RemoteLogSegmentMetadata {
            id: RemoteLogSegmentId(Uuid::from_u128(base_offset as u128)),
            partition: TopicIdPartition {
                topic_id: TopicId(Uuid::from_u128(77)),
                partition: 3,
            },
            base_offset,
            end_offset,
            max_timestamp_ms: end_offset * 10,
            broker_id: BrokerId(1),
            leader_epoch: LeaderEpoch(0),
            event_timestamp_ms: 0,
            segment_leader_epochs: vec![EpochStart {
                epoch: LeaderEpoch(0),
                start_offset: 0,
            }],
            log_bytes: 100,
            log_crc32c: 0,
            side_bytes: 0,
            side_crc32c: 0,
            state: RemoteLogSegmentState::CopySegmentFinished,
        }
    }

    fn local(number: i64) -> LocalSegment {
        LocalSegment {
            base_offset: number * 10,
            end_offset: number * 10 + 10,
            bytes: 100,
            newest_record_ms: (number + 1) * 100,
        }
    }

    const RULES: TierRules = TierRules {
        retention_ms: -1,
        retention_bytes: -1,
        local_retention_ms: -1,
        local_retention_bytes: -1,
        copy_disabled: false,
        copy_lag_ms: 0,
        copy_lag_bytes: 0,
    };

    #[test]
    fn copies_go_in_order_below_the_stable_limit_and_only_once() {
        let sealed = [local(0), local(1), local(2)];
        let bases = |highest, limit, rules: TierRules| {
            plan_copy(&sealed, 50, highest, limit, &rules, 300)
                .iter()
                .map(|p| p.base_offset)
                .collect::<Vec<_>>()
        };
        assert_eq!(bases(-1, 100, RULES), [0, 10, 20]);
        assert_eq!(bases(9, 100, RULES), [10, 20]);
        assert_eq!(bases(-1, 25, RULES), [0, 10]);
        assert_eq!(bases(29, 100, RULES), Vec::<i64>::new());
        assert!(
            bases(
                -1,
                100,
                TierRules {
                    copy_disabled: true,
                    ..RULES
                }
            )
            .is_empty()
        );
        assert_eq!(
            bases(
                -1,
                100,
                TierRules {
                    copy_lag_ms: 150,
                    ..RULES
                }
            ),
            [0]
        );
        assert_eq!(
            bases(
                -1,
                100,
                TierRules {
                    copy_lag_bytes: 150,
                    ..RULES
                }
            ),
            [0, 10]
        );
        assert!(
            bases(
                -1,
                100,
                TierRules {
                    copy_lag_ms: -1,
                    ..RULES
                }
            )
            .is_empty()
        );
    }

    #[test]
    fn local_segments_go_only_when_copied_and_the_unknown_blocks_everything() {
        let sealed = [local(0), local(1), local(2)];
        let plan =
            |highest, rules: TierRules| plan_local_retention(&sealed, 50, highest, &rules, 300);
        let none = TierRules {
            local_retention_bytes: 0,
            ..RULES
        };
        assert_eq!(plan(Some(29), none), Some(30));
        assert_eq!(plan(Some(15), none), Some(10));
        assert_eq!(plan(Some(-1), none), None);
        assert_eq!(plan(None, none), None);
        assert_eq!(plan(Some(29), RULES), None);
        assert_eq!(
            plan(
                Some(29),
                TierRules {
                    local_retention_ms: 150,
                    ..RULES
                }
            ),
            Some(10)
        );
        assert_eq!(
            plan(
                Some(29),
                TierRules {
                    local_retention_bytes: 200,
                    ..RULES
                }
            ),
            Some(10)
        );
    }

    #[test]
    fn total_retention_counts_each_byte_once_and_removes_what_is_below_the_log_start() {
        let all = [
            remote_segment(0, 10),
            remote_segment(10, 20),
            remote_segment(20, 30),
        ];
        let segments: Vec<_> = all.iter().collect();
        let plan = |start, rules: TierRules| {
            let plan = plan_total_retention(&segments, 150, start, &rules, 300);
            (plan.new_log_start_offset, plan.delete.len())
        };
        assert_eq!(plan(0, RULES), (None, 0));
        assert_eq!(
            plan(
                0,
                TierRules {
                    retention_ms: 150,
                    ..RULES
                }
            ),
            (Some(10), 1)
        );
        assert_eq!(
            plan(
                0,
                TierRules {
                    retention_bytes: 450,
                    ..RULES
                }
            ),
            (None, 0)
        );
        assert_eq!(
            plan(
                0,
                TierRules {
                    retention_bytes: 350,
                    ..RULES
                }
            ),
            (Some(10), 1)
        );
        assert_eq!(
            plan(
                0,
                TierRules {
                    retention_bytes: 0,
                    ..RULES
                }
            ),
            (Some(30), 3)
        );
        assert_eq!(plan(20, RULES), (None, 2));
        assert_eq!(plan(15, RULES), (None, 1));
    }

    #[test]
    fn a_copy_expires_by_its_largest_timestamp_and_by_the_time_of_the_copy_without_one() {
        let rules = TierRules {
            retention_ms: 100,
            ..RULES
        };
        let deleted_at = |max_timestamp_ms, now| {
            let segment = RemoteLogSegmentMetadata {
                max_timestamp_ms,
                event_timestamp_ms: 250,
                ..remote_segment(0, 10)
            };
            let plan = plan_total_retention(&[&segment], 0, 0, &rules, now);
            plan.delete.len()
        };
        for (max_timestamp, now, deleted) in [
            (200, 300, 0),
            (200, 301, 1),
            (-1, 350, 0),
            (-1, 351, 1),
            // Ahead of the clock when the copy was made, and still.
            (310, 300, 0),
            (310, 410, 0),
            (310, 411, 1),
            (i64::MAX, 1_000_000, 0),
        ] {
            assert_eq!(
                deleted_at(max_timestamp, now),
                deleted,
                "{max_timestamp} {now}"
            );
        }
    }
}
