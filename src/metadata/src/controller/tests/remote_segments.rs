//! Which leader may note the copy of a segment.

use super::*;

#[test]
fn only_the_current_leader_may_copy_and_nothing_twice() {
    let mut cluster = Cluster::new(1);
    cluster.run(Command::CreateTopic(topic("t", 1))).unwrap();
    let partition = cluster.tp("t");
    let segment = |attempt: u128, base: i64, state| RemoteLogSegmentMetadata {
        id: RemoteLogSegmentId(Uuid::from_u128(attempt)),
        partition,
        base_offset: base,
        end_offset: base + 10,
        max_timestamp_ms: 0,
        broker_id: BrokerId(1),
        leader_epoch: LeaderEpoch(0),
        event_timestamp_ms: 0,
        segment_leader_epochs: vec![],
        log_bytes: 100,
        log_crc32c: 0,
        side_bytes: 0,
        side_crc32c: 0,
        state,
    };
    let mut step = |s: RemoteLogSegmentMetadata| {
        cluster.run(Command::UpdateRemoteSegment(s))?;
        Ok::<_, Refusal>(cluster.image.clone())
    };
    assert!(
        step(segment(1, 0, CopySegmentFinished)).is_err(),
        "never started"
    );
    step(segment(1, 0, CopySegmentStarted)).unwrap();
    let stale = RemoteLogSegmentMetadata {
        leader_epoch: LeaderEpoch(7),
        ..segment(1, 0, CopySegmentFinished)
    };
    assert!(step(stale).is_err());
    let after = step(segment(1, 0, CopySegmentFinished)).unwrap();
    let log = after.remote_log(partition).unwrap();
    assert_eq!(log.highest_remote_offset(), 9);
    assert_eq!(log.segment_for(9).unwrap().base_offset, 0);
    assert!(log.segment_for(10).is_none());
    assert!(
        step(segment(2, 0, CopySegmentStarted)).is_err(),
        "copied already"
    );
    step(segment(2, 20, CopySegmentStarted)).unwrap();
    let with_gap = step(segment(2, 20, CopySegmentFinished));
    assert!(with_gap.is_err(), "offsets 10 to 19 would be missing");
    let overlapping = RemoteLogSegmentMetadata {
        end_offset: 15,
        ..segment(4, 5, CopySegmentStarted)
    };
    step(overlapping).unwrap();
    step(segment(3, 10, CopySegmentStarted)).unwrap();
    step(segment(1, 0, DeleteSegmentStarted)).unwrap();
    assert!(
        step(segment(1, 0, CopySegmentFinished)).is_err(),
        "no way back"
    );
    let after = step(segment(1, 0, DeleteSegmentFinished)).unwrap();
    assert_eq!(after.remote_log(partition).unwrap().segments().count(), 3);
    step(segment(3, 10, CopySegmentFinished)).unwrap();
    let mut abandon = |attempt| {
        let id = RemoteLogSegmentId(Uuid::from_u128(attempt));
        cluster.run(Command::AbandonCopy { partition, id })
    };
    abandon(4).unwrap();
    abandon(99).unwrap();
    assert!(
        abandon(3).is_err(),
        "it has finished, and others may rely on it"
    );
}
