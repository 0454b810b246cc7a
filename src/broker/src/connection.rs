//! One client connection: frames in, answers out, in order.
//!
//! A reader task takes frames off the socket and begins each request; a writer task awaits the answers in that order and
//! writes them. Beginning a Produce hands its batches to their partitions, so pipelined produces share flushes; every
//! other request runs only when its turn to be answered comes. The queue between the two is short: a client that does
//! not read its answers is not read from either.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use futures::future::BoxFuture;
use strandline_wire::frame::{RequestFrame, ResponseFrame, frame_length};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::api;
use crate::server::BrokerContext;

/// Requests of one connection whose answers are outstanding.
const PIPELINE: usize = 16;
/// Room that is made before a frame's bytes have come; a frame's announced size alone allocates no more.
const INITIAL_READ_BYTES: usize = 64 << 10;
/// A frame that has begun must arrive at this rate on average, after [`FRAME_GRACE`].
const MIN_FRAME_BYTES_PER_SECOND: u64 = 16 << 10;
/// Bytes that one write hands to the socket before other connections of the thread get their turn.
const WRITE_BYTES: usize = 256 << 10;
const FRAME_GRACE: Duration = Duration::from_secs(10);

/// What a request leads to.
#[derive(Debug)]
pub enum Answer {
    Frame(ResponseFrame),
    /// Megabytes from the cold tier: the threads of that tier write them.
    ColdFrame(ResponseFrame),
    /// The protocol sends none (`acks=0`).
    Nothing,
    /// The connection ends: an `acks=0` produce failed, and its client can hear of it in no other way.
    Close,
}

/// The answer to come.
pub type PendingResponse = BoxFuture<'static, Answer>;

/// What handlers know of the peer.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Kafka's form: a slash and the address.
    pub host: Arc<str>,
    /// The listener that the client came in by.
    pub listener: Arc<str>,
    muted_until: Arc<Mutex<Option<Instant>>>,
}

impl Peer {
    /// Nothing more is begun for the client for so long: it has used more than its quota allows (KIP-219).
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
    let (reader, writer) = stream.into_split();
    let (queue, answers) = mpsc::channel::<PendingResponse>(PIPELINE);
    let closed = stop.child_token();
    let writing = write_answers(&context, writer, answers, closed.clone());
    let reading = async {
        let reading = read_requests(&context, &peer, reader, queue);
        let result = tokio::select! {
            result = reading => result,
            () = closed.cancelled() => Ok(()),
        };
        if let Err(error) = result {
            tracing::debug!(peer = %peer.host, %error, "connection closed");
        }
    };
    // The writer outlives the reader by the answers that are under way.
    tokio::join!(reading, writing);
}

async fn read_requests(
    context: &Arc<BrokerContext>,
    peer: &Peer,
    mut reader: OwnedReadHalf,
    queue: mpsc::Sender<PendingResponse>,
) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    let idle = context.connections_max_idle();
    loop {
        let Some(frame) =
            read_frame(&mut reader, &mut buffer, context.max_request_bytes(), idle).await?
        else {
            return Ok(());
        };
        // Looked at here, since what mutes may be the answer to a request that was read long ago.
        peer.wait_while_muted().await;
        let request = RequestFrame::decode(frame).map_err(invalid)?;
        let pending = api::begin(context, peer, request).await.map_err(invalid)?;
        if queue.send(pending).await.is_err() {
            return Ok(());
        }
    }
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

/// The next frame without its size prefix; `None` when the client has closed or been idle for too long.
async fn read_frame(
    reader: &mut OwnedReadHalf,
    buffer: &mut BytesMut,
    max_bytes: usize,
    idle: Duration,
) -> io::Result<Option<Bytes>> {
    while buffer.len() < 4 {
        buffer.reserve(INITIAL_READ_BYTES);
        let read = tokio::time::timeout(idle, reader.read_buf(buffer)).await;
        match read {
            Err(_) => return Ok(None),
            Ok(Ok(0)) if buffer.is_empty() => return Ok(None),
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
    }
    let prefix = buffer[..4].try_into().expect("four bytes are there");
    let length = frame_length(prefix, max_bytes).map_err(invalid)?;
    buffer.advance(4);
    if buffer.len() < length {
        let allowed = FRAME_GRACE + Duration::from_secs(length as u64 / MIN_FRAME_BYTES_PER_SECOND);
        let body = tokio::time::timeout(allowed, read_body(reader, buffer, length)).await;
        body.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the frame came too slowly"))??;
    }
    Ok(Some(buffer.split_to(length).freeze()))
}

/// Reads until `buffer` holds `length` bytes. Room grows with what has come, so an announced length is not believed.
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
    closed: CancellationToken,
) {
    while let Some(pending) = answers.recv().await {
        let written = match pending.await {
            Answer::Nothing => continue,
            Answer::Close => Err(io::Error::other("a produce without an answer failed")),
            Answer::Frame(frame) => write_frame(&mut writer, frame).await,
            Answer::ColdFrame(frame) => {
                let tier = context
                    .tier
                    .as_ref()
                    .expect("cold records come from a tier");
                let writing = async move {
                    let written = write_frame(&mut writer, frame).await;
                    (writer, written)
                };
                let ended = tier.threads.handle().spawn(writing).await;
                let Ok((back, written)) = ended else {
                    return closed.cancel();
                };
                writer = back;
                written
            }
        };
        if let Err(error) = written {
            tracing::debug!(%error, "connection ended");
            closed.cancel();
            return;
        }
    }
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
