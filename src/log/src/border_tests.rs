//! Log starts that lie inside a batch: a follower's log begins with the batch that holds the start.

use std::path::Path;

use bytes::Bytes;
use strandline_types::TopicPartition;

use crate::scenario_tests::{append, batch, config, filled, flush, open};
use crate::{FetchedError, OpenOptions, PartitionLog, ProducerState};

/// Inside the batch of the offsets 250 to 259.
const START: i64 = 254;
const END: i64 = 500;

/// The bytes that a leader sends to a follower that fetches from `offset` on.
fn fetch(leader: &PartitionLog, offset: i64) -> Bytes {
    let view = leader.view();
    let slice = view
        .slice(offset, 30_000, view.log_end_offset)
        .unwrap()
        .unwrap();
    let mut bytes = vec![0; slice.length];
    slice.segment.read_at(&mut bytes, slice.position).unwrap();
    // Only whole batches.
    let whole = strandline_wire::batch::split_batches(&bytes)
        .map_while(Result::ok)
        .last()
        .map_or(0, |(at, header)| at + header.size());
    bytes.truncate(whole);
    bytes.into()
}

fn catch_up(follower: &mut PartitionLog, leader: &PartitionLog) {
    while follower.log_end_offset() < leader.log_end_offset() {
        let records = fetch(leader, follower.log_end_offset());
        follower.append_fetched(&records, 1_000_000).unwrap();
        flush(follower);
        follower.advance_high_watermark(leader.high_watermark());
        follower
            .advance_log_start(leader.log_start_offset())
            .unwrap();
    }
}

/// All bytes from the batch that holds `offset` on.
fn bytes_from(log: &PartitionLog, mut offset: i64) -> Vec<u8> {
    let mut all = Vec::new();
    while offset < log.log_end_offset() {
        let bytes = fetch(log, offset);
        let last = strandline_wire::batch::split_batches(&bytes)
            .last()
            .unwrap()
            .unwrap();
        offset = last.1.end_offset();
        all.extend_from_slice(&bytes);
    }
    all
}

fn leader(directory: &Path) -> PartitionLog {
    let mut leader = filled(directory, END / 10);
    leader.advance_log_start(START).unwrap();
    leader
}

/// An empty log that begins at the leader's log start.
fn empty(directory: &Path) -> PartitionLog {
    let mut log = open(directory, 0, false).unwrap();
    log.start_behind_cold_tier(START, START, Vec::new(), ProducerState::default())
        .unwrap();
    log
}

#[test]
fn an_empty_log_takes_the_batch_that_holds_its_start_and_follows_to_the_end() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = leader(one.path());
    let mut follower = empty(two.path());
    catch_up(&mut follower, &leader);
    for log in [&leader, &follower] {
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (START, END));
        assert_eq!(log.view().local_log_start_offset, START);
    }
    assert_eq!(bytes_from(&follower, START), bytes_from(&leader, START));
    // As after a clean stop, and as after a crash.
    for clean in [true, false] {
        drop(follower);
        follower = reopened(two.path(), END, clean);
        assert_eq!(
            (follower.log_start_offset(), follower.log_end_offset()),
            (START, END)
        );
        assert_eq!(bytes_from(&follower, START), bytes_from(&leader, START));
    }
    let found = follower.view().find_timestamp(0, START, END).unwrap();
    assert_eq!(found.map(|f| f.offset), Some(START));
}

fn reopened(directory: &Path, recovery_point: i64, clean: bool) -> PartitionLog {
    let options = OpenOptions {
        config: config(),
        recovery_point,
        log_start_offset: START,
        high_watermark: START,
        clean,
        ..OpenOptions::new(config())
    };
    PartitionLog::open(TopicPartition::new("t", 0), directory, options).unwrap()
}

#[test]
fn a_torn_first_batch_below_the_log_start_is_cut_and_fetched_again() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = leader(one.path());
    let mut follower = empty(two.path());
    follower
        .append_fetched(&fetch(&leader, START), 1_000_000)
        .unwrap();
    let path = follower.view().segments[0].log_path.clone();
    drop(follower);
    // The recovery point on disk is still the log start; of the first batch a part was written.
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(100).unwrap();
    let mut follower = reopened(two.path(), START, false);
    assert_eq!(
        follower.log_end_offset(),
        START,
        "no offset below the log start is given out again"
    );
    catch_up(&mut follower, &leader);
    assert_eq!(bytes_from(&follower, START), bytes_from(&leader, START));
}

#[test]
fn a_log_with_records_takes_no_batch_from_below_its_end() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let leader = leader(one.path());
    let mut follower = empty(two.path());
    catch_up(&mut follower, &leader);
    let before = bytes_from(&follower, START);
    let refused = follower.append_fetched(&fetch(&leader, 300), 1_000_000);
    assert!(
        matches!(
            refused,
            Err(FetchedError::Overlaps {
                base_offset: 300,
                log_end_offset: END
            })
        ),
        "{refused:?}"
    );
    assert_eq!(bytes_from(&follower, START), before);
    // Nor does an empty one take a batch that lies wholly below its end.
    let three = tempfile::tempdir().unwrap();
    let mut follower = empty(three.path());
    let refused = follower.append_fetched(&fetch(&leader, START).slice(..0), 1_000_000);
    assert!(refused.is_ok());
    let far = fetch(&filled(tempfile::tempdir().unwrap().path(), 10), 0);
    assert!(follower.append_fetched(&far, 1_000_000).is_err());
    assert_eq!(follower.log_end_offset(), START);
}

#[test]
fn a_cut_into_the_batch_of_the_log_start_gives_no_offset_below_it_out_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = leader(directory.path());
    assert!(log.truncate(START + 1).unwrap());
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (START, START)
    );
    let appended = append(&mut log, batch(3, 1)).unwrap();
    assert_eq!(appended.base_offset, START);
    // A truncation below the log start lowers the log start.
    let directory = tempfile::tempdir().unwrap();
    let mut log = leader(directory.path());
    assert!(log.truncate(START - 1).unwrap());
    assert_eq!(log.log_start_offset(), START - 1);
    assert_eq!(log.log_end_offset(), START - 1);
}
