//! The size prefix of a frame and the request header behind it.

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use crate::primitive::{DecodeError, Reader, Writer};

/// A request's header and its still undecoded body.
#[derive(Clone, Debug)]
pub struct RequestFrame {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    /// `None` where the client sent null.
    pub client_id: Option<Bytes>,
    pub body: Bytes,
}

/// Decodes the size prefix of a frame.
///
/// `Err` means that the connection must be closed: the size is negative, smaller than the shortest request header or
/// larger than `max_bytes` (`socket.request.max.bytes`).
pub fn frame_length(prefix: [u8; 4], max_bytes: usize) -> Result<usize, DecodeError> {
    const SHORTEST_HEADER: usize = 8;
    let length = usize::try_from(i32::from_be_bytes(prefix)).map_err(|_| DecodeError::Truncated)?;
    if length < SHORTEST_HEADER {
        return Err(DecodeError::Truncated);
    }
    if length > max_bytes {
        return Err(DecodeError::CountTooLarge);
    }
    Ok(length)
}

impl RequestFrame {
    /// Splits a frame (without its size prefix) into header and body.
    ///
    /// The header's version depends on API and version. Where those are unknown, the header is read as version 1 and
    /// the caller decides by `api_key` and `api_version` what to answer.
    pub fn decode(frame: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame);
        let api_key = reader.i16()?;
        let api_version = reader.i16()?;
        let correlation_id = reader.i32()?;
        let header_version =
            ApiKey::try_from(api_key).map_or(1, |key| key.request_header_version(api_version));
        let client_id = if header_version >= 1 {
            reader.nullable_string(false)?
        } else {
            None
        };
        if header_version >= 2 {
            reader.skip_tagged_fields()?;
        }
        Ok(Self {
            api_key,
            api_version,
            correlation_id,
            client_id,
            body: reader.rest(),
        })
    }

    pub fn client_id_str(&self) -> &str {
        self.client_id
            .as_deref()
            .map_or("", |b| std::str::from_utf8(b).unwrap_or(""))
    }
}

/// Starts a response: room for the size prefix, then the header of the right version.
///
/// Call [`finish_response`] with the length of everything behind the prefix.
pub fn start_response(api_key: ApiKey, api_version: i16, correlation_id: i32) -> Writer {
    let mut writer = Writer::with_capacity(256);
    writer.i32(0);
    writer.i32(correlation_id);
    if api_key.response_header_version(api_version) >= 1 {
        writer.buffer.extend_from_slice(&[0]);
    }
    writer
}

/// A response as the pieces that make it up, size prefix included; records are pieces of their own and never copied.
#[derive(Clone, Debug, Default)]
pub struct ResponseFrame {
    pub parts: Vec<Bytes>,
}

/// Fills in the size prefix in the first part.
pub fn finish_response(mut head: Writer, mut rest: Vec<Bytes>) -> ResponseFrame {
    let length = head.buffer.len() - 4 + rest.iter().map(Bytes::len).sum::<usize>();
    head.buffer[..4].copy_from_slice(&(length as i32).to_be_bytes());
    rest.insert(0, head.split());
    ResponseFrame { parts: rest }
}

impl ResponseFrame {
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_cannot_be_a_frame_are_refused_before_anything_is_allocated() {
        let check = |n: i32| frame_length(n.to_be_bytes(), 1000);
        assert_eq!(check(0), Err(DecodeError::Truncated));
        assert_eq!(check(-1), Err(DecodeError::Truncated));
        assert_eq!(check(7), Err(DecodeError::Truncated));
        assert_eq!(check(1001), Err(DecodeError::CountTooLarge));
        assert_eq!(check(i32::MAX), Err(DecodeError::CountTooLarge));
        assert_eq!(check(1000), Ok(1000));
    }

    #[test]
    fn a_header_cut_anywhere_is_an_error_and_never_a_panic() {
        let whole = [0u8, 3, 0, 12, 0, 0, 0, 7, 0, 2, b'm', b'e', 0, 1, 2];
        for cut in 0..13 {
            assert!(
                RequestFrame::decode(Bytes::copy_from_slice(&whole[..cut])).is_err(),
                "{cut}"
            );
        }
        let frame = RequestFrame::decode(Bytes::copy_from_slice(&whole)).unwrap();
        assert_eq!(
            (frame.api_key, frame.correlation_id, frame.client_id_str()),
            (3, 7, "me")
        );
        assert_eq!(&frame.body[..], &[1, 2]);
    }
}
