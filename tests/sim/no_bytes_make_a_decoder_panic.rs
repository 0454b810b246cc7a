//! Invariant 9: no bytes from network, disk or bucket can panic a process. The test damages bytes that were recorded
//! from real clients, and bytes that our own code writes, in every way, and gives them to the decoders.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use strandline_log::{decode_leader_epochs, decode_snapshot};
use strandline_metadata::decode_records;
use strandline_wire::batch::{
    BatchBuilder, BatchRules, RecordToWrite, Records, TimestampType, split_batches, validate_batch,
};
use strandline_wire::compression::Compression;
use strandline_wire::fetch::FetchRequest;
use strandline_wire::produce::ProduceRequest;
use strandline_wire::schema::check_request;

use crate::seeds;

const RULES: BatchRules = BatchRules {
    max_message_bytes: 1 << 20,
    compacted: false,
    timestamp_type: TimestampType::CreateTime,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: i64::MAX,
    compression: None,
};

/// Flips, removes, repeats and invents bytes.
fn damage(random: &mut StdRng, bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..out.len().max(1));
        match random.random_range(0..5) {
            0 if at < out.len() => out[at] ^= 1 << random.random_range(0..8),
            1 => out.truncate(at),
            2 if at < out.len() => {
                let extreme = [0x00, 0x7f, 0x80, 0xff];
                out[at] = extreme[random.random_range(0..extreme.len())];
            }
            3 if at < out.len() => {
                let end = (at + random.random_range(1..9)).min(out.len());
                let part = out[at..end].to_vec();
                out.splice(at..at, part);
            }
            _ => out.push(random.random()),
        }
    }
    out
}

fn batch(random: &mut StdRng) -> Bytes {
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let mut builder = BatchBuilder::new(codecs[random.random_range(0..codecs.len())]);
    builder.producer_id = random.random_range(-1..3);
    for number in 0..random.random_range(1..20) {
        builder.push(&RecordToWrite {
            timestamp: number,
            key: random.random::<bool>().then(|| "key".into()),
            value: Some(vec![b'v'; random.random_range(0..100)].into()),
            headers: Vec::new(),
        });
    }
    builder.build()
}

/// Reads a batch as a broker does when it comes, when it is fetched, and when it is compacted or looked into.
fn read_batches(bytes: &Bytes) -> usize {
    let mut records = 0;
    let _ = validate_batch(bytes, &RULES, 0);
    for found in split_batches(bytes) {
        let Ok((at, header)) = found else { break };
        let Some(batch) = bytes.get(at..at + header.size()) else {
            break;
        };
        if let Ok(mut batch) = Records::new(header, batch) {
            while let Ok(Some(_)) = batch.next_record() {
                records += 1;
            }
        }
    }
    records
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    let mut records = 0;
    for seed in 0..seeds() {
        let mut random = StdRng::seed_from_u64(seed);
        let whole = batch(&mut random);
        records += read_batches(&whole);
        for _ in 0..10 {
            let bytes = Bytes::from(damage(&mut random, &whole));
            read_batches(&bytes);
            let _ = decode_snapshot(&bytes);
            let _ = decode_leader_epochs(&bytes);
            let _ = decode_records(&bytes);
            let version = random.random_range(0..19);
            let _ = FetchRequest::decode(version, bytes.clone());
            let _ = ProduceRequest::decode(version, bytes.clone());
            let _ = check_request(random.random_range(0..93), version, &bytes);
        }
    }
    println!(
        "{} seeds, {records} records read of what was whole",
        seeds()
    );
    assert!(records as u64 > seeds());
}
