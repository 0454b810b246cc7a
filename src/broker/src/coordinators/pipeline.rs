//! The appends of one coordinator that are under way, in the order of the log.
//!
//! Records wait while [`IN_FLIGHT`] batches are under way, and share the next batch. Neither a full mailbox of the
//! partition's shard nor a slow commit holds up the coordinator, which waits for the pipeline together with everything else.

use std::collections::VecDeque;

use futures::future::BoxFuture;
use strandline_wire::ErrorCode;
use strandline_wire::batch::{BatchBuilder, BatchHeader, RecordToWrite, ValidatedBatch};
use strandline_wire::compression::Compression;
use tokio::sync::oneshot;

use super::machine::Machine;
use crate::clock::now_ms;
use crate::partition::{AppendReply, PartitionError};

/// Batches of one coordinator that wait for their commit.
const IN_FLIGHT: usize = 16;
/// Appends that may share a batch.
const SHARED: usize = 128;
/// Appends that may wait; above that the coordinator takes no more requests.
const WAITING: usize = 1024;

type Committing = oneshot::Receiver<AppendReply>;
type Sending = BoxFuture<'static, Result<Committing, PartitionError>>;

/// Appends a batch to the coordinator's partition; the result comes when the batch is committed.
pub(super) type Append = Box<dyn Fn(ValidatedBatch) -> Sending + Send>;

/// Appends, and whether the log has them.
pub(super) type Settled<M> = (Vec<<M as Machine>::Append>, Result<(), ErrorCode>);

pub(super) struct Pipeline<M: Machine> {
    append: Append,
    waiting: VecDeque<M::Append>,
    /// The batch that is being handed to the partition's owner.
    sending: Option<(Vec<M::Append>, Sending)>,
    committing: VecDeque<(Vec<M::Append>, Committing)>,
}

impl<M: Machine> Pipeline<M> {
    pub fn new(append: Append) -> Self {
        Self {
            append,
            waiting: VecDeque::new(),
            sending: None,
            committing: VecDeque::new(),
        }
    }

    pub fn push(&mut self, appends: Vec<M::Append>) {
        self.waiting.extend(appends);
        self.begin();
    }

    /// Whether so many appends wait that no more requests should be taken.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING
    }

    /// Whether no append is under way.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.sending.is_none() && self.committing.is_empty()
    }

    fn begin(&mut self) {
        if self.sending.is_some() || self.waiting.is_empty() || self.committing.len() >= IN_FLIGHT {
            return;
        }
        let taken = self.waiting.len().min(SHARED);
        let appends: Vec<M::Append> = self.waiting.drain(..taken).collect();
        let sending: Sending = match build::<M>(&appends) {
            Some(batch) => (self.append)(batch),
            None => Box::pin(async { Err(PartitionError::Gone) }),
        };
        self.sending = Some((appends, sending));
    }

    /// The next appends whose fate is known, in their order; waits for ever while there are none. A caller that stops
    /// waiting loses nothing.
    pub async fn settled(&mut self) -> Settled<M> {
        loop {
            tokio::select! {
                sent = sent(&mut self.sending) => {
                    let Some((appends, _)) = self.sending.take() else { continue };
                    match sent {
                        Ok(reply) => self.committing.push_back((appends, reply)),
                        Err(error) if self.committing.is_empty() => {
                            self.begin();
                            return (appends, Err(coordinator_error(error.code())));
                        }
                        Err(error) => {
                            // Told behind those that were sent before.
                            let (tell, reply) = oneshot::channel();
                            let _ = tell.send(AppendReply { results: vec![Err(error)], log_start_offset: -1 });
                            self.committing.push_back((appends, reply));
                        }
                    }
                    self.begin();
                }
                result = first(&mut self.committing) => {
                    let Some((appends, _)) = self.committing.pop_front() else { continue };
                    self.begin();
                    return (appends, result);
                }
            }
        }
    }
}

async fn sent<A>(sending: &mut Option<(A, Sending)>) -> Result<Committing, PartitionError> {
    match sending {
        Some((_, future)) => future.await,
        None => std::future::pending().await,
    }
}

async fn first<A>(committing: &mut VecDeque<(A, Committing)>) -> Result<(), ErrorCode> {
    let Some((_, reply)) = committing.front_mut() else {
        return std::future::pending().await;
    };
    let reply = reply.await.map_err(|_| ErrorCode::NotCoordinator)?;
    match &reply.results[..] {
        [Ok(_)] => Ok(()),
        [Err(error), ..] => Err(coordinator_error(error.code())),
        _ => Err(ErrorCode::UnknownServerError),
    }
}

fn build<M: Machine>(appends: &[M::Append]) -> Option<ValidatedBatch> {
    let timestamp = now_ms();
    let mut builder = BatchBuilder::new(Compression::None);
    for (key, value) in appends.iter().flat_map(M::records) {
        builder.push(&RecordToWrite {
            timestamp,
            key: Some(key),
            value,
            headers: Vec::new(),
        });
    }
    let bytes = builder.build();
    let header = BatchHeader::decode(&bytes).ok()?;
    Some(ValidatedBatch { bytes, header })
}

/// The error that a client of the coordinator receives when the coordinator's own append fails.
fn coordinator_error(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        other => other,
    }
}
