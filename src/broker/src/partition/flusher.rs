//! One thread per log directory that makes appends durable: appends that gather during a flush share the next one
//! (group commit).

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use strandline_log::{Segment, flush_segments};
use strandline_types::Offset;
use tokio::sync::mpsc;

use super::health::Health;
use super::shard::ShardMessage;
use crate::latencies::Latencies;

/// A request to make these segments durable and to report the result to the owner.
pub struct FlushRequest {
    pub key: u64,
    /// The generation of the directory that the partition was in at the time of the request.
    pub generation: u64,
    pub segments: Vec<Arc<Segment>>,
    /// The log is durable up to this offset when the flush has succeeded.
    pub offset: Offset,
    pub owner: mpsc::WeakSender<ShardMessage>,
}

/// A log directory's flusher.
pub struct Flusher {
    /// `None` after [`Flusher::stop`].
    requests: Mutex<Option<mpsc::UnboundedSender<FlushRequest>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Flusher {
    /// Of the log directory at `index`.
    pub fn start(
        directory: PathBuf,
        index: usize,
        health: Arc<Health>,
        times: Arc<Latencies>,
    ) -> std::io::Result<Self> {
        let (requests, receiver) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name("flusher".into())
            .spawn(move || run(&directory, index, receiver, &health, &times))?;
        Ok(Self {
            requests: Mutex::new(Some(requests)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Each partition has at most one request here, so the queue is bounded by the number of partitions.
    pub(super) fn sender(&self) -> Option<mpsc::UnboundedSender<FlushRequest>> {
        self.requests.lock().expect("no holder panics").clone()
    }

    /// Ends the thread, once the partitions that could ask for a flush are gone. Blocks.
    pub fn stop(&self) {
        drop(self.requests.lock().expect("no holder panics").take());
        if let Some(thread) = self.thread.lock().expect("no holder panics").take() {
            let _ = thread.join();
        }
    }
}

fn run(
    directory: &std::path::Path,
    index: usize,
    mut requests: mpsc::UnboundedReceiver<FlushRequest>,
    health: &Health,
    times: &Latencies,
) {
    let mut batch = Vec::new();
    while let Some(first) = requests.blocking_recv() {
        batch.push(first);
        while let Ok(more) = requests.try_recv() {
            batch.push(more);
        }
        let mut segments: Vec<Arc<Segment>> = batch
            .iter()
            .flat_map(|r| r.segments.iter().cloned())
            .collect();
        segments.sort_by(|a, b| a.log_path.cmp(&b.log_path));
        segments.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let result = if health.is_failed(index) {
            Err("the log directory has failed".to_owned())
        } else {
            let began = Instant::now();
            let flushed = flush_segments(directory, &segments);
            times.record(began.elapsed());
            flushed.map_err(|error| {
                health.flush_failed(index, &error);
                error.to_string()
            })
        };
        for request in batch.drain(..) {
            if let Some(owner) = request.owner.upgrade() {
                let result = result
                    .as_ref()
                    .map(|()| request.offset)
                    .map_err(Clone::clone);
                let _ = owner.blocking_send(ShardMessage::Flushed {
                    key: request.key,
                    generation: request.generation,
                    result,
                });
            }
        }
    }
}
