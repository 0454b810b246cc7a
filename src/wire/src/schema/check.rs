//! Walks a message by its shape.

use bytes::Bytes;

use super::shape::{Direction, Field, MESSAGES, Type};
use crate::primitive::{DecodeError, LengthWidth, Reader};

/// Array elements that one request may hold in all. An element of two bytes on the wire can cost `kafka-protocol`
/// some tens of bytes in memory; this bounds what a frame of legal size may cost to a few tens of megabytes.
pub const MAX_ELEMENTS: usize = 1 << 18;

/// Accepts a request body only if it begins with one message of this API and version. Bytes after the last field are
/// ignored, as Kafka ignores them: librdkafka from 2.12 on sends three of them in a Metadata request for all topics.
pub fn check_request(api_key: i16, version: i16, body: &Bytes) -> Result<(), DecodeError> {
    check(api_key, Direction::Request, version, body, MAX_ELEMENTS).map(|_| ())
}

/// Accepts a response body only if it is exactly one message of this API and version. Used by tests and by clients of
/// this crate.
pub fn check_response(api_key: i16, version: i16, body: &Bytes) -> Result<(), DecodeError> {
    check(api_key, Direction::Response, version, body, usize::MAX)?.expect_end()
}

/// Walks one message at the front of `body`; returns the reader behind its last field.
fn check(
    api_key: i16,
    direction: Direction,
    version: i16,
    body: &Bytes,
    max_elements: usize,
) -> Result<Reader, DecodeError> {
    let message = MESSAGES
        .get(&(api_key, direction))
        .ok_or(DecodeError::Unsupported)?;
    if !message.valid.contains(version) {
        return Err(DecodeError::Unsupported);
    }
    let mut walk = Walk {
        version,
        flexible: message.flexible.contains(version),
        elements_left: max_elements,
    };
    let mut reader = Reader::new(body.clone());
    walk.fields(&message.fields, &mut reader)?;
    Ok(reader)
}

struct Walk {
    version: i16,
    flexible: bool,
    elements_left: usize,
}

impl Walk {
    fn fields(&mut self, fields: &[Field], reader: &mut Reader) -> Result<(), DecodeError> {
        for field in fields {
            if field.versions.contains(self.version) && self.tag_of(field).is_none() {
                let nullable = field.nullable.contains(self.version);
                self.value(&field.type_, nullable, reader)?;
            }
        }
        if !self.flexible {
            return Ok(());
        }
        reader.tagged_fields(|tag, mut value| {
            let known = fields
                .iter()
                .find(|f| f.versions.contains(self.version) && self.tag_of(f) == Some(tag));
            if let Some(field) = known {
                let nullable = field.nullable.contains(self.version);
                self.value(&field.type_, nullable, &mut value)?;
                value.expect_end()?;
            }
            Ok(())
        })
    }

    fn tag_of(&self, field: &Field) -> Option<u32> {
        field
            .tagged
            .filter(|(versions, _)| versions.contains(self.version))
            .map(|(_, tag)| tag)
    }

    fn value(
        &mut self,
        type_: &Type,
        nullable: bool,
        reader: &mut Reader,
    ) -> Result<(), DecodeError> {
        let width = match type_ {
            Type::Fixed(bytes) => {
                return if *bytes > reader.remaining() {
                    Err(DecodeError::Truncated)
                } else {
                    reader.skip(*bytes)
                };
            }
            Type::Struct(fields) => {
                // A nullable struct says whether it is there in a byte of its own.
                if nullable && reader.i8()? < 0 {
                    return Ok(());
                }
                return self.fields(fields, reader);
            }
            Type::String => LengthWidth::string(self.flexible),
            Type::Bytes | Type::Array(_) => LengthWidth::array(self.flexible),
        };
        let Some(length) = reader.nullable_length(width)? else {
            return if nullable {
                Ok(())
            } else {
                Err(DecodeError::UnexpectedNull)
            };
        };
        let Type::Array(element) = type_ else {
            return reader.skip(length);
        };
        self.elements_left = self
            .elements_left
            .checked_sub(length)
            .ok_or(DecodeError::TooManyElements)?;
        for _ in 0..length {
            self.value(element, false, reader)?;
        }
        Ok(())
    }
}
