//! Look-ups by time against a scan of all records.

use proptest::prelude::*;
use strandline_wire::batch::{BatchBuilder, BatchHeader, RecordToWrite, ValidatedBatch};
use strandline_wire::compression::Compression;

use crate::scenario_tests::{EPOCH, open};
use crate::{FoundTimestamp, PartitionLog};

/// Timestamps of the records of each batch, and its compression.
fn batches() -> impl Strategy<Value = Vec<(Vec<i64>, Compression)>> {
    let timestamp = prop_oneof![1 => Just(-1i64), 9 => 0..200i64];
    let compression = prop_oneof![
        Just(Compression::None),
        Just(Compression::Gzip),
        Just(Compression::Lz4),
    ];
    let batch = (prop::collection::vec(timestamp, 1..12), compression);
    prop::collection::vec(batch, 1..60)
}

fn append(log: &mut PartitionLog, timestamps: &[i64], compression: Compression) {
    let mut builder = BatchBuilder::new(compression);
    for (i, timestamp) in timestamps.iter().enumerate() {
        builder.push(&RecordToWrite {
            timestamp: *timestamp,
            value: Some(vec![i as u8 ^ *timestamp as u8; 40].into()),
            ..RecordToWrite::default()
        });
    }
    let bytes = builder.build();
    let header = BatchHeader::decode(&bytes).unwrap();
    log.append(&[ValidatedBatch { header, bytes }], EPOCH, 1_000_000)
        .remove(0)
        .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn look_ups_by_time_answer_as_a_scan_does(
        batches in batches(),
        borders in (0.0..1.0f64, 0.0..1.0f64),
        reopened in any::<bool>(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let mut log = open(directory.path(), 0, false).unwrap();
        log.config.segment_bytes = 2000;
        log.config.index_interval_bytes = 200;
        log.start_leader_epoch(EPOCH);
        let mut all = Vec::new();
        for (timestamps, compression) in &batches {
            append(&mut log, timestamps, *compression);
            all.extend_from_slice(timestamps);
        }
        if reopened {
            log.prepare_to_close().unwrap();
            log = open(directory.path(), all.len() as i64, true).unwrap();
        }
        // Borders that lie inside batches more often than not.
        let from = (borders.0 * all.len() as f64) as i64;
        let limit = from + (borders.1 * (all.len() as f64 + 1.0 - from as f64)) as i64;
        let within = || (from..limit).map(|offset| FoundTimestamp {
            offset,
            timestamp_ms: all[offset as usize],
        });
        let view = log.view();
        for at in 0..202 {
            let scanned = within().find(|r| r.timestamp_ms >= at);
            let found = view.find_timestamp(at, from, limit).unwrap();
            prop_assert_eq!(found, scanned, "at {} in {}..{}", at, from, limit);
        }
        let scanned = within().filter(|r| r.timestamp_ms >= 0)
            .reduce(|best, r| if r.is_later_than(&best) { r } else { best });
        prop_assert_eq!(view.find_max_timestamp(from, limit).unwrap(), scanned);
    }
}
