//! One client connection: frames in, answers out, in order.
//!
//! A reader task takes frames off the socket and begins each request; a writer task awaits the answers in that order and
//! writes them. Beginning a Produce hands its batches to their partitions, so pipelined produces share flushes; every
//! other request runs only when its turn to be answered comes. The queue between the two is short: a client that does
//! not read its answers is not read from either. When the broker stops, nothing more is read; what has begun is answered,
//! if the client takes the answer in time.

mod end;
mod reading;
mod writing;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use strandline_wire::frame::RequestFrame;
use strandline_wire::primitive::DecodeError;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::answer::PendingResponse;
use crate::api;
use crate::context::BrokerContext;
use crate::disconnects::{Cause, RequestedApi};
use crate::memory::Allowance;
use crate::peer::Peer;
use crate::stop;
use end::{End, close};
use reading::FrameReader;
use writing::write_answers;

/// Requests of one connection whose answers are outstanding.
const PIPELINE: usize = 16;

/// Serves a connection until either side ends it.
pub async fn serve(
    context: Arc<BrokerContext>,
    stream: TcpStream,
    address: SocketAddr,
    listener: Arc<str>,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let peer = Peer::new(format!("/{}", address.ip()).into(), listener);
    let (mut reader, writer) = stream.into_split();
    let (queue, answers) = mpsc::channel::<PendingResponse>(PIPELINE);
    let closed = stop.child_token();
    let note = |end: End| match end {
        End::ByClient(error) => {
            tracing::debug!(peer = %address, %error, "a client closed its connection");
        }
        End::ByBroker(disconnect) => {
            (context.disconnects).note(address, &peer.listener, &disconnect);
        }
    };
    let writing = async {
        let written = tokio::select! {
            written = write_answers(&context, writer, answers) => written,
            () = stop::after(&stop, stop::ANSWERS) => Ok(()),
        };
        if let Err(end) = written {
            note(end);
            closed.cancel();
        }
    };
    let reading = async {
        let reading = read_requests(&context, &peer, &mut reader, queue);
        let result = tokio::select! {
            result = reading => result,
            () = closed.cancelled() => Ok(()),
        };
        if let Err(end) = result {
            note(end);
        }
    };
    // The writer outlives the reader by the answers that are under way.
    tokio::join!(reading, writing);
    drop_unread(&reader);
}

/// Reads and drops requests that will not be answered: a connection that is closed with unread bytes ends with a reset,
/// which would overtake the last answers.
fn drop_unread(reader: &OwnedReadHalf) {
    const MOST_READS: usize = 64;
    let mut unread = [0; 16 << 10];
    for _ in 0..MOST_READS {
        if !matches!(reader.try_read(&mut unread), Ok(read) if read > 0) {
            return;
        }
    }
}

async fn read_requests(
    context: &Arc<BrokerContext>,
    peer: &Peer,
    reader: &mut OwnedReadHalf,
    queue: mpsc::Sender<PendingResponse>,
) -> Result<(), End> {
    let mut frames = FrameReader {
        socket: reader,
        memory: &context.memory.requests,
        allowance: Allowance::default(),
        buffer: BytesMut::new(),
    };
    let idle = context.connections_max_idle();
    loop {
        let Some(frame) = frames.next(context.max_request_bytes(), idle).await? else {
            return Ok(());
        };
        // Checked here, because the answer to an earlier request may have muted the client.
        peer.wait_while_muted().await;
        let api = requested_api(&frame);
        let request = RequestFrame::decode(frame).map_err(|error| match api {
            // A header of a version that is not known here may look like anything.
            Some(api) if !is_supported(api) => {
                close(Cause::Unsupported, Some(api), DecodeError::Unsupported)
            }
            api => close(
                Cause::Malformed,
                api,
                format!("the request header: {error}"),
            ),
        })?;
        let begun = api::begin(context, peer, request).await;
        let pending = begun.map_err(|error| match error {
            DecodeError::Unsupported => close(Cause::Unsupported, api, error),
            _ => close(Cause::Malformed, api, error),
        })?;
        if queue.send(pending).await.is_err() {
            return Ok(());
        }
    }
}

fn is_supported(api: RequestedApi) -> bool {
    let found = strandline_wire::api::supported(api.key);
    found.is_some_and(|found| (found.min..=found.max).contains(&api.version))
}

/// Reads the API and the version from the first four bytes of a frame.
fn requested_api(frame: &Bytes) -> Option<RequestedApi> {
    let (key, rest) = frame.split_first_chunk()?;
    let (version, _) = rest.split_first_chunk()?;
    Some(RequestedApi {
        key: i16::from_be_bytes(*key),
        version: i16::from_be_bytes(*version),
    })
}
