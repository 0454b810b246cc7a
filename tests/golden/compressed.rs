//! Every form of a compressed batch that a client may send, with the verdict of Kafka 4.3.1's own validator: what Java
//! cannot read must not get into a log, and what Java reads must not be refused. `tests/compat/compressed` makes the table.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use strandline_wire::batch::{BatchRules, Records, TimestampType, validate_batch};

const RULES: BatchRules = BatchRules {
    max_message_bytes: 1 << 20,
    compacted: false,
    timestamp_type: TimestampType::CreateTime,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: i64::MAX,
    compression: None,
};

fn bytes(hex: &str) -> Bytes {
    let digits = hex.as_bytes().chunks_exact(2);
    let digits = digits.map(|pair| std::str::from_utf8(pair).unwrap());
    digits
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// Whether a batch is taken; one that is must give back all of its records.
fn is_read(batch: &Bytes) -> bool {
    let Ok(taken) = validate_batch(batch, &RULES, 1_700_000_000_000) else {
        return false;
    };
    let mut records = Records::new(taken.header, &taken.bytes).unwrap();
    let mut count = 0;
    while let Some(record) = records.next_record().unwrap() {
        assert_eq!(record.key.unwrap(), format!("key {count}"));
        assert_eq!(record.value.unwrap(), "value ".repeat(12));
        count += 1;
    }
    count == 4
}

#[test]
fn compressed_batches_are_taken_and_refused_as_kafka_does() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/golden/compressed/batches.jsonl"
    );
    let table = std::fs::read_to_string(path).unwrap();
    let mut wrong = Vec::new();
    let mut forms: BTreeMap<String, usize> = BTreeMap::new();
    for line in table.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let form = row["form"].as_str().unwrap();
        let kafka = row["kafka"] == "read";
        if is_read(&bytes(row["batch"].as_str().unwrap())) != kafka {
            wrong.push(format!("{form}: Kafka says {}", row["kafka"]));
        }
        let codec = form.split(':').next().unwrap_or_default();
        *forms.entry(codec.to_owned()).or_default() += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(
        forms.len() == 4 && forms.values().all(|n| *n >= 18),
        "{forms:?}"
    );
}
