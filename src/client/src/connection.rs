//! One connection: a request, its answer, the next request.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use strandline_wire::{ApiKey, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::ClientError;

/// Largest answer that is read.
const MAX_RESPONSE_BYTES: usize = 256 << 20;

pub struct Connection {
    stream: TcpStream,
    address: String,
    correlation_id: i32,
}

impl Connection {
    pub async fn open(address: &str) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|source| ClientError::Io {
                address: address.to_owned(),
                source,
            })?;
        let _ = stream.set_nodelay(true);
        Ok(Self {
            stream,
            address: address.to_owned(),
            correlation_id: 0,
        })
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn bad_answer(&self, reason: &str) -> ClientError {
        ClientError::Decode {
            address: self.address.clone(),
            reason: reason.to_owned(),
        }
    }

    /// Sends a request and reads its answer.
    pub async fn call<T: Decodable>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &impl Encodable,
    ) -> Result<T, ClientError> {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("strandline")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let encoded = header
            .encode(&mut frame, key.request_header_version(version))
            .and_then(|()| request.encode(&mut frame, version));
        encoded.map_err(|e| self.bad_answer(&format!("the request cannot be encoded: {e}")))?;
        let length = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        let mut body = self
            .exchange(&frame)
            .await
            .map_err(|source| ClientError::Io {
                address: self.address.clone(),
                source,
            })?;
        let header = ResponseHeader::decode(&mut body, key.response_header_version(version))
            .map_err(|e| self.bad_answer(&e.to_string()))?;
        if header.correlation_id != self.correlation_id {
            return Err(self.bad_answer("it belongs to another request"));
        }
        let response =
            T::decode(&mut body, version).map_err(|e| self.bad_answer(&e.to_string()))?;
        if body.has_remaining() {
            return Err(self.bad_answer("bytes are left over"));
        }
        Ok(response)
    }

    async fn exchange(&mut self, frame: &[u8]) -> io::Result<Bytes> {
        self.stream.write_all(frame).await?;
        let length = self.stream.read_i32().await?;
        let length = usize::try_from(length)
            .ok()
            .filter(|l| *l <= MAX_RESPONSE_BYTES);
        let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok(body.into())
    }
}
