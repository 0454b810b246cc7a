//! A connection between two members: either side sends requests, and the other side answers, many at once.
//!
//! After a preface of eight bytes that names the protocol, frames of length (u32, little endian) and a `postcard`
//! payload. A frame's announced length allocates nothing ahead of its bytes.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use strandline_types::{AdmittedLine, LogWindow};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::rpc::{Request, Response};

const PREFACE: &[u8; 8] = b"STRLINE1";
const MAX_FRAME_BYTES: usize = 64 << 20;
/// Frames that wait to be written; above it callers wait.
const QUEUE: usize = 256;
/// Requests of one peer that are answered at once.
const CONCURRENT: usize = 64;
/// Requests that wait for a decision or a commit, of those: the rest is left to votes, appends and signs of life, which
/// must never wait behind them.
const DECIDED: usize = 48;
/// Room that is made before a frame's bytes have come.
const INITIAL_READ_BYTES: usize = 64 << 10;

#[derive(Serialize, Deserialize)]
enum Frame {
    Request(u64, Request),
    Response(u64, Response),
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The request never left this process.
    NotSent,
    /// The request may have arrived.
    NoAnswer,
}

/// Links that this process ends because of what the peer sent. A few of them in each window are in the log.
pub(crate) struct RefusedLinks(Mutex<LogWindow>);

impl RefusedLinks {
    const LINES: u32 = 10;
    const WINDOW: Duration = Duration::from_secs(60);

    pub fn new() -> Self {
        Self(Mutex::new(LogWindow::new(Self::LINES, Self::WINDOW)))
    }

    fn note(&self, peer: Option<SocketAddr>, error: &io::Error) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(AdmittedLine { left_out, last }) = window.admit(Instant::now()) else {
            return;
        };
        drop(window);
        let peer = peer.map(tracing::field::display);
        let left_out = (left_out > 0).then_some(left_out);
        let quiet_seconds = last.then_some(Self::WINDOW.as_secs());
        tracing::warn!(peer, %error, left_out, quiet_seconds, "this node closes a link of the quorum");
    }
}

/// Answers the requests of a peer over a link.
pub(crate) type Handler =
    Arc<dyn Fn(&Link, Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;

/// One side of a connection. Clones share it; it ends when the peer goes away or [`Link::close`] is called.
#[derive(Clone)]
pub(crate) struct Link {
    outgoing: mpsc::Sender<Vec<u8>>,
    waiting: Arc<Mutex<HashMap<u64, oneshot::Sender<Response>>>>,
    next: Arc<AtomicU64>,
    peer: Option<SocketAddr>,
    closed: CancellationToken,
    /// Turns of requests that wait for a decision.
    decided: Arc<Semaphore>,
}

impl Link {
    /// Starts to speak on a connection; both sides send the preface.
    pub fn start(stream: TcpStream, handler: Handler, refused: Arc<RefusedLinks>) -> Self {
        let _ = stream.set_nodelay(true);
        let peer = stream.peer_addr().ok();
        let (reader, writer) = stream.into_split();
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let link = Self {
            outgoing,
            waiting: Arc::default(),
            next: Arc::default(),
            peer,
            closed: CancellationToken::new(),
            decided: Arc::new(Semaphore::new(DECIDED)),
        };
        let ends = move |result: io::Result<()>| match result {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => refused.note(peer, &error),
            Err(error) => tracing::debug!(?peer, %error, "a link of the quorum ended"),
        };
        let writing_ends = ends.clone();
        let closed = link.closed.clone();
        tokio::spawn(async move {
            writing_ends(
                closed
                    .run_until_cancelled(write(writer, queue))
                    .await
                    .unwrap_or(Ok(())),
            );
            closed.cancel();
        });
        let reading = link.clone();
        tokio::spawn(async move {
            let closed = reading.closed.clone();
            let read = reading.read(reader, handler);
            ends(closed.run_until_cancelled(read).await.unwrap_or(Ok(())));
            closed.cancel();
            // Callers that wait for an answer learn that none will come.
            reading.waiting.lock().expect("no holder panics").clear();
        });
        link
    }

    pub fn close(&self) {
        self.closed.cancel();
    }

    /// The peer's address; `None` if the connection had ended already.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Asks and waits for the answer.
    pub async fn call(&self, request: Request, limit: Duration) -> Result<Response, CallError> {
        let _turn = if request.waits_for_a_decision() {
            let turn = tokio::time::timeout(limit, self.decided.acquire()).await;
            Some(turn.ok().and_then(Result::ok).ok_or(CallError::NotSent)?)
        } else {
            None
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let frame = encode(&Frame::Request(id, request));
        let (sender, answer) = oneshot::channel();
        self.waiting
            .lock()
            .expect("no holder panics")
            .insert(id, sender);
        let sent = self
            .closed
            .run_until_cancelled(self.outgoing.send(frame))
            .await;
        let result = if matches!(sent, Some(Ok(()))) {
            match self
                .closed
                .run_until_cancelled(tokio::time::timeout(limit, answer))
                .await
            {
                Some(Ok(Ok(response))) => Ok(response),
                _ => Err(CallError::NoAnswer),
            }
        } else {
            Err(CallError::NotSent)
        };
        self.waiting.lock().expect("no holder panics").remove(&id);
        result
    }

    async fn read(&self, reader: OwnedReadHalf, handler: Handler) -> io::Result<()> {
        let mut reader = BufReader::new(reader);
        let mut preface = [0; PREFACE.len()];
        reader.read_exact(&mut preface).await?;
        if preface != *PREFACE {
            return Err(invalid("the peer does not speak the quorum's protocol"));
        }
        let turns = Arc::new(Semaphore::new(CONCURRENT));
        loop {
            match read_frame(&mut reader).await? {
                Frame::Response(id, response) => {
                    let waiting = self.waiting.lock().expect("no holder panics").remove(&id);
                    if let Some(waiting) = waiting {
                        let _ = waiting.send(response);
                    }
                }
                Frame::Request(id, request) => {
                    let turn = turns
                        .clone()
                        .acquire_owned()
                        .await
                        .map_err(io::Error::other)?;
                    let (answer, outgoing) = (handler(self, request), self.outgoing.clone());
                    let closed = self.closed.clone();
                    tokio::spawn(async move {
                        let answering = async {
                            let response = encode(&Frame::Response(id, answer.await));
                            let _ = outgoing.send(response).await;
                        };
                        closed.run_until_cancelled(answering).await;
                        drop(turn);
                    });
                }
            }
        }
    }
}

fn invalid(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

fn encode(frame: &Frame) -> Vec<u8> {
    let mut out = vec![0; 4];
    out = postcard::to_extend(frame, out).expect("frames encode to memory");
    let length = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&length.to_le_bytes());
    out
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    writer.write_all(PREFACE).await?;
    while let Some(frame) = queue.recv().await {
        writer.write_all(&frame).await?;
    }
    Ok(())
}

async fn read_frame(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let length = reader.read_u32_le().await? as usize;
    if length > MAX_FRAME_BYTES {
        return Err(invalid("a frame is too large"));
    }
    let mut bytes = Vec::with_capacity(length.min(INITIAL_READ_BYTES));
    let read = reader.take(length as u64).read_to_end(&mut bytes).await?;
    if read < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(&bytes).map_err(invalid)
}
