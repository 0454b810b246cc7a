//! The records of a batch, read one by one from a stream so that compressed batches need no buffer of their own.

use std::io::{self, Read};

use bytes::Bytes;
use thiserror::Error;

use super::header::{BATCH_HEADER_BYTES, BatchHeader, TimestampType};
use crate::compression::{Compression, CompressionError};

#[derive(Debug, Error)]
pub enum RecordError {
    #[error(transparent)]
    Compression(#[from] CompressionError),
    #[error("the records end too early or are damaged: {0}")]
    Io(#[from] io::Error),
    #[error("record {index} has an impossible length or count")]
    Length { index: i32 },
    #[error("bytes follow the last record")]
    TrailingBytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// One record with its absolute offset and timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<RecordHeader>,
}

/// The parts of a record that validation looks at.
#[derive(Clone, Copy, Debug)]
pub struct RecordOutline {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub has_key: bool,
}

/// Reads the records of one batch in order.
pub struct Records<'a> {
    reader: CountingReader<'a>,
    header: BatchHeader,
    next: i32,
    /// No length inside the batch may exceed this.
    plausible_bytes: u64,
}

impl<'a> Records<'a> {
    /// `batch` is one whole batch; its header must already have been decoded from the same bytes.
    pub fn new(header: BatchHeader, batch: &'a [u8]) -> Result<Self, RecordError> {
        let compression = Compression::from_attributes(header.attributes)?;
        let payload = batch.get(BATCH_HEADER_BYTES..).unwrap_or_default();
        let plausible_bytes = match compression {
            Compression::None => payload.len() as u64,
            _ => crate::compression::MAX_DECOMPRESSED_BYTES,
        };
        Ok(Self {
            reader: CountingReader::new(compression.reader(payload)?),
            header,
            next: 0,
            plausible_bytes,
        })
    }

    /// Reads past one record without keeping its key, value or headers.
    pub fn next_outline(&mut self) -> Result<Option<RecordOutline>, RecordError> {
        if self.next >= self.header.record_count {
            return Ok(None);
        }
        let (end, timestamp_delta, offset_delta) = self.start_record()?;
        let key_length = read_varint(&mut self.reader)?;
        if key_length > 0 {
            self.skip(key_length as u64, end)?;
        }
        let value_length = read_varint(&mut self.reader)?;
        if value_length > 0 {
            self.skip(value_length as u64, end)?;
        }
        let headers = read_varint(&mut self.reader)?;
        if headers < 0 {
            return Err(self.bad_length());
        }
        for _ in 0..headers {
            let key = read_varint(&mut self.reader)?;
            if key < 0 {
                return Err(self.bad_length());
            }
            self.skip(key as u64, end)?;
            let value = read_varint(&mut self.reader)?;
            if value > 0 {
                self.skip(value as u64, end)?;
            }
        }
        self.end_record(end)?;
        Ok(Some(RecordOutline {
            timestamp_delta,
            offset_delta,
            has_key: key_length >= 0,
        }))
    }

    /// Reads one record whole.
    pub fn next_record(&mut self) -> Result<Option<Record>, RecordError> {
        if self.next >= self.header.record_count {
            return Ok(None);
        }
        let (end, timestamp_delta, offset_delta) = self.start_record()?;
        let key = self.nullable_bytes(end)?;
        let value = self.nullable_bytes(end)?;
        let count = read_varint(&mut self.reader)?;
        if count < 0 {
            return Err(self.bad_length());
        }
        let mut headers = Vec::new();
        for _ in 0..count {
            let key = self.nullable_bytes(end)?.ok_or_else(|| self.bad_length())?;
            headers.push(RecordHeader {
                key,
                value: self.nullable_bytes(end)?,
            });
        }
        self.end_record(end)?;
        let timestamp = match self.header.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(timestamp_delta),
        };
        let offset = self
            .header
            .base_offset
            .saturating_add(i64::from(offset_delta));
        Ok(Some(Record {
            offset,
            timestamp,
            key,
            value,
            headers,
        }))
    }

    /// After the last record: nothing may follow.
    pub fn expect_end(&mut self) -> Result<(), RecordError> {
        match self.reader.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(RecordError::TrailingBytes),
        }
    }

    fn bad_length(&self) -> RecordError {
        RecordError::Length { index: self.next }
    }

    /// Reads the fixed front of a record; returns where the record ends in the stream.
    fn start_record(&mut self) -> Result<(u64, i64, i32), RecordError> {
        let length = read_varint(&mut self.reader)?;
        if length < 0 || length as u64 > self.plausible_bytes {
            return Err(self.bad_length());
        }
        let end = self.reader.position + length as u64;
        let mut attributes = [0];
        self.reader.read_exact(&mut attributes)?;
        let timestamp_delta = read_varlong(&mut self.reader)?;
        let offset_delta = read_varint(&mut self.reader)?;
        Ok((end, timestamp_delta, offset_delta))
    }

    fn end_record(&mut self, end: u64) -> Result<(), RecordError> {
        if self.reader.position != end {
            return Err(self.bad_length());
        }
        self.next += 1;
        Ok(())
    }

    fn skip(&mut self, length: u64, end: u64) -> Result<(), RecordError> {
        if self.reader.position + length > end {
            return Err(self.bad_length());
        }
        self.reader.skip(length)?;
        Ok(())
    }

    fn nullable_bytes(&mut self, end: u64) -> Result<Option<Bytes>, RecordError> {
        let length = read_varint(&mut self.reader)?;
        if length < 0 {
            return Ok(None);
        }
        if self.reader.position + length as u64 > end {
            return Err(self.bad_length());
        }
        // The buffer grows with the bytes that arrive, so that a false length cannot reserve memory.
        let mut bytes = Vec::with_capacity((length as usize).min(64 << 10));
        let read = (&mut self.reader)
            .take(length as u64)
            .read_to_end(&mut bytes)?;
        if read < length as usize {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(Some(bytes.into()))
    }
}

/// A small read buffer that knows how many bytes were consumed.
struct CountingReader<'a> {
    inner: Box<dyn Read + 'a>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    position: u64,
}

impl<'a> CountingReader<'a> {
    fn new(inner: Box<dyn Read + 'a>) -> Self {
        Self {
            inner,
            buffer: vec![0; 16 << 10].into(),
            start: 0,
            end: 0,
            position: 0,
        }
    }

    fn fill(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = self.inner.read(&mut self.buffer)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        self.position += n as u64;
    }

    fn skip(&mut self, mut length: u64) -> io::Result<()> {
        while length > 0 {
            let available = self.fill()?.len();
            if available == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step = length.min(available as u64);
            self.consume(step as usize);
            length -= step;
        }
        Ok(())
    }
}

impl Read for CountingReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let available = self.fill()?;
        let n = available.len().min(out.len());
        out[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// A zig-zag varint of at most five bytes.
pub fn read_varint(reader: &mut impl Read) -> io::Result<i32> {
    let raw = read_unsigned(reader, 5)?;
    let raw = u32::try_from(raw).map_err(|_| io::Error::other("a varint exceeds 32 bits"))?;
    Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
}

/// A zig-zag varint of at most ten bytes.
pub fn read_varlong(reader: &mut impl Read) -> io::Result<i64> {
    let raw = read_unsigned(reader, 10)?;
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

fn read_unsigned(reader: &mut impl Read, max_bytes: u32) -> io::Result<u64> {
    let mut value = 0u64;
    for i in 0..max_bytes {
        let mut byte = [0];
        reader.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << (7 * i);
        if byte[0] & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(io::Error::other("a varint is too long"))
}
