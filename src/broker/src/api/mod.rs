//! Kafka's APIs. [`begin`] checks a request's bytes, finds its row in the table of APIs
//! (`table.rs`) and hands it to the handler that is named there.

mod acls;
mod by_timestamp;
mod call;
mod cluster;
mod codec_threads;
mod configs;
mod deletion;
mod error_codes;
mod fetch;
mod groups;
mod internal_topics;
mod list_offsets;
mod log_dirs;
mod look_up;
mod metadata;
mod moves;
mod operations;
mod produce;
mod quorum;
mod quotas;
mod records;
mod table;
mod topics;
mod transactions;
mod validation;

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use strandline_wire::ApiKey;
use strandline_wire::frame::RequestFrame;
use strandline_wire::primitive::DecodeError;
use strandline_wire::schema::check_request;
use strandline_wire::text;

use self::call::Call;
use self::table::Handler;
use crate::answer::PendingResponse;
use crate::context::BrokerContext;
use crate::peer::Peer;
use crate::refusal_codes::{refusal_code, submit_error};

/// Begins a request: checks it and returns the future of its answer. Appends, which must happen in order of arrival,
/// are done when this function returns. `Err` closes the connection.
pub(crate) async fn begin(
    context: &Arc<BrokerContext>,
    peer: &Peer,
    frame: RequestFrame,
) -> Result<PendingResponse, DecodeError> {
    let started = Instant::now();
    let found = table::find(frame.api_key).ok_or(DecodeError::Unsupported)?;
    let (api, handler) = (found.served, found.handler);
    let mut call = Call {
        context: context.clone(),
        peer: peer.clone(),
        key: api.key,
        version: frame.api_version,
        correlation_id: frame.correlation_id,
        client_id: text(frame.client_id_str()),
        meter: context.quotas.times_requests().then(Arc::default),
    };
    if !(api.min..=api.max).contains(&frame.api_version) {
        if api.key == ApiKey::ApiVersions {
            // A client newer than this broker learns the supported versions, in the layout that every client
            // understands.
            call.version = 0;
            let response = cluster::unsupported_api_versions();
            return Ok(async move { call.respond(&response) }.boxed());
        }
        return Err(DecodeError::Unsupported);
    }
    let (key, metrics) = (api.key, context.metrics.clone());
    let meter = call.meter.clone();
    let beginning = async {
        match handler {
            Handler::Produce => produce::begin(call, frame.body).await,
            Handler::Fetch => fetch::begin(call, frame.body),
            Handler::Message(begin) => {
                check_request(frame.api_key, frame.api_version, &frame.body)?;
                begin(call, frame.body)
            }
        }
    };
    let pending = match meter {
        None => beginning.await?,
        Some(meter) => {
            let pending = meter.count(beginning).await?;
            async move { meter.count(pending).await }.boxed()
        }
    };
    Ok(pending
        .inspect(move |_| metrics.request_done(key, started.elapsed()))
        .boxed())
}
