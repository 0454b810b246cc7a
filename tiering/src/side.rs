//! The side object: everything a segment needs beside its bytes, in one object and so in one request.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `STRSIDE1` |
//! | 4 | number of sections, u32 big endian |
//! | 16 each | kind u32, offset u32, length u32, CRC-32C u32 |
//! | … | the sections |
//!
//! A reader ignores kinds that it does not know and refuses another magic. The CRC of the whole object is in the
//! quorum's metadata; the one of each section names what is damaged.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::crc32c;
use crate::upload::PART_BYTES;

const MAGIC: &[u8; 8] = b"STRSIDE1";
const SECTION_ENTRY_BYTES: usize = 16;

/// The kind of a section. The first five are Kafka's files, byte for byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SectionKind {
    OffsetIndex = 1,
    TimeIndex = 2,
    TransactionIndex = 3,
    ProducerSnapshot = 4,
    /// The lineage up to the segment's end, as `leader-epoch-checkpoint`.
    LeaderEpochs = 5,
    /// Chunk size u32, then the CRC-32C of every chunk of the log object, u32 each.
    ChunkChecksums = 6,
}

/// Bytes that are not this segment's side object.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SideError {
    #[error(
        "the side object is {found} bytes with crc {found_crc:#010x}, recorded are {wanted} with {wanted_crc:#010x}"
    )]
    Checksum {
        found: u64,
        found_crc: u32,
        wanted: u64,
        wanted_crc: u32,
    },
    #[error("not a side object of a version that this broker knows")]
    Format,
    #[error("section {0} is missing or damaged")]
    Section(u32),
}

/// Collects sections.
#[derive(Debug, Default)]
pub struct SideBuilder {
    sections: Vec<(SectionKind, Bytes)>,
}

impl SideBuilder {
    pub fn section(mut self, kind: SectionKind, bytes: impl Into<Bytes>) -> Self {
        self.sections.push((kind, bytes.into()));
        self
    }

    pub fn build(self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_slice(MAGIC);
        out.put_u32(self.sections.len() as u32);
        let mut offset = out.len() + self.sections.len() * SECTION_ENTRY_BYTES;
        for (kind, bytes) in &self.sections {
            out.put_u32(*kind as u32);
            out.put_u32(offset as u32);
            out.put_u32(bytes.len() as u32);
            out.put_u32(crc32c(bytes));
            offset += bytes.len();
        }
        for (_, bytes) in &self.sections {
            out.put_slice(bytes);
        }
        out.freeze()
    }
}

/// A side object whose checksums held.
#[derive(Clone, Debug)]
pub struct SideObject {
    sections: Vec<(u32, Bytes)>,
    pub chunk_bytes: u64,
    chunk_checksums: Vec<u32>,
}

impl SideObject {
    /// Checks and splits a side object against its recorded length and CRC.
    pub fn decode(object: &Bytes, wanted: u64, wanted_crc: u32) -> Result<Self, SideError> {
        let (found, found_crc) = (object.len() as u64, crc32c(object));
        if (found, found_crc) != (wanted, wanted_crc) {
            return Err(SideError::Checksum {
                found,
                found_crc,
                wanted,
                wanted_crc,
            });
        }
        let mut header = &object[..];
        header = header.strip_prefix(MAGIC).ok_or(SideError::Format)?;
        if header.len() < 4 {
            return Err(SideError::Format);
        }
        let count = header.get_u32() as usize;
        if header.len() / SECTION_ENTRY_BYTES < count {
            return Err(SideError::Format);
        }
        let mut sections = Vec::with_capacity(count);
        for _ in 0..count {
            let kind = header.get_u32();
            let (offset, length, crc) = (
                header.get_u32() as usize,
                header.get_u32() as usize,
                header.get_u32(),
            );
            let inside = offset
                .checked_add(length)
                .is_some_and(|end| end <= object.len());
            if !inside || crc32c(&object[offset..offset + length]) != crc {
                return Err(SideError::Section(kind));
            }
            sections.push((kind, object.slice(offset..offset + length)));
        }
        let mut side = Self {
            sections,
            chunk_bytes: 0,
            chunk_checksums: Vec::new(),
        };
        let missing = SideError::Section(SectionKind::ChunkChecksums as u32);
        let mut chunks = side.section(SectionKind::ChunkChecksums).ok_or(missing)?;
        if chunks.len() < 4 || !chunks.len().is_multiple_of(4) {
            return Err(SideError::Format);
        }
        // Version 0.1 recorded the configured chunk size, although its checksums covered a part of an upload at most.
        side.chunk_bytes = u64::from(chunks.get_u32()).min(PART_BYTES as u64);
        if side.chunk_bytes == 0 {
            return Err(SideError::Format);
        }
        while chunks.has_remaining() {
            side.chunk_checksums.push(chunks.get_u32());
        }
        Ok(side)
    }

    pub fn section(&self, kind: SectionKind) -> Option<Bytes> {
        self.sections
            .iter()
            .find(|(k, _)| *k == kind as u32)
            .map(|(_, bytes)| bytes.clone())
    }

    pub fn chunk_checksum(&self, chunk: u64) -> Option<u32> {
        self.chunk_checksums.get(chunk as usize).copied()
    }

    /// Bytes that this takes in memory.
    pub fn weight(&self) -> usize {
        self.sections.iter().map(|(_, b)| b.len()).sum::<usize>()
            + self.chunk_checksums.len() * 4
            + 200
    }

    /// Position at or before the batch that holds `offset` (Kafka's `.index`: pairs of relative offset and position).
    pub fn position_for(&self, base_offset: i64, offset: i64) -> u64 {
        let index = self.section(SectionKind::OffsetIndex).unwrap_or_default();
        let relative = offset.saturating_sub(base_offset).max(0);
        let relative = u32::try_from(relative).unwrap_or(u32::MAX);
        let after = partition_point(index.len() / 8, |i| u32_at(&index, i * 8) <= relative);
        let found = after.checked_sub(1);
        found.map_or(0, |i| u64::from(u32_at(&index, i * 8 + 4)))
    }

    /// Offset from which a scan for `timestamp_ms` must begin (Kafka's `.timeindex`).
    pub fn offset_for_timestamp(&self, base_offset: i64, timestamp_ms: i64) -> i64 {
        let index = self.section(SectionKind::TimeIndex).unwrap_or_default();
        let timestamp = |i: usize| {
            let (high, low) = (u32_at(&index, i * 12), u32_at(&index, i * 12 + 4));
            (i64::from(high) << 32) | i64::from(low)
        };
        let after = partition_point(index.len() / 12, |i| timestamp(i) < timestamp_ms);
        let found = after.checked_sub(1);
        let relative = found.map_or(0, |i| u32_at(&index, i * 12 + 8));
        base_offset.saturating_add(i64::from(relative))
    }
}

/// Big endian; 0 behind the end.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(<[u8]>::first_chunk);
    found.copied().map_or(0, u32::from_be_bytes)
}

/// Number of leading indexes in `0..len` for which `before` holds.
fn partition_point(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> Bytes {
        let index: Vec<u8> = (1..=5u32)
            .flat_map(|i| [(i * 10).to_be_bytes(), (i * 1000).to_be_bytes()].concat())
            .collect();
        let checksums = [
            &8u32.to_be_bytes()[..],
            &1u32.to_be_bytes(),
            &2u32.to_be_bytes(),
        ]
        .concat();
        SideBuilder::default()
            .section(SectionKind::OffsetIndex, index)
            .section(SectionKind::TransactionIndex, Bytes::new())
            .section(SectionKind::ChunkChecksums, checksums)
            .build()
    }

    #[test]
    fn sections_come_back_and_indexes_answer() {
        let bytes = object();
        let side = SideObject::decode(&bytes, bytes.len() as u64, crc32c(&bytes)).unwrap();
        assert_eq!(
            (
                side.chunk_bytes,
                side.chunk_checksum(1),
                side.chunk_checksum(2)
            ),
            (8, Some(2), None)
        );
        assert_eq!(side.position_for(100, 109), 0);
        assert_eq!(side.position_for(100, 110), 1000);
        assert_eq!(side.position_for(100, 999), 5000);
        assert_eq!(
            side.section(SectionKind::TransactionIndex),
            Some(Bytes::new())
        );
        assert_eq!(side.section(SectionKind::TimeIndex), None);
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let good = object();
        let crc = crc32c(&good);
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 0x10;
            assert!(SideObject::decode(&bad.into(), good.len() as u64, crc).is_err());
        }
        assert!(SideObject::decode(&good.slice(..good.len() - 1), good.len() as u64, crc).is_err());
    }

    #[test]
    fn a_side_object_with_a_fitting_checksum_but_foreign_content_is_refused() {
        for bytes in [
            Bytes::from_static(b"STRSIDE2\0\0\0\0"),
            Bytes::from_static(b"STRSIDE1\xff\xff\xff\xff"),
        ] {
            let decoded = SideObject::decode(&bytes, bytes.len() as u64, crc32c(&bytes));
            assert_eq!(decoded.unwrap_err(), SideError::Format);
        }
    }

    /// Invariant 9: sections of any bytes, and any damage under a checksum that fits, are an error or an answer.
    #[test]
    fn no_bytes_of_a_side_object_panic() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut below = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % limit
        };
        let ask = |bytes: &Bytes| {
            let Ok(side) = SideObject::decode(bytes, bytes.len() as u64, crc32c(bytes)) else {
                return false;
            };
            for value in [i64::MIN, -1, 0, 1, 1 << 33, i64::MAX] {
                let _ = side.position_for(0, value);
                let _ = side.offset_for_timestamp(0, value);
                let _ = side.chunk_checksum(value as u64);
            }
            side.chunk_bytes > 0
        };
        let mut read = 0;
        for _ in 0..20_000 {
            let mut bytes = |most: usize| -> Vec<u8> {
                (0..below(most))
                    .map(|_| [0, 1, 0x7f, 0x80, 0xff][below(5)])
                    .collect()
            };
            let object = SideBuilder::default()
                .section(SectionKind::OffsetIndex, bytes(30))
                .section(SectionKind::TimeIndex, bytes(40))
                .section(SectionKind::ChunkChecksums, bytes(20))
                .build();
            read += u32::from(ask(&object));
            let mut damaged = object.to_vec();
            let at = below(damaged.len());
            if below(2) == 0 {
                damaged.truncate(at);
            } else {
                damaged[at] ^= 1 << below(8);
            }
            ask(&damaged.into());
        }
        assert!(read > 100, "{read} read");
    }
}
