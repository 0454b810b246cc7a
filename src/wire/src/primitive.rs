//! Kafka's primitive types over a `Bytes`: every read is checked against what remains, and slices share the frame.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use uuid::Uuid;

/// A defect in bytes that claim to be a Kafka message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("the message ends before its fields do")]
    Truncated,
    #[error("a length or count is larger than what remains")]
    CountTooLarge,
    #[error("a varint is longer than its type")]
    OverlongVarint,
    #[error("null where the field may not be null")]
    UnexpectedNull,
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    #[error("bytes are left over after the last field")]
    TrailingBytes,
    #[error("more elements than a request of this kind may hold")]
    TooManyElements,
    #[error("tagged fields are out of order or repeated")]
    TagOrder,
    #[error("the API or its version is not supported")]
    Unsupported,
}

/// Reads primitives from the front of a buffer.
#[derive(Clone, Debug)]
pub struct Reader {
    buffer: Bytes,
    position: usize,
}

macro_rules! read_int {
    ($name:ident, $type:ty) => {
        pub fn $name(&mut self) -> Result<$type, DecodeError> {
            const WIDTH: usize = size_of::<$type>();
            let bytes = self.peek(WIDTH)?;
            let value = <$type>::from_be_bytes(bytes.try_into().expect("the width was checked"));
            self.position += WIDTH;
            Ok(value)
        }
    };
}

impl Reader {
    pub fn new(buffer: Bytes) -> Self {
        Self {
            buffer,
            position: 0,
        }
    }

    pub fn remaining(&self) -> usize {
        self.buffer.len() - self.position
    }

    pub fn position(&self) -> usize {
        self.position
    }

    /// The bytes that have not been read yet.
    pub fn rest(&self) -> Bytes {
        self.buffer.slice(self.position..)
    }

    fn peek(&self, length: usize) -> Result<&[u8], DecodeError> {
        self.buffer[self.position..]
            .get(..length)
            .ok_or(DecodeError::Truncated)
    }

    pub fn skip(&mut self, length: usize) -> Result<(), DecodeError> {
        if length > self.remaining() {
            return Err(DecodeError::CountTooLarge);
        }
        self.position += length;
        Ok(())
    }

    /// A slice that shares the buffer.
    pub fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        let start = self.position;
        self.skip(length)?;
        Ok(self.buffer.slice(start..start + length))
    }

    read_int!(i8, i8);
    read_int!(i16, i16);
    read_int!(u16, u16);
    read_int!(i32, i32);
    read_int!(u32, u32);
    read_int!(i64, i64);

    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        let bytes: [u8; 16] = self.peek(16)?.try_into().expect("the width was checked");
        self.position += 16;
        Ok(Uuid::from_bytes(bytes))
    }

    /// An unsigned varint of at most five bytes, in no more bytes than the value's 32 bits need.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.i8()? as u8;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && byte > 0x0f {
                return Err(DecodeError::OverlongVarint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::OverlongVarint)
    }

    /// Length of a string, byte field or array that may be null: `None` is null.
    pub fn nullable_length(&mut self, width: LengthWidth) -> Result<Option<usize>, DecodeError> {
        let length = match width {
            LengthWidth::Compact => match self.unsigned_varint()? {
                0 => return Ok(None),
                n => (n - 1) as usize,
            },
            LengthWidth::Int16 => match self.i16()? {
                n if n < 0 => return Ok(None),
                n => n as usize,
            },
            LengthWidth::Int32 => match self.i32()? {
                n if n < 0 => return Ok(None),
                n => n as usize,
            },
        };
        // Every element takes at least one byte, so this bounds arrays as well.
        if length > self.remaining() {
            return Err(DecodeError::CountTooLarge);
        }
        Ok(Some(length))
    }

    pub fn length(&mut self, width: LengthWidth) -> Result<usize, DecodeError> {
        self.nullable_length(width)?
            .ok_or(DecodeError::UnexpectedNull)
    }

    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        let Some(length) = self.nullable_length(LengthWidth::string(flexible))? else {
            return Ok(None);
        };
        let bytes = self.take(length)?;
        std::str::from_utf8(&bytes).map_err(|_| DecodeError::InvalidUtf8)?;
        Ok(Some(bytes))
    }

    pub fn string(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        self.nullable_string(flexible)?
            .ok_or(DecodeError::UnexpectedNull)
    }

    pub fn array_length(&mut self, flexible: bool) -> Result<usize, DecodeError> {
        self.length(LengthWidth::array(flexible))
    }

    /// Reads a tagged-field section, handing each field to `visit`; unknown tags may be ignored there.
    pub fn tagged_fields(
        &mut self,
        mut visit: impl FnMut(u32, Reader) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()? as usize;
        if count > self.remaining() {
            return Err(DecodeError::CountTooLarge);
        }
        let mut previous = None;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            if previous.is_some_and(|p| p >= tag) {
                return Err(DecodeError::TagOrder);
            }
            previous = Some(tag);
            let size = self.unsigned_varint()? as usize;
            visit(tag, Reader::new(self.take(size)?))?;
        }
        Ok(())
    }

    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(()))
    }

    pub fn expect_end(&self) -> Result<(), DecodeError> {
        if self.remaining() == 0 {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes)
        }
    }
}

/// How a length stands on the wire.
#[derive(Clone, Copy, Debug)]
pub enum LengthWidth {
    /// Unsigned varint of the length plus one; 0 is null (KIP-482).
    Compact,
    Int16,
    Int32,
}

impl LengthWidth {
    pub fn string(flexible: bool) -> Self {
        if flexible { Self::Compact } else { Self::Int16 }
    }

    pub fn array(flexible: bool) -> Self {
        if flexible { Self::Compact } else { Self::Int32 }
    }
}

/// Writes primitives at the end of a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    pub buffer: BytesMut,
}

impl Writer {
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            buffer: BytesMut::with_capacity(capacity),
        }
    }

    pub fn i8(&mut self, value: i8) {
        self.buffer.put_i8(value);
    }
    pub fn i16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }
    pub fn i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }
    pub fn i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }
    pub fn uuid(&mut self, value: Uuid) {
        self.buffer.put_slice(value.as_bytes());
    }

    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    /// Length of an array; the elements follow.
    pub fn array_length(&mut self, length: usize, flexible: bool) {
        if flexible {
            self.unsigned_varint(length as u32 + 1);
        } else {
            self.i32(length as i32);
        }
    }

    pub fn string(&mut self, value: &[u8], flexible: bool) {
        self.nullable_string(Some(value), flexible);
    }

    pub fn nullable_string(&mut self, value: Option<&[u8]>, flexible: bool) {
        match (value, flexible) {
            (None, true) => self.unsigned_varint(0),
            (None, false) => self.i16(-1),
            (Some(v), true) => self.unsigned_varint(v.len() as u32 + 1),
            (Some(v), false) => self.i16(v.len() as i16),
        }
        self.buffer.put_slice(value.unwrap_or_default());
    }

    pub fn empty_tagged_fields(&mut self, flexible: bool) {
        if flexible {
            self.buffer.put_u8(0);
        }
    }

    /// Takes the bytes that were written so far.
    pub fn split(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }
}
