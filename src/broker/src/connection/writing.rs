//! Answers onto a socket, in the order of their requests.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use strandline_wire::frame::ResponseFrame;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::end::{End, close};
use crate::answer::{Answer, PendingResponse};
use crate::context::BrokerContext;
use crate::disconnects::Cause;

/// Bytes that one write hands to the socket before other connections of the thread get their turn.
const WRITE_BYTES: usize = 256 << 10;
/// How often a write that makes no progress is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// A client that takes nothing of its answer for so long is closed while others wait for the memory of answers.
const CONTENDED: Duration = Duration::from_secs(10);

pub(super) async fn write_answers(
    context: &Arc<BrokerContext>,
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
            write_frame(context, &mut writer, frame).await?;
            continue;
        };
        let context = context.clone();
        let writing = async move {
            let written = write_frame(&context, &mut writer, frame).await;
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
async fn write_frame(
    context: &BrokerContext,
    writer: &mut OwnedWriteHalf,
    frame: ResponseFrame,
) -> Result<(), End> {
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
        let mut written = write_some(context, writer, &slices).await?;
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

/// Writes a part of an answer. A client that takes nothing is closed after `connections.max.idle.ms`, and after
/// [`CONTENDED`] if others wait for the memory that its answer holds.
async fn write_some(
    context: &BrokerContext,
    writer: &mut OwnedWriteHalf,
    slices: &[IoSlice<'_>],
) -> Result<usize, End> {
    let mut stalled = Duration::ZERO;
    loop {
        match tokio::time::timeout(LOOK, writer.write_vectored(slices)).await {
            Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Ok(written) => return Ok(written?),
            Err(_) => stalled += LOOK,
        }
        let contended = context.memory.answers.records.is_contended();
        if has_stalled(stalled, contended, context.connections_max_idle()) {
            let reason = format!("the client has not taken a byte of its answer for {stalled:?}");
            return Err(close(Cause::SlowReader, None, reason));
        }
    }
}

fn has_stalled(stalled: Duration, contended: bool, max_idle: Duration) -> bool {
    stalled >= max_idle || contended && stalled >= CONTENDED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_takes_nothing_is_closed_sooner_when_others_wait() {
        let idle = Duration::from_secs(600);
        let cases = [
            (5, false, false),
            (5, true, false),
            (10, true, true),
            (599, false, false),
            (600, false, true),
        ];
        for (seconds, contended, wanted) in cases {
            let stalled = Duration::from_secs(seconds);
            assert_eq!(has_stalled(stalled, contended, idle), wanted, "{seconds} s");
        }
    }
}
