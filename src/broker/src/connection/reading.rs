//! Frames off a socket. A connection that waits for a request has no buffer; a frame that has begun is read when there is
//! memory for all of it (`memory::RequestMemory`), and its bytes count there until the last slice of them is dropped.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use strandline_wire::frame::frame_length;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::Instant;

use super::end::{End, close};
use crate::disconnects::Cause;
use crate::memory::{Allowance, READ_BYTES, RequestMemory};

/// A frame that has begun must arrive at this rate on average, after [`FRAME_GRACE`].
const MIN_FRAME_BYTES_PER_SECOND: u64 = 16 << 10;
const FRAME_GRACE: Duration = Duration::from_secs(10);
/// How often a large frame's rate is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The first piece of a large frame's buffer: an announced size alone allocates no more. A batch of ordinary size fits,
/// and is neither moved while it arrives nor read in small pieces.
const FIRST_PIECE_BYTES: usize = 1 << 20;

/// Reads a connection's frames.
pub(super) struct FrameReader<'a> {
    pub socket: &'a mut OwnedReadHalf,
    pub memory: &'a RequestMemory,
    pub allowance: Allowance,
    /// Bytes behind the last frame.
    pub buffer: BytesMut,
}

impl FrameReader<'_> {
    /// The next frame without its size prefix; `None` when the client has closed.
    pub async fn next(&mut self, max_bytes: usize, idle: Duration) -> Result<Option<Bytes>, End> {
        let prefixed = tokio::time::timeout(idle, self.prefix()).await;
        let prefix = prefixed.map_err(|_| {
            let reason = format!("no request for {idle:?} (connections.max.idle.ms)");
            close(Cause::Idle, None, reason)
        })??;
        let Some(prefix) = prefix else {
            return Ok(None);
        };
        let length = frame_length(prefix, max_bytes).map_err(|_| {
            let announced = i32::from_be_bytes(prefix);
            let reason = format!(
                "a frame cannot have {announced} bytes (socket.request.max.bytes = {max_bytes})"
            );
            close(Cause::FrameSize, None, reason)
        })?;
        let taking = self.memory.take(&self.allowance, length);
        let held = tokio::time::timeout(idle, taking).await.map_err(|_| {
            let reason = format!(
                "no memory for a request of {length} bytes for {idle:?} (queued.max.request.bytes)"
            );
            close(Cause::NoMemory, None, reason)
        })?;
        let frame = if length <= READ_BYTES {
            self.small(length).await?
        } else {
            self.large(length).await?
        };
        Ok(Some(held.until_dropped(frame)))
    }

    /// Reads until the size of a frame is there, and takes it out of the buffer; `None` at the end of the stream.
    async fn prefix(&mut self) -> io::Result<Option<[u8; 4]>> {
        loop {
            if let Some(prefix) = self.buffer.first_chunk() {
                let prefix = *prefix;
                self.buffer.advance(prefix.len());
                return Ok(Some(prefix));
            }
            if self.buffer.is_empty() {
                // The buffer of the last request is given back before the client is waited for.
                self.buffer = BytesMut::new();
                self.socket.readable().await?;
            }
            self.buffer.reserve(READ_BYTES);
            let read = match self.socket.try_read_buf(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.readable().await?;
                    continue;
                }
                read => read?,
            };
            match read {
                0 if self.buffer.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }

    /// A frame that shares the buffer with its neighbours.
    async fn small(&mut self, length: usize) -> Result<Bytes, End> {
        if self.buffer.len() < length {
            let missing = length - self.buffer.len();
            self.buffer.reserve(missing);
            let body = read_to(self.socket, &mut self.buffer, length);
            in_time(length, body).await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    /// A frame with a buffer of its own, which grows with the bytes that arrive.
    async fn large(&mut self, length: usize) -> Result<Bytes, End> {
        let mut body = BytesMut::with_capacity(length.min(FIRST_PIECE_BYTES));
        let here = self.buffer.len().min(length);
        body.extend_from_slice(&self.buffer.split_to(here));
        self.buffer = BytesMut::from(&self.buffer[..]);
        let began = Instant::now();
        let memory = self.memory;
        let reading = async {
            loop {
                let piece = read_to(self.socket, &mut body, length);
                if let Ok(done) = tokio::time::timeout(LOOK, piece).await {
                    return done.map_err(End::from);
                }
                let ms = began.elapsed().saturating_sub(FRAME_GRACE).as_millis() as u64;
                if memory.is_too_slow(length, body.len(), ms) {
                    let arrived = body.len();
                    let reason = format!(
                        "{arrived} of a frame's {length} bytes came within {:?}, and others wait for its memory \
                         (queued.max.request.bytes)",
                        began.elapsed()
                    );
                    return Err(close(Cause::SlowFrame, None, reason));
                }
            }
        };
        let read = in_time(length, async { Ok(reading.await) }).await?;
        read?;
        Ok(body.freeze())
    }
}

/// Gives a frame of `length` bytes the time that it may take.
async fn in_time<T>(length: usize, body: impl Future<Output = io::Result<T>>) -> Result<T, End> {
    let allowed = FRAME_GRACE + Duration::from_secs(length as u64 / MIN_FRAME_BYTES_PER_SECOND);
    let read = tokio::time::timeout(allowed, body).await;
    let read = read.map_err(|_| {
        let reason = format!("of a frame of {length} bytes, not all came within {allowed:?}");
        close(Cause::SlowFrame, None, reason)
    })?;
    Ok(read?)
}

/// Reads until `buffer` holds `length` bytes, and not a byte more where it holds none of the next frame. A caller that
/// stops waiting loses no byte.
async fn read_to(
    socket: &mut OwnedReadHalf,
    buffer: &mut BytesMut,
    length: usize,
) -> io::Result<()> {
    while buffer.len() < length {
        let missing = length - buffer.len();
        if buffer.capacity() == buffer.len() {
            buffer.reserve(missing.min(buffer.len().max(FIRST_PIECE_BYTES)));
        }
        let mut piece = socket.take(missing as u64);
        if piece.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
