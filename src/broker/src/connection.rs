//! One client connection: frames in, answers out, in order.
//!
//! A reader task takes frames off the socket and begins each request; a writer task awaits the answers in that order and
//! writes them. Beginning a Produce hands its batches to their partitions, so pipelined produces share flushes; every
//! other request runs only when its turn to be answered comes. The queue between the two is short: a client that does
//! not read its answers is not read from either. When the broker stops, nothing more is read; what has begun is answered,
//! if the client takes the answer in time.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use strandline_wire::frame::{RequestFrame, ResponseFrame, frame_length};
use strandline_wire::primitive::DecodeError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::api;
use crate::disconnects::{Cause, Disconnect, RequestedApi};
use crate::server::BrokerContext;
use crate::stop;

/// Requests of one connection whose answers are outstanding.
const PIPELINE: usize = 16;
/// Room that is made before a frame's bytes have come; a frame's announced size alone allocates no more.
const INITIAL_READ_BYTES: usize = 64 << 10;
/// A frame that has begun must arrive at this rate on average, after [`FRAME_GRACE`].
const MIN_FRAME_BYTES_PER_SECOND: u64 = 16 << 10;
/// Bytes that one write hands to the socket before other connections of the thread get their turn.
const WRITE_BYTES: usize = 256 << 10;
const FRAME_GRACE: Duration = Duration::from_secs(10);

/// The outcome of a request, for the writer of the connection.
#[derive(Debug)]
pub enum Answer {
    Frame(ResponseFrame),
    /// Megabytes from the cold tier: the threads of that tier write them.
    ColdFrame(ResponseFrame),
    /// The protocol sends none (`acks=0`).
    Nothing,
    /// No answer can be given to the client, so its connection is closed.
    Close(Disconnect),
}

/// How a connection's requests ended.
enum End {
    /// The client closed it, or it broke.
    ByClient(io::Error),
    /// The broker closes it.
    ByBroker(Disconnect),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::ByClient(error)
    }
}

fn close(cause: Cause, api: Option<RequestedApi>, reason: impl ToString) -> End {
    End::ByBroker(Disconnect {
        cause,
        api,
        reason: reason.to_string(),
    })
}

/// The answer to come.
pub type PendingResponse = BoxFuture<'static, Answer>;

/// The facts about a peer that handlers use.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Kafka's form: a slash and the address.
    pub host: Arc<str>,
    /// The listener that the client came in by.
    pub listener: Arc<str>,
    muted_until: Arc<Mutex<Option<Instant>>>,
}

impl Peer {
    /// Begins no request of the client for this long: it has exceeded its quota (KIP-219).
    pub fn mute(&self, wait: Duration) {
        if !wait.is_zero() {
            let mut until = self.muted_until.lock().expect("no holder panics");
            *until = (*until).max(Some(Instant::now() + wait));
        }
    }

    async fn wait_while_muted(&self) {
        let muted = self.muted_until.lock().expect("no holder panics").take();
        if let Some(until) = muted {
            tokio::time::sleep_until(until.into()).await;
        }
    }
}

/// Serves a connection until either side ends it.
pub async fn serve(
    context: Arc<BrokerContext>,
    stream: TcpStream,
    address: SocketAddr,
    listener: Arc<str>,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let peer = Peer {
        host: format!("/{}", address.ip()).into(),
        listener,
        muted_until: Arc::default(),
    };
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
    let mut buffer = BytesMut::new();
    let idle = context.connections_max_idle();
    loop {
        let Some(frame) =
            read_frame(reader, &mut buffer, context.max_request_bytes(), idle).await?
        else {
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

/// The next frame without its size prefix; `None` when the client has closed.
async fn read_frame(
    reader: &mut OwnedReadHalf,
    buffer: &mut BytesMut,
    max_bytes: usize,
    idle: Duration,
) -> Result<Option<Bytes>, End> {
    let prefix = loop {
        if let Some(prefix) = buffer.first_chunk() {
            break *prefix;
        }
        buffer.reserve(INITIAL_READ_BYTES);
        let read = tokio::time::timeout(idle, reader.read_buf(buffer)).await;
        match read {
            Err(_) => {
                let reason = format!("no request for {idle:?} (connections.max.idle.ms)");
                return Err(close(Cause::Idle, None, reason));
            }
            Ok(Ok(0)) if buffer.is_empty() => return Ok(None),
            Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error.into()),
        }
    };
    let length = frame_length(prefix, max_bytes).map_err(|_| {
        let announced = i32::from_be_bytes(prefix);
        let reason = format!(
            "a frame cannot have {announced} bytes (socket.request.max.bytes = {max_bytes})"
        );
        close(Cause::FrameSize, None, reason)
    })?;
    buffer.advance(4);
    if buffer.len() < length {
        let allowed = FRAME_GRACE + Duration::from_secs(length as u64 / MIN_FRAME_BYTES_PER_SECOND);
        let body = tokio::time::timeout(allowed, read_body(reader, buffer, length)).await;
        body.map_err(|_| {
            let reason = format!("of a frame of {length} bytes, not all came within {allowed:?}");
            close(Cause::SlowFrame, None, reason)
        })??;
    }
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Reads until `buffer` holds `length` bytes. The buffer grows with the bytes that arrive, so an announced length alone
/// allocates nothing.
async fn read_body(
    reader: &mut OwnedReadHalf,
    buffer: &mut BytesMut,
    length: usize,
) -> io::Result<()> {
    while buffer.len() < length {
        let missing = length - buffer.len();
        if buffer.capacity() == buffer.len() {
            buffer.reserve(missing.min(buffer.len().max(INITIAL_READ_BYTES)));
        }
        if reader.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

async fn write_answers(
    context: &BrokerContext,
    mut writer: OwnedWriteHalf,
    mut answers: mpsc::Receiver<PendingResponse>,
) -> Result<(), End> {
    while let Some(pending) = answers.recv().await {
        let (frame, tier) = match pending.await {
            Answer::Nothing => continue,
            Answer::Close(disconnect) => return Err(End::ByBroker(disconnect)),
            Answer::Frame(frame) => (frame, None),
            Answer::ColdFrame(frame) => (frame, context.tier.as_ref()),
        };
        let Some(tier) = tier else {
            write_frame(&mut writer, frame).await?;
            continue;
        };
        let writing = async move {
            let written = write_frame(&mut writer, frame).await;
            (writer, written)
        };
        // When the connection drops the handle, the write ends.
        let ended = AbortOnDropHandle::new(tier.threads.handle().spawn(writing)).await;
        let (back, written) = ended.map_err(|e| close(Cause::Internal, None, e))?;
        writer = back;
        written?;
    }
    Ok(())
}

/// Writes all parts with vectored writes, in turns of [`WRITE_BYTES`].
async fn write_frame(writer: &mut OwnedWriteHalf, frame: ResponseFrame) -> io::Result<()> {
    const MAX_BUFFERS: usize = 64;
    let mut parts = VecDeque::from(frame.parts);
    loop {
        while parts.front().is_some_and(Bytes::is_empty) {
            parts.pop_front();
        }
        if parts.is_empty() {
            return Ok(());
        }
        let mut room = WRITE_BYTES;
        let slices: Vec<IoSlice<'_>> = parts
            .iter()
            .take(MAX_BUFFERS)
            .map_while(|part| {
                let taken = part.len().min(room);
                room -= taken;
                (taken > 0).then(|| IoSlice::new(&part[..taken]))
            })
            .collect();
        let mut written = writer.write_vectored(&slices).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(part) = parts.front_mut() {
            let taken = written.min(part.len());
            part.advance(taken);
            written -= taken;
            if !part.is_empty() || written == 0 {
                break;
            }
            parts.pop_front();
        }
        if room == 0 {
            tokio::task::yield_now().await;
        }
    }
}
