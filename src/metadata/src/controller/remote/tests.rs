//! Copies of another history are refused; a cut ends a history by committed records.

use strandline_types::TopicId;
use uuid::Uuid;

use super::*;
use crate::image::PartitionImage;

const PARTITION: TopicIdPartition = TopicIdPartition {
    topic_id: TopicId(Uuid::from_u128(7)),
    partition: 0,
};

fn lineage(entries: &[(i32, i64)]) -> Vec<EpochStart> {
    let entry = |(epoch, start_offset): &(i32, i64)| EpochStart {
        epoch: LeaderEpoch(*epoch),
        start_offset: *start_offset,
    };
    entries.iter().map(entry).collect()
}

fn segment(base: i64, end: i64, epochs: &[(i32, i64)]) -> RemoteLogSegmentMetadata {
    RemoteLogSegmentMetadata {
        id: RemoteLogSegmentId(Uuid::from_u128((base as u128) << 64 | end as u128)),
        partition: PARTITION,
        base_offset: base,
        end_offset: end,
        max_timestamp_ms: 0,
        broker_id: BrokerId(1),
        leader_epoch: LeaderEpoch(4),
        event_timestamp_ms: 0,
        segment_leader_epochs: lineage(epochs),
        log_bytes: 100,
        log_crc32c: 0,
        side_bytes: 0,
        side_crc32c: 0,
        state: RemoteLogSegmentState::CopySegmentFinished,
    }
}

type Epochs = &'static [(i32, i64)];

/// Broker 1 leads in epoch 4; the tier ends at 40.
fn image() -> ClusterImage {
    let mut image = ClusterImage::default();
    image.apply(MetadataRecord::Topic {
        id: PARTITION.topic_id,
        name: "t".into(),
    });
    image.apply(MetadataRecord::Partition {
        topic_id: PARTITION.topic_id,
        partition: 0,
        state: PartitionImage {
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(4),
            ..PartitionImage::default()
        },
    });
    for known in [
        segment(0, 20, &[(1, 0)]),
        segment(20, 40, &[(1, 0), (3, 30)]),
    ] {
        image.apply(MetadataRecord::RemoteSegment(known));
    }
    image
}

#[test]
fn a_copy_tells_the_history_of_what_is_there() {
    let image = image();
    let table: [(&str, i64, i64, Epochs, bool); 7] = [
        ("goes on in the same epoch", 40, 60, &[(3, 30)], true),
        ("goes on in a newer epoch", 40, 60, &[(4, 40)], true),
        (
            "overlaps and agrees",
            25,
            60,
            &[(1, 0), (3, 30), (4, 45)],
            true,
        ),
        ("overlaps and differs", 25, 60, &[(1, 0), (4, 28)], false),
        ("does not know epoch 3", 25, 60, &[(1, 0)], false),
        ("ends in an older epoch", 40, 60, &[(2, 40)], false),
        ("does not say", 40, 60, &[], true),
    ];
    for (what, base, end, epochs, accepted) in table {
        let copy = RemoteLogSegmentMetadata {
            state: RemoteLogSegmentState::CopySegmentStarted,
            ..segment(base, end, epochs)
        };
        let decided = update_remote_segment(&image, copy);
        assert_eq!(decided.is_ok(), accepted, "{what}: {decided:?}");
    }
}

/// Copies overlap: a later one may start first, and none finishes before the one in front of it.
#[test]
fn copies_start_in_any_order_and_finish_without_a_gap() {
    use RemoteLogSegmentState::{CopySegmentFinished, CopySegmentStarted};
    let mut image = image();
    let in_state = |base: i64, state| RemoteLogSegmentMetadata {
        state,
        ..segment(base, base + 20, &[(3, 30)])
    };
    let mut moved = |base, state| {
        let decided = update_remote_segment(&image, in_state(base, state));
        decided.map(|records| records.into_iter().for_each(|r| image.apply(r)))
    };
    assert!(moved(60, CopySegmentStarted).is_ok());
    assert!(moved(40, CopySegmentStarted).is_ok());
    let refused = moved(60, CopySegmentFinished);
    assert!(refused.is_err(), "{refused:?}");
    assert!(moved(40, CopySegmentFinished).is_ok());
    assert!(moved(60, CopySegmentFinished).is_ok());
    let log = image.remote_log(PARTITION).unwrap();
    assert_eq!(log.highest_remote_offset(), 79);
}

fn cut(from: i64, resumes_at: i64, leader_epoch: i32) -> RemoteLogCut {
    RemoteLogCut {
        partition: PARTITION,
        broker_id: BrokerId(1),
        leader_epoch: LeaderEpoch(leader_epoch),
        from,
        resumes_at,
        gap: RemoteLogSegmentId(Uuid::from_u128(99)),
        gap_leader_epochs: lineage(&[(4, from)]),
        event_timestamp_ms: 5,
    }
}

#[test]
fn a_cut_ends_segments_where_the_histories_part() {
    // Input: `from` and the offset where the log continues. Expected: the readable segments with begin, end, epochs,
    // and whether each is a gap.
    type After = (i64, i64, Vec<EpochStart>, bool);
    let first = || (0, 20, lineage(&[(1, 0)]), false);
    let table: [(i64, i64, Vec<After>); 6] = [
        (
            40,
            40,
            vec![first(), (20, 40, lineage(&[(1, 0), (3, 30)]), false)],
        ),
        (30, 30, vec![first(), (20, 30, lineage(&[(1, 0)]), false)]),
        (20, 20, vec![first()]),
        (0, 0, vec![]),
        (20, 50, vec![first(), (20, 50, lineage(&[(4, 20)]), true)]),
        (
            40,
            50,
            vec![
                first(),
                (20, 40, lineage(&[(1, 0), (3, 30)]), false),
                (40, 50, lineage(&[(4, 40)]), true),
            ],
        ),
    ];
    for (from, resumes_at, expected) in table {
        let mut image = image();
        let records = cut_remote_log(&image, &cut(from, resumes_at, 4)).unwrap();
        records.into_iter().for_each(|record| image.apply(record));
        let log = image.remote_log(PARTITION).unwrap();
        let after: Vec<After> = log
            .readable()
            .map(|s| {
                let epochs = s.segment_leader_epochs.clone();
                (s.base_offset, s.end_offset, epochs, s.is_gap())
            })
            .collect();
        assert_eq!(after, expected, "from {from}, on at {resumes_at}");
        // Segments that are not readable stay known until their objects are gone.
        assert!(log.segments().count() >= 2);
    }
    for stale in [3, 5] {
        assert!(cut_remote_log(&image(), &cut(20, 20, stale)).is_err());
    }
}
