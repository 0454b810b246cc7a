//! Record batches: validation, and the walk over records under every codec. Length and CRC are made to fit, so that the
//! input reaches what lies behind them.
//!
//! `cargo +nightly fuzz run batch -- -runs=20000000 -rss_limit_mb=512 -timeout=2`
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use strandline_wire::batch::{
    BATCH_HEADER_BYTES, BatchHeader, BatchRules, Records, TimestampType, crc32c, split_batches, validate_batch,
};

const RULES: BatchRules = BatchRules {
    max_message_bytes: 1 << 20,
    compacted: false,
    timestamp_type: TimestampType::CreateTime,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: i64::MAX,
    compression: None,
};

fuzz_target!(|data: &[u8]| {
    for found in split_batches(data) {
        if let Ok((at, header)) = found {
            walk(header, &data[at..at + header.size()]);
        }
    }
    let _ = validate_batch(&Bytes::copy_from_slice(data), &RULES, 0);
    if data.len() < BATCH_HEADER_BYTES {
        return;
    }
    let mut fitted = data.to_vec();
    fitted[..8].fill(0);
    let length = (fitted.len() as i32 - 12).to_be_bytes();
    fitted[8..12].copy_from_slice(&length);
    fitted[16] = 2;
    let crc = crc32c(&fitted[21..]).to_be_bytes();
    fitted[17..21].copy_from_slice(&crc);
    if let Ok(valid) = validate_batch(&fitted.into(), &RULES, 0) {
        walk(valid.header, &valid.bytes);
    }
});

fn walk(header: BatchHeader, batch: &[u8]) {
    if let Ok(mut records) = Records::new(header, batch) {
        while let Ok(Some(_)) = records.next_record() {}
    }
}
