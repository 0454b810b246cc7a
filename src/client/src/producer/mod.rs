//! A producer: records are gathered into batches by partition, several requests are under way to each broker, and with
//! `acks=all` every record is written once and in order (KIP-98).
//!
//! One task sends (`sender.rs`) what the accumulator, which does no I/O, has ready. A batch gets its sequence when it is
//! sent first (`numbering.rs`) and keeps it. A batch that has to be sent again travels alone (`queue.rs`).

mod accumulator;
mod batch;
mod leaders;
mod numbering;
mod options;
mod queue;
mod sender;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use strandline_wire::batch::RecordToWrite;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use self::accumulator::Accumulator;
use self::batch::Finished;
use crate::cluster::Cluster;
use crate::error::ClientError;

pub use self::batch::Delivery;
pub use self::options::{Acks, ProducerOptions};

/// Overhead of a record in a batch, beside its key and value.
const RECORD_OVERHEAD: usize = 32;

type OnDelivery = Box<dyn Fn(Delivery) + Send + Sync>;

struct Shared {
    cluster: Arc<Cluster>,
    options: ProducerOptions,
    accumulator: Mutex<Accumulator>,
    buffer: Semaphore,
    /// There is something to do for the sender.
    work: Notify,
    /// A batch was delivered or has failed.
    settled: Notify,
    on_delivery: OnDelivery,
}

/// The handle of a producer. Records that are not flushed are lost when the handle is dropped.
pub struct Producer {
    shared: Arc<Shared>,
    sender: JoinHandle<()>,
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

impl Producer {
    /// `on_delivery` is called once for every record; it must not block.
    pub fn new(
        cluster: Arc<Cluster>,
        options: ProducerOptions,
        on_delivery: impl Fn(Delivery) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            cluster,
            buffer: Semaphore::new(options.buffer_bytes.clamp(1, 1 << 40)),
            accumulator: Mutex::new(Accumulator::new(options.clone())),
            options,
            work: Notify::new(),
            settled: Notify::new(),
            on_delivery: Box::new(on_delivery),
        });
        let sender = tokio::spawn(sender::send_all(shared.clone()));
        Self { shared, sender }
    }

    /// Takes a record into a batch, of the partition of its key where none is named. Waits for room and for metadata, at
    /// most `max.block.ms`. `token` comes back with the delivery.
    pub async fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: &RecordToWrite,
        token: u64,
    ) -> Result<(), ClientError> {
        let shared = &self.shared;
        let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        let bytes = RECORD_OVERHEAD + length(&record.key) + length(&record.value);
        let permits = bytes.min(shared.options.buffer_bytes) as u32;
        shared.make_room(topic, permits).await?;
        if !shared.lock().knows(topic)
            && let Err(error) = shared.learn(topic).await
        {
            shared.buffer.add_permits(permits as usize);
            return Err(error);
        }
        let now = Instant::now();
        let mut accumulator = shared.lock();
        match accumulator.take(topic, partition, record, token, permits as usize, now) {
            Ok(begins) => {
                if begins {
                    shared.work.notify_one();
                }
                Ok(())
            }
            Err(error) => {
                shared.buffer.add_permits(permits as usize);
                Err(error)
            }
        }
    }

    /// Waits until every accepted record is delivered or has failed.
    pub async fn flush(&self) {
        self.shared.lock().flushing += 1;
        self.shared.work.notify_one();
        loop {
            let settled = self.shared.settled.notified();
            if self.shared.lock().is_settled() {
                break;
            }
            settled.await;
        }
        self.shared.lock().flushing -= 1;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Accumulator> {
        self.accumulator.lock().expect("no holder panics")
    }

    /// Takes room in the buffer, at most `max.block.ms` from now.
    async fn make_room(&self, topic: &str, permits: u32) -> Result<(), ClientError> {
        if let Ok(room) = self.buffer.try_acquire_many(permits) {
            room.forget();
            return Ok(());
        }
        let limit = self.options.max_block;
        let late = |_| ClientError::TimedOut {
            address: topic.to_owned(),
            api: "allocating memory".into(),
            waited: limit,
        };
        let room = tokio::time::timeout(limit, self.buffer.acquire_many(permits)).await;
        room.map_err(late)?
            .expect("the buffer is never closed")
            .forget();
        Ok(())
    }

    /// Reports the deliveries of finished batches; only then do the batches count as settled.
    fn deliver(&self, finished: Vec<Finished>) {
        if finished.is_empty() {
            return;
        }
        let count = finished.len();
        self.buffer
            .add_permits(finished.iter().map(|f| f.bytes).sum());
        for batch in finished {
            (self.on_delivery)(batch.delivery);
        }
        self.lock().reported(count);
        self.settled.notify_waiters();
    }
}
