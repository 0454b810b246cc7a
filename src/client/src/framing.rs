//! A request as a frame, and a frame as a response: the same for a connection of either kind.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use strandline_wire::{ApiKey, StrBytes};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Largest answer that is read.
const MAX_RESPONSE_BYTES: usize = 256 << 20;

/// The whole frame, its length in front.
pub(crate) fn encode_request(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: StrBytes,
    request: &impl Encodable,
) -> Result<Bytes, String> {
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(client_id));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header
        .encode(&mut frame, key.request_header_version(version))
        .and_then(|()| request.encode(&mut frame, version))
        .map_err(|e| format!("the request cannot be encoded: {e}"))?;
    let length = frame.len() as i32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

/// The response in a frame without its length, which must belong to this request.
pub(crate) fn decode_response<T: Decodable>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    mut body: Bytes,
) -> Result<T, String> {
    let header = ResponseHeader::decode(&mut body, key.response_header_version(version))
        .map_err(|e| e.to_string())?;
    if header.correlation_id != correlation_id {
        return Err("it belongs to another request".into());
    }
    let response = T::decode(&mut body, version).map_err(|e| e.to_string())?;
    if body.has_remaining() {
        return Err("bytes are left over".into());
    }
    Ok(response)
}

pub(crate) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
    let length = stream.read_i32().await?;
    let length = usize::try_from(length)
        .ok()
        .filter(|l| *l <= MAX_RESPONSE_BYTES)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body.into())
}
