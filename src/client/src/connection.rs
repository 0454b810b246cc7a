//! One connection: a request, its answer, the next request.

use std::io;

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Encodable};
use strandline_wire::{ApiKey, StrBytes};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::ClientError;
use crate::framing::{decode_response, encode_request, read_frame};

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
        let id = self.correlation_id;
        let client_id = StrBytes::from_static_str("strandline");
        let frame = encode_request(key, version, id, client_id, request);
        let frame = frame.map_err(|e| self.bad_answer(&e))?;
        let body = self
            .exchange(&frame)
            .await
            .map_err(|source| ClientError::Io {
                address: self.address.clone(),
                source,
            })?;
        decode_response(key, version, id, body).map_err(|e| self.bad_answer(&e))
    }

    async fn exchange(&mut self, frame: &[u8]) -> io::Result<Bytes> {
        self.stream.write_all(frame).await?;
        read_frame(&mut self.stream).await
    }
}
