//! The rules for a batch from a producer (Kafka's `LogValidator`), in Kafka's order of checks.

use bytes::Bytes;
use thiserror::Error;

use super::faults::{FaultReason, RecordFault, RecordFaults};
use super::header::{BatchHeader, CRC_COVERED_FROM, HeaderError, TimestampType, write_derived};
use super::record::{RecordError, Records};
use crate::ErrorCode;
use crate::compression::Compression;

/// The topic's rules that a batch is checked against.
#[derive(Clone, Copy, Debug)]
pub struct BatchRules {
    /// `max.message.bytes`
    pub max_message_bytes: usize,
    /// `cleanup.policy` names `compact`: every record needs a key.
    pub compacted: bool,
    /// `message.timestamp.type`
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// `compression.type`; `None` is `producer`: keep the producer's codec.
    pub compression: Option<Compression>,
}

/// A batch that may be appended: its bytes (shared with the request unless the topic asks for a change) and header.
#[derive(Clone, Debug)]
pub struct ValidatedBatch {
    pub bytes: Bytes,
    pub header: BatchHeader,
}

/// The reason why a batch is refused. [`BatchError::code`] is the producer's error code.
#[derive(Debug, Error)]
pub enum BatchError {
    #[error("the request holds no whole record batch")]
    Empty,
    #[error("a produce request must hold exactly one record batch a partition")]
    ManyBatches,
    #[error("record batch of {size} bytes is larger than max.message.bytes = {max}")]
    TooLarge { size: usize, max: usize },
    #[error("record batch is corrupt: stored crc {stored:#010x}, computed {computed:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("record batch is invalid: {0}")]
    Header(#[from] HeaderError),
    #[error("record batch is invalid: {0}")]
    Invalid(&'static str),
    #[error("{0}")]
    Faults(RecordFaults),
    #[error("record batch is invalid: {0}")]
    Records(#[from] RecordError),
}

impl BatchError {
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Empty
            | Self::Crc { .. }
            | Self::Header(HeaderError::Truncated | HeaderError::Length(_)) => {
                ErrorCode::CorruptMessage
            }
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::Faults(faults) if faults.any_about_time() => ErrorCode::InvalidTimestamp,
            Self::Header(HeaderError::Magic(_)) => ErrorCode::UnsupportedForMessageFormat,
            Self::ManyBatches | Self::Invalid(_) | Self::Faults(_) | Self::Records(_) => {
                ErrorCode::InvalidRecord
            }
        }
    }

    /// The records at fault, where the batch is refused for records.
    pub fn faults(&self) -> &[RecordFault] {
        match self {
            Self::Faults(faults) => faults.listed(),
            _ => &[],
        }
    }
}

/// Whether the stored CRC fits the bytes of a whole batch.
pub fn verify_crc(header: &BatchHeader, batch: &[u8]) -> Result<(), BatchError> {
    let computed = super::crc32c(&batch[CRC_COVERED_FROM..]);
    if computed == header.crc {
        Ok(())
    } else {
        Err(BatchError::Crc {
            stored: header.crc,
            computed,
        })
    }
}

/// Walks whole batches at the front of `bytes`: header and length of each. Stops before one that is cut off.
pub fn split_batches(
    bytes: &[u8],
) -> impl Iterator<Item = Result<(usize, BatchHeader), HeaderError>> {
    let mut position = 0;
    std::iter::from_fn(move || {
        let rest = &bytes[position..];
        if rest.len() < super::BATCH_HEADER_BYTES {
            return None;
        }
        match BatchHeader::decode(rest) {
            Ok(header) if header.size() <= rest.len() => {
                let at = position;
                position += header.size();
                Some(Ok((at, header)))
            }
            Ok(_) => None,
            Err(error) => {
                position = bytes.len();
                Some(Err(error))
            }
        }
    })
}

/// Checks the records field of one partition in a Produce request and applies the topic's rules.
///
/// Copies nothing unless the topic stamps or recompresses records.
pub fn validate_batch(
    records: &Bytes,
    rules: &BatchRules,
    now_ms: i64,
) -> Result<ValidatedBatch, BatchError> {
    if records.is_empty() {
        return Err(BatchError::Empty);
    }
    let header = BatchHeader::decode(records)?;
    if header.size() > records.len() {
        return Err(BatchError::Empty);
    }
    if header.size() < records.len() {
        return Err(BatchError::ManyBatches);
    }
    if header.size() > rules.max_message_bytes {
        return Err(BatchError::TooLarge {
            size: header.size(),
            max: rules.max_message_bytes,
        });
    }
    verify_crc(&header, records)?;
    check_header(&header)?;
    let newest = check_records(&header, records, rules, now_ms)?;
    let derived = header.derived(rules.timestamp_type, newest, now_ms);
    apply_rules(records, header, derived, rules)
}

fn check_header(header: &BatchHeader) -> Result<(), BatchError> {
    if header.base_offset != 0 {
        return Err(BatchError::Invalid(
            "the base offset of a batch from a producer must be 0",
        ));
    }
    if header.record_count <= 0 {
        return Err(BatchError::Invalid("a batch must hold at least one record"));
    }
    if header.last_offset_delta != header.record_count - 1 {
        return Err(BatchError::Invalid(
            "the last offset delta does not fit the record count",
        ));
    }
    if header.is_control() {
        return Err(BatchError::Invalid("clients cannot write control records"));
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        return Err(BatchError::Invalid(
            "a batch with a producer id needs a sequence number",
        ));
    }
    if header.has_producer_id() && header.producer_epoch < 0 {
        return Err(BatchError::Invalid(
            "a batch with a producer id needs a producer epoch",
        ));
    }
    if header.is_transactional() && !header.has_producer_id() {
        return Err(BatchError::Invalid(
            "a transactional batch needs a producer id",
        ));
    }
    Ok(())
}

/// Walks all records; returns the newest timestamp of them, −1 where none has one. Names every record that the rules refuse.
fn check_records(
    header: &BatchHeader,
    batch: &[u8],
    rules: &BatchRules,
    now_ms: i64,
) -> Result<i64, BatchError> {
    let mut newest = strandline_types::NO_TIMESTAMP;
    let mut faults = RecordFaults::default();
    let mut records = Records::new(*header, batch)?;
    let mut index = 0;
    while let Some(record) = records.next_outline()? {
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        let reason = if record.offset_delta != index {
            Some(FaultReason::OffsetDelta(record.offset_delta))
        } else if rules.compacted && !record.has_key {
            Some(FaultReason::NoKey)
        } else {
            timestamp_fault(header, timestamp, rules, now_ms)
        };
        if let Some(reason) = reason {
            faults.add(RecordFault { index, reason });
        }
        newest = newest.max(timestamp);
        index += 1;
    }
    records.expect_end()?;
    if faults.is_empty() {
        Ok(newest)
    } else {
        Err(BatchError::Faults(faults))
    }
}

/// A batch that claims to be stamped by a broker counts as one of the time of its header. Such a batch is taken, and its claim
/// corrected, where Kafka does so: where that time is checked.
fn timestamp_fault(
    header: &BatchHeader,
    own: i64,
    rules: &BatchRules,
    now_ms: i64,
) -> Option<FaultReason> {
    let stamped = header.timestamp_type() == TimestampType::LogAppendTime;
    let timestamp = if stamped { header.max_timestamp } else { own };
    let checked = rules.timestamp_type == TimestampType::CreateTime
        && timestamp != strandline_types::NO_TIMESTAMP;
    if !checked {
        return stamped.then_some(FaultReason::TimestampType);
    }
    let min = now_ms.saturating_sub(rules.timestamp_before_max_ms);
    let max = now_ms.saturating_add(rules.timestamp_after_max_ms);
    (!(min..=max).contains(&timestamp)).then_some(FaultReason::Timestamp {
        timestamp,
        min,
        max,
    })
}

/// The batch as it is written: the producer's own bytes, unless its header is wrong or the topic asks for another
/// codec.
fn apply_rules(
    records: &Bytes,
    header: BatchHeader,
    derived: BatchHeader,
    rules: &BatchRules,
) -> Result<ValidatedBatch, BatchError> {
    let source = Compression::from_attributes(header.attributes).map_err(RecordError::from)?;
    let recompress = rules.compression.filter(|target| *target != source);
    if recompress.is_none() && derived == header {
        return Ok(ValidatedBatch {
            bytes: records.clone(),
            header,
        });
    }
    let bytes = if let Some(target) = recompress {
        super::builder::recompress(&derived, records, target)?
    } else {
        let mut bytes = records.to_vec();
        write_derived(&mut bytes, &derived);
        bytes
    };
    let header = BatchHeader::decode(&bytes)?;
    Ok(ValidatedBatch {
        bytes: bytes.into(),
        header,
    })
}
