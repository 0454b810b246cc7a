//! The 61 bytes in front of a batch's records.
//!
//! | offset | field | | offset | field |
//! |---|---|---|---|---|
//! | 0 | base offset, i64 | | 23 | last offset delta, i32 |
//! | 8 | length of what follows, i32 | | 27 | base timestamp, i64 |
//! | 12 | partition leader epoch, i32 | | 35 | max timestamp, i64 |
//! | 16 | magic, i8 | | 43 | producer id, i64 |
//! | 17 | CRC-32C of bytes 21.., u32 | | 51 | producer epoch, i16 |
//! | 21 | attributes, i16 | | 53 | base sequence, i32 |
//! | | | | 57 | record count, i32 |
//!
//! Base offset and leader epoch lie outside the CRC, so a broker sets them without touching it.

use thiserror::Error;

pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes before those that the length field counts.
const LENGTH_OVERHEAD: usize = 12;
pub(crate) const CRC_START: usize = 17;
pub(crate) const CRC_COVERED_FROM: usize = 21;

const TIMESTAMP_TYPE_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    #[error("fewer bytes than a batch header has")]
    Truncated,
    #[error("magic {0} is not 2")]
    Magic(i8),
    #[error("batch length {0} is smaller than a header")]
    Length(i32),
}

/// The side that sets a batch's timestamps: the producer (`CreateTime`) or the broker (`LogAppendTime`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// A decoded batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    pub batch_length: i32,
    pub partition_leader_epoch: i32,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("the caller checked the length")
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`; the records behind it need not be there.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.len() > 16 && bytes[16] != 2 {
            return Err(HeaderError::Magic(bytes[16] as i8));
        }
        if bytes.len() < BATCH_HEADER_BYTES {
            return Err(HeaderError::Truncated);
        }
        let header = Self {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            batch_length: i32::from_be_bytes(array(bytes, 8)),
            partition_leader_epoch: i32::from_be_bytes(array(bytes, 12)),
            crc: u32::from_be_bytes(array(bytes, CRC_START)),
            attributes: i16::from_be_bytes(array(bytes, CRC_COVERED_FROM)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp: i64::from_be_bytes(array(bytes, 35)),
            producer_id: i64::from_be_bytes(array(bytes, 43)),
            producer_epoch: i16::from_be_bytes(array(bytes, 51)),
            base_sequence: i32::from_be_bytes(array(bytes, 53)),
            record_count: i32::from_be_bytes(array(bytes, 57)),
        };
        if header.batch_length < (BATCH_HEADER_BYTES - LENGTH_OVERHEAD) as i32 {
            return Err(HeaderError::Length(header.batch_length));
        }
        Ok(header)
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        LENGTH_OVERHEAD + self.batch_length as usize
    }

    /// Inclusive. Saturates on a header that no broker wrote.
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// Exclusive.
    pub fn end_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & TIMESTAMP_TYPE_BIT == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// The header that a broker writes for a batch of a producer, whose newest record has this timestamp. The producer's own
    /// `max_timestamp` is never believed: look-ups by time, retention and the expiry of producers rest on the field. Only a
    /// compacting broker sets a delete horizon.
    pub(crate) fn derived(self, timestamp_type: TimestampType, newest: i64, now_ms: i64) -> Self {
        let own = self.attributes & !(DELETE_HORIZON_BIT | TIMESTAMP_TYPE_BIT);
        match timestamp_type {
            TimestampType::CreateTime => Self {
                attributes: own,
                max_timestamp: newest,
                ..self
            },
            TimestampType::LogAppendTime => Self {
                attributes: own | TIMESTAMP_TYPE_BIT,
                max_timestamp: now_ms,
                ..self
            },
        }
    }

    /// Sequence of the last record; wraps from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        increment_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// Adds to a sequence number, which wraps from `i32::MAX` to 0.
pub fn increment_sequence(sequence: i32, by: i32) -> i32 {
    sequence
        .checked_add(by)
        .unwrap_or_else(|| by - (i32::MAX - sequence) - 1)
}

/// The first 16 bytes of a batch with the offset and epoch that the broker gives it; the rest stays as it came.
pub fn patch_for_append(header: &BatchHeader, base_offset: i64, leader_epoch: i32) -> [u8; 16] {
    let mut patched = [0; 16];
    patched[..8].copy_from_slice(&base_offset.to_be_bytes());
    patched[8..12].copy_from_slice(&header.batch_length.to_be_bytes());
    patched[12..].copy_from_slice(&leader_epoch.to_be_bytes());
    patched
}

/// Writes the fields of the header that a broker sets, attributes and max timestamp, into a whole batch and renews its CRC.
/// Bytes that are no whole header stay as they are.
pub(crate) fn write_derived(batch: &mut [u8], header: &BatchHeader) {
    put(batch, CRC_COVERED_FROM, header.attributes.to_be_bytes());
    put(batch, 35, header.max_timestamp.to_be_bytes());
    let crc = super::crc32c(batch.get(CRC_COVERED_FROM..).unwrap_or_default());
    put(batch, CRC_START, crc.to_be_bytes());
}

fn put<const N: usize>(batch: &mut [u8], at: usize, value: [u8; N]) {
    let place = batch.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
    if let Some(place) = place {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_past_the_largest_int() {
        assert_eq!(increment_sequence(5, 3), 8);
        assert_eq!(increment_sequence(i32::MAX, 1), 0);
        assert_eq!(increment_sequence(i32::MAX - 1, 4), 2);
    }
}
