//! Writes record batches: for coordinators' own topics, for clients, and for topics that recompress.

use std::io::Read;

use bytes::{BufMut, Bytes};

use super::header::{BATCH_HEADER_BYTES, BatchHeader, CRC_COVERED_FROM, CRC_START};
use super::record::{RecordError, RecordHeader};
use crate::compression::Compression;

/// A record to be written.
#[derive(Clone, Debug, Default)]
pub struct RecordToWrite {
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<RecordHeader>,
}

/// Collects records into one batch.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    pub compression: Compression,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    records: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch without a producer id.
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            records: Vec::new(),
            count: 0,
            base_timestamp: 0,
            max_timestamp: i64::MIN,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn record_count(&self) -> i32 {
        self.count
    }

    pub fn push(&mut self, record: &RecordToWrite) {
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let mut body = Vec::with_capacity(16);
        body.put_u8(0);
        put_varlong(&mut body, record.timestamp - self.base_timestamp);
        put_varint(&mut body, self.count);
        put_nullable(&mut body, record.key.as_deref());
        put_nullable(&mut body, record.value.as_deref());
        put_varint(&mut body, record.headers.len() as i32);
        for header in &record.headers {
            put_varint(&mut body, header.key.len() as i32);
            body.put_slice(&header.key);
            put_nullable(&mut body, header.value.as_deref());
        }
        put_varint(&mut self.records, body.len() as i32);
        self.records.extend_from_slice(&body);
        self.count += 1;
    }

    /// The finished batch with base offset 0. At least one record must have been pushed.
    pub fn build(&self) -> Bytes {
        assert!(self.count > 0, "a batch holds at least one record");
        let payload = self
            .compression
            .compress(&self.records)
            .expect("compressing to memory");
        let header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            crc: 0,
            attributes: self.compression.attribute_bits(),
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.count,
        };
        assemble(&header, &payload).into()
    }
}

/// Header and payload as one batch, length and CRC filled in.
fn assemble(header: &BatchHeader, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(BATCH_HEADER_BYTES + payload.len());
    out.put_i64(header.base_offset);
    out.put_i32((BATCH_HEADER_BYTES - 12 + payload.len()) as i32);
    out.put_i32(header.partition_leader_epoch);
    out.put_i8(2);
    out.put_u32(0);
    out.put_i16(header.attributes);
    out.put_i32(header.last_offset_delta);
    out.put_i64(header.base_timestamp);
    out.put_i64(header.max_timestamp);
    out.put_i64(header.producer_id);
    out.put_i16(header.producer_epoch);
    out.put_i32(header.base_sequence);
    out.put_i32(header.record_count);
    out.extend_from_slice(payload);
    let crc = super::crc32c(&out[CRC_COVERED_FROM..]);
    out[CRC_START..CRC_COVERED_FROM].copy_from_slice(&crc.to_be_bytes());
    out
}

/// The records of `batch` under this header and another codec.
pub(super) fn recompress(
    header: &BatchHeader,
    batch: &[u8],
    target: Compression,
) -> Result<Vec<u8>, RecordError> {
    let source = Compression::from_attributes(header.attributes)?;
    let mut plain = Vec::new();
    source
        .reader(&batch[BATCH_HEADER_BYTES..])?
        .read_to_end(&mut plain)?;
    let payload = target.compress(&plain)?;
    let attributes = (header.attributes & !0x7) | target.attribute_bits();
    Ok(assemble(
        &BatchHeader {
            attributes,
            ..*header
        },
        &payload,
    ))
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}

fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_unsigned(out, u64::from(((value << 1) ^ (value >> 31)) as u32));
}

fn put_varlong(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::super::{BatchRules, Records, TimestampType, validate_batch};
    use super::*;
    use crate::ErrorCode;

    fn rules() -> BatchRules {
        BatchRules {
            max_message_bytes: 1 << 20,
            compacted: false,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compression: None,
        }
    }

    fn batch(compression: Compression, records: usize) -> Bytes {
        let mut builder = BatchBuilder::new(compression);
        for i in 0..records {
            builder.push(&RecordToWrite {
                timestamp: 1000 + i as i64,
                key: (i % 2 == 0).then(|| Bytes::from(format!("k{i}"))),
                value: Some(Bytes::from(vec![i as u8; 100])),
                headers: vec![RecordHeader {
                    key: "h".into(),
                    value: None,
                }],
            });
        }
        builder.build()
    }

    /// Replaces bytes of a batch and renews its CRC, so that the check behind the CRC is the one that is met.
    fn with(batch: &Bytes, at: usize, bytes: &[u8]) -> Bytes {
        let mut changed = batch.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = super::super::crc32c(&changed[21..]);
        changed[17..21].copy_from_slice(&crc.to_be_bytes());
        changed.into()
    }

    #[test]
    fn a_built_batch_validates_and_reads_back_under_every_codec() {
        for codec in [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let bytes = batch(codec, 50);
            let valid = validate_batch(&bytes, &rules(), 5000).unwrap();
            assert_eq!(valid.bytes.as_ptr(), bytes.as_ptr(), "nothing is copied");
            let mut records = Records::new(valid.header, &valid.bytes).unwrap();
            for i in 0..50 {
                let record = records.next_record().unwrap().unwrap();
                assert_eq!((record.offset, record.timestamp), (i, 1000 + i));
                assert_eq!(record.key.is_some(), i % 2 == 0);
                assert_eq!(record.headers.len(), 1);
            }
            assert!(records.next_record().unwrap().is_none());
        }
    }

    #[test]
    fn each_defect_has_its_code() {
        let good = batch(Compression::None, 3);
        let check = |bytes: &Bytes, rules: &BatchRules| {
            validate_batch(bytes, rules, 5000)
                .map(|_| ())
                .unwrap_err()
                .code()
        };
        let mut flipped = good.to_vec();
        flipped[70] ^= 1;
        assert_eq!(check(&flipped.into(), &rules()), ErrorCode::CorruptMessage);
        let mut magic1 = good.to_vec();
        magic1[16] = 1;
        assert_eq!(
            check(&magic1.into(), &rules()),
            ErrorCode::UnsupportedForMessageFormat
        );
        let invalid = ErrorCode::InvalidRecord;
        assert_eq!(
            check(&with(&good, 57, &9i32.to_be_bytes()), &rules()),
            invalid
        );
        assert_eq!(
            check(&with(&good, 57, &i32::MAX.to_be_bytes()), &rules()),
            invalid
        );
        assert_eq!(
            check(&with(&good, 23, &7i32.to_be_bytes()), &rules()),
            invalid
        );
        assert_eq!(
            check(&with(&good, 0, &7i64.to_be_bytes()), &rules()),
            invalid
        );
        assert_eq!(
            check(&with(&good, 21, &0x20i16.to_be_bytes()), &rules()),
            invalid
        );
        assert_eq!(
            check(&with(&good, 21, &7i16.to_be_bytes()), &rules()),
            invalid
        );
        assert_eq!(
            check(&with(&good, 43, &5i64.to_be_bytes()), &rules()),
            invalid
        );
        assert_eq!(
            check(&Bytes::from([&good[..], &good[..]].concat()), &rules()),
            invalid
        );
        assert_eq!(
            check(&good.slice(..good.len() - 1), &rules()),
            ErrorCode::CorruptMessage
        );
        let small = BatchRules {
            max_message_bytes: 100,
            ..rules()
        };
        assert_eq!(check(&good, &small), ErrorCode::MessageTooLarge);
        let compacted = BatchRules {
            compacted: true,
            ..rules()
        };
        assert_eq!(check(&good, &compacted), invalid);
        let late = BatchRules {
            timestamp_before_max_ms: 10,
            ..rules()
        };
        assert_eq!(check(&good, &late), ErrorCode::InvalidTimestamp);
    }

    /// Each header field that the records decide, wrong in every way that a producer can write it.
    #[test]
    fn a_header_is_written_as_the_records_say_under_every_codec_and_timestamp_type() {
        const DELETE_HORIZON: i16 = 1 << 6;
        let codecs = [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        let claims = [-1, 0, 1001, 1003, 10_000_000, i64::MIN, i64::MAX];
        for (codec, target) in codecs
            .iter()
            .flat_map(|c| [(*c, None), (*c, Some(Compression::Zstd))])
        {
            let good = batch(codec, 3);
            let base = BatchHeader::decode(&good).unwrap();
            for claim in claims {
                for attributes in [base.attributes, base.attributes | DELETE_HORIZON] {
                    let wrong = with(&good, 35, &i64::to_be_bytes(claim));
                    let wrong = with(&wrong, 21, &attributes.to_be_bytes());
                    let what = format!("{codec:?} to {target:?}, {claim}, {attributes:#x}");
                    let rules = BatchRules {
                        compression: target,
                        ..rules()
                    };
                    let valid = validate_batch(&wrong, &rules, 5000).unwrap();
                    super::super::verify_crc(&valid.header, &valid.bytes).unwrap();
                    let written = BatchHeader::decode(&valid.bytes).unwrap();
                    assert_eq!(written, valid.header, "{what}");
                    assert_eq!(written.max_timestamp, 1002, "{what}");
                    assert_eq!(written.attributes & DELETE_HORIZON, 0, "{what}");
                    let mut read = Records::new(written, &valid.bytes).unwrap();
                    for i in 0..3 {
                        let record = read.next_record().unwrap().unwrap();
                        assert_eq!((record.offset, record.timestamp), (i, 1000 + i), "{what}");
                    }
                    let stamped = BatchRules {
                        timestamp_type: TimestampType::LogAppendTime,
                        ..rules
                    };
                    let valid = validate_batch(&wrong, &stamped, 5000).unwrap();
                    super::super::verify_crc(&valid.header, &valid.bytes).unwrap();
                    let written = BatchHeader::decode(&valid.bytes).unwrap();
                    assert_eq!(written.max_timestamp, 5000, "{what}");
                    assert_eq!(written.timestamp_type(), TimestampType::LogAppendTime);
                }
            }
        }
    }

    #[test]
    fn records_without_a_timestamp_leave_the_header_without_one() {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..2 {
            builder.push(&RecordToWrite {
                timestamp: -1,
                ..RecordToWrite::default()
            });
        }
        let wrong = with(&builder.build(), 35, &5000i64.to_be_bytes());
        let valid = validate_batch(&wrong, &rules(), 5000).unwrap();
        assert_eq!(valid.header.max_timestamp, -1);
    }

    #[test]
    fn a_topic_may_stamp_and_recompress() {
        let rules = BatchRules {
            timestamp_type: TimestampType::LogAppendTime,
            compression: Some(Compression::Zstd),
            ..rules()
        };
        let valid = validate_batch(&batch(Compression::Gzip, 3), &rules, 777).unwrap();
        assert_eq!(valid.header.max_timestamp, 777);
        super::super::verify_crc(&valid.header, &valid.bytes).unwrap();
        let mut records = Records::new(valid.header, &valid.bytes).unwrap();
        assert_eq!(records.next_record().unwrap().unwrap().timestamp, 777);
    }
}
