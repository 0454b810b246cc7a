//! A request on its way to its handler, and the encoding of its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Encodable};
use strandline_wire::api::codec_version;
use strandline_wire::frame::{finish_response, start_response};
use strandline_wire::primitive::{DecodeError, Writer};
use strandline_wire::{ApiKey, StrBytes};

use super::error_codes::ErrorCodes;
use crate::answer::Answer;
use crate::context::BrokerContext;
use crate::disconnects::{Cause, Disconnect, RequestedApi};
use crate::peer::Peer;
use crate::quotas::QuotaKind;
use crate::request_meter::RequestMeter;

/// A request, with the context that its handler needs to answer.
#[derive(Clone)]
pub(crate) struct Call {
    pub context: Arc<BrokerContext>,
    pub peer: Peer,
    pub key: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: StrBytes,
    /// The meter for the request's time, if any client has a quota of time.
    pub meter: Option<Arc<RequestMeter>>,
}

impl Call {
    /// Counts the time that this request has taken against its client's quota; gives how long the client, which is not read
    /// from any more, has to wait.
    pub(super) fn spend_time(&self) -> Duration {
        let Some(meter) = &self.meter else {
            return Duration::ZERO;
        };
        let spent = meter.spent().as_nanos() as usize;
        let quotas = &self.context.quotas;
        let wait = quotas.spend(QuotaKind::Request, &self.client_id, spent);
        self.peer.mute(wait);
        wait
    }

    /// An answer that can only be the end of the connection.
    pub(super) fn close(&self, cause: Cause, reason: String) -> Answer {
        let api = RequestedApi {
            key: self.key as i16,
            version: self.version,
        };
        Answer::Close(Disconnect {
            cause,
            api: Some(api),
            reason,
        })
    }

    /// Counts the errors of an answer.
    pub(super) fn count_errors(&self, response: &impl ErrorCodes) {
        response.each_code(&mut |code| self.context.metrics.answered(self.key, code));
    }

    /// Encodes an answer by hand.
    pub(super) fn respond_with(&self, encode: impl FnOnce(&mut Writer)) -> Answer {
        let mut writer = start_response(self.key, self.version, self.correlation_id);
        encode(&mut writer);
        Answer::Frame(finish_response(writer, Vec::new()))
    }

    /// Encodes an answer made of `kafka-protocol`'s types.
    pub(super) fn respond(&self, response: &impl Encodable) -> Answer {
        let mut writer = start_response(self.key, self.version, self.correlation_id);
        let version = codec_version(self.key, self.version);
        if let Err(error) = response.encode(&mut writer.buffer, version) {
            // A field that this version cannot express was set: a defect of the handler, not of the request.
            tracing::error!(api = ?self.key, version, %error, "a response cannot be encoded");
            return self.close(Cause::Internal, "its response cannot be encoded".into());
        }
        Answer::Frame(finish_response(writer, Vec::new()))
    }

    /// Decodes a request, whose bytes were checked, into one of `kafka-protocol`'s types.
    pub(super) fn decode<T: Decodable>(&self, mut body: Bytes) -> Result<T, DecodeError> {
        let version = codec_version(self.key, self.version);
        T::decode(&mut body, version).map_err(|_| DecodeError::InvalidUtf8)
    }
}
