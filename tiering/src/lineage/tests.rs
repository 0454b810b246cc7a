//! Tables of leaders' takeovers, and properties over random histories.

use proptest::prelude::*;
use strandline_types::LeaderEpoch;

use super::*;
use crate::planner::tests::remote_segment;

fn lineage(entries: &[(i32, i64)]) -> Vec<EpochStart> {
    let entry = |(epoch, start_offset): &(i32, i64)| EpochStart {
        epoch: LeaderEpoch(*epoch),
        start_offset: *start_offset,
    };
    entries.iter().map(entry).collect()
}

fn segment(base: i64, end: i64, epochs: &[(i32, i64)]) -> RemoteLogSegmentMetadata {
    RemoteLogSegmentMetadata {
        segment_leader_epochs: lineage(epochs),
        ..remote_segment(base, end)
    }
}

fn local(lineage: &[EpochStart], start: i64, local: i64, end: i64) -> LocalLog<'_> {
    LocalLog {
        lineage,
        log_start_offset: start,
        local_start_offset: local,
        end_offset: end,
    }
}

const AGREES: Comparison = Comparison::Agrees;

fn ahead(end_offset: i64) -> Comparison {
    Comparison::TierIsAhead { end_offset }
}

fn diverges(from: i64, resumes_at: i64) -> Comparison {
    Comparison::Diverges { from, resumes_at }
}

type Epochs = &'static [(i32, i64)];

#[test]
fn a_leaders_log_is_compared_by_epoch() {
    let tier = [
        segment(0, 20, &[(1, 0)]),
        segment(20, 40, &[(1, 0), (3, 30)]),
    ];
    let table: [(&str, Epochs, i64, i64, i64, Comparison); 14] = [
        ("healthy", &[(1, 0), (3, 30)], 0, 10, 50, AGREES),
        ("ends with the tier", &[(1, 0), (3, 30)], 0, 40, 40, AGREES),
        ("new epoch", &[(1, 0), (3, 30), (4, 45)], 0, 10, 50, AGREES),
        ("lost its end", &[(1, 0)], 0, 0, 25, ahead(40)),
        (
            "lost its end later",
            &[(1, 0), (3, 30)],
            0,
            20,
            35,
            ahead(40),
        ),
        ("lost everything", &[], 0, 0, 0, ahead(40)),
        (
            "led before it wrote",
            &[(1, 0), (5, 25)],
            0,
            0,
            25,
            ahead(40),
        ),
        ("wrote on", &[(1, 0), (5, 25)], 0, 0, 27, diverges(25, 25)),
        (
            "wrote far on",
            &[(1, 0), (5, 25)],
            0,
            0,
            90,
            diverges(25, 25),
        ),
        ("never saw epoch 3", &[(1, 0)], 0, 0, 35, diverges(30, 30)),
        (
            "parted, then trimmed",
            &[(1, 0), (5, 25)],
            0,
            60,
            90,
            diverges(25, 60),
        ),
        (
            "a gap between the tiers",
            &[(1, 0), (3, 30)],
            0,
            60,
            90,
            diverges(40, 60),
        ),
        (
            "parted below the log start",
            &[(1, 0), (5, 25)],
            40,
            60,
            90,
            AGREES,
        ),
        ("does not know its past", &[(3, 35)], 0, 35, 50, AGREES),
    ];
    for (what, epochs, start, first, end, expected) in table {
        let epochs = lineage(epochs);
        let found = compare(&tier, &local(&epochs, start, first, end));
        assert_eq!(found, expected, "{what}");
    }
    let epochs = lineage(&[(1, 0)]);
    assert_eq!(compare(&[], &local(&epochs, 0, 30, 50)), AGREES);
}

#[test]
fn a_log_begins_with_the_first_offset_that_somebody_holds() {
    let tier = [segment(20, 40, &[(1, 0)])];
    let first = |tier: &[RemoteLogSegmentMetadata], start, first| {
        first_held_offset(tier, &local(&[], start, first, 90))
    };
    assert_eq!(first(&tier, 0, 40), 20);
    assert_eq!(first(&tier, 30, 40), 30, "inside of a segment");
    assert_eq!(
        first(&tier, 0, 10),
        20,
        "an earlier leader's log began there"
    );
    assert_eq!(first(&[], 0, 50), 50, "the tier holds nothing any more");
    let with_hole = [
        segment(0, 10, &[(1, 0)]),
        tier[0].clone(),
        segment(30, 60, &[(1, 0)]),
    ];
    assert_eq!(
        first(&with_hole, 0, 0),
        20,
        "retention has deleted what lay between"
    );
    assert_eq!(first(&with_hole, 25, 0), 25);
    assert_eq!(first(&tier, 45, 50), 50);
    assert_eq!(first(&[], 50, 50), 50);
}

#[test]
fn what_was_copied_counts_up_to_where_the_epochs_part() {
    let tier = [
        segment(0, 20, &[(1, 0)]),
        segment(20, 40, &[(1, 0), (3, 30)]),
    ];
    let end = |epochs: &[(i32, i64)], end| {
        let epochs = lineage(epochs);
        agreed_end_offset(&tier, &local(&epochs, 0, 0, end))
    };
    assert_eq!(end(&[(1, 0), (3, 30)], 50), 40);
    assert_eq!(end(&[(1, 0), (5, 25)], 50), 25);
    assert_eq!(end(&[(1, 0), (5, 10)], 50), 10, "not the second segment");
    assert_eq!(end(&[(7, 0)], 50), 0);
    let none = agreed_end_offset(&[], &local(&[], 0, 0, 50));
    assert_eq!(none, 0);
}

#[test]
fn an_offset_is_answered_by_the_newest_copy_of_its_epoch() {
    let tier = [
        segment(0, 20, &[(1, 0)]),
        segment(10, 30, &[(1, 0), (2, 15)]),
        segment(18, 40, &[(2, 15)]),
    ];
    let found = |offset, epochs: &[(i32, i64)]| {
        let held = holder(tier.iter(), offset, &lineage(epochs));
        held.map(|(segment, until)| (segment.base_offset, until))
    };
    assert_eq!(found(5, &[(1, 0), (2, 15)]), Some((0, 15)));
    assert_eq!(found(12, &[(1, 0), (2, 15)]), Some((10, 30)));
    assert_eq!(found(19, &[(1, 0), (2, 15)]), Some((18, 40)));
    assert_eq!(found(19, &[(1, 0)]), Some((0, 20)), "the other history");
    assert_eq!(found(25, &[(1, 0)]), None);
    assert_eq!(found(25, &[]), Some((18, 40)), "nothing contradicts");
    assert_eq!(found(40, &[(2, 15)]), None);
}

#[test]
fn a_lineage_comes_back_from_segments() {
    let tier = [
        segment(0, 20, &[(1, 0)]),
        segment(20, 40, &[(1, 0), (3, 30)]),
        segment(40, 50, &[(3, 30), (4, 44)]),
    ];
    assert_eq!(lineage_of(&tier), lineage(&[(1, 0), (3, 30), (4, 44)]));
}

/// A history: who wrote each offset, with epochs that never fall.
fn history() -> impl Strategy<Value = Vec<i32>> {
    proptest::collection::vec(0..3i32, 0..60).prop_map(|steps| {
        let mut epoch = 0;
        let grow = |step: i32| {
            epoch += i32::from(step == 0);
            epoch
        };
        steps.into_iter().map(grow).collect()
    })
}

fn lineage_of_history(history: &[i32]) -> Vec<EpochStart> {
    let mut entries: Vec<(i32, i64)> = Vec::new();
    for (offset, epoch) in history.iter().enumerate() {
        if entries.last().is_none_or(|(last, _)| last != epoch) {
            entries.push((*epoch, offset as i64));
        }
    }
    lineage(&entries)
}

proptest! {
    #[test]
    fn a_comparison_is_what_a_walk_over_all_offsets_says(
        shared in history(),
        own in 0..20usize,
        theirs in 0..20usize,
        cut in 0..60usize,
        borders in proptest::collection::vec(1..30usize, 1..10),
    ) {
        // Two logs with the same beginning; each continues in an epoch that the other has not.
        let cut = cut.min(shared.len());
        let last = shared.last().copied().unwrap_or(0);
        let mut mine = shared[..cut].to_vec();
        mine.extend(std::iter::repeat_n(last + 2, own));
        let mut tier = shared;
        tier.extend(std::iter::repeat_n(last + 1, theirs));
        let whole = lineage_of_history(&tier);
        let mut segments = Vec::new();
        let mut base = 0;
        for size in borders {
            let end = (base + size).min(tier.len());
            if base < end {
                let epochs = whole.iter().filter(|e| e.start_offset < end as i64);
                let mut copied = remote_segment(base as i64, end as i64);
                copied.segment_leader_epochs = epochs.copied().collect();
                segments.push(copied);
            }
            base = end;
        }
        let epochs = lineage_of_history(&mine);
        let log = local(&epochs, 0, 0, mine.len() as i64);
        let (in_tier, here) = (base, mine.len());
        let parted = (0..in_tier.min(here)).find(|at| mine[*at] != tier[*at]);
        let expected = match parted {
            Some(at) => diverges(at as i64, at as i64),
            None if in_tier > here => ahead(in_tier as i64),
            None => AGREES,
        };
        prop_assert_eq!(compare(&segments, &log), expected);
        let agreed = parted.unwrap_or(in_tier) as i64;
        prop_assert_eq!(agreed_end_offset(&segments, &log), agreed);
        for offset in 0..in_tier as i64 {
            let until = holder(segments.iter(), offset, &epochs).map(|(_, until)| until);
            let same = offset >= here as i64 || parted.is_none_or(|at| offset < at as i64);
            if same && here as i64 > offset {
                prop_assert!(until.is_some_and(|until| until > offset));
            }
            if parted.is_some_and(|at| offset >= at as i64 && offset < here as i64) {
                prop_assert_eq!(until, None);
            }
        }
    }
}

#[test]
fn the_lineage_of_later_segments_counts() {
    let entries = |tier: &[RemoteLogSegmentMetadata]| -> Vec<(i32, i64)> {
        let found = lineage_of(tier);
        found.iter().map(|e| (e.epoch.0, e.start_offset)).collect()
    };
    let own = [
        segment(0, 20, &[(1, 0)]),
        segment(20, 40, &[(1, 0), (3, 30)]),
    ];
    assert_eq!(entries(&own), [(1, 0), (3, 30)]);
    let begins_later = [
        segment(0, 20, &[(1, 0)]),
        segment(20, 40, &[(1, 20), (3, 30)]),
    ];
    assert_eq!(entries(&begins_later), [(1, 0), (3, 30)]);
    let foreign_below = [segment(0, 2, &[(9, 0)]), segment(2, 15, &[(1, 0)])];
    assert_eq!(entries(&foreign_below), [(1, 0)]);
    assert_eq!(entries(&[]), []);
}
