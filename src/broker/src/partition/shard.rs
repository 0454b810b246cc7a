//! Shards: threads that own partitions, each behind one bounded mailbox. One thread appends to a log, advances its high
//! watermark and publishes its view, without locks. [`super::owned`] has the work on one partition.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread::JoinHandle;

use strandline_types::Offset;
use strandline_wire::batch::ValidatedBatch;
use tokio::sync::{mpsc, oneshot};

use super::gathered::Gathered;
use super::handle::{Acks, AppendReply, FetchedRecords, PartitionError, ReplicaFetch};
use super::owned::OwnedPartition;

/// Messages that wait for a shard; above it connections stop being read.
const MAILBOX: usize = 1024;

/// Messages that a shard takes at once, so that their appends share writes and flushes.
const DRAIN: usize = 256;

/// Has its shard's mailbox for [`OwnedPartition::after_change`].
type Task = Box<dyn FnOnce(&mut OwnedPartition, &mpsc::WeakSender<ShardMessage>) + Send>;

/// A message to a shard.
pub enum ShardMessage {
    Add(Box<OwnedPartition>),
    Append {
        key: u64,
        batches: Vec<ValidatedBatch>,
        acks: Acks,
        reply: oneshot::Sender<AppendReply>,
    },
    Flushed {
        key: u64,
        generation: u64,
        result: Result<Offset, String>,
    },
    /// Records from the leader, for a follower.
    AppendFetched {
        key: u64,
        fetched: FetchedRecords,
        reply: oneshot::Sender<Result<(), PartitionError>>,
    },
    /// A follower asked from here on, for a leader.
    ReplicaFetched {
        key: u64,
        fetch: ReplicaFetch,
    },
    Run {
        key: u64,
        task: Task,
    },
    /// Gives the partition up; its log is dropped and its directory returned.
    Remove {
        key: u64,
        reply: oneshot::Sender<PathBuf>,
    },
    /// Ends the thread. Handles keep the mailbox open, so its closing cannot say this.
    Stop,
}

/// The shards of a process.
pub struct ShardPool {
    shards: Vec<mpsc::Sender<ShardMessage>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl ShardPool {
    pub fn start(count: usize) -> std::io::Result<Self> {
        let mut shards = Vec::new();
        let mut threads = Vec::new();
        for number in 0..count.max(1) {
            let (sender, receiver) = mpsc::channel(MAILBOX);
            let weak = sender.downgrade();
            let thread = std::thread::Builder::new()
                .name(format!("shard-{number}"))
                .spawn(move || {
                    Shard {
                        partitions: HashMap::new(),
                        itself: weak,
                    }
                    .run(receiver);
                })?;
            shards.push(sender);
            threads.push(thread);
        }
        Ok(Self {
            shards,
            threads: Mutex::new(threads),
        })
    }

    /// The shard that a partition with this key belongs to.
    pub(super) fn owner_of(&self, key: u64) -> mpsc::Sender<ShardMessage> {
        self.shards[(key % self.shards.len() as u64) as usize].clone()
    }

    /// Ends the threads after they have handled the messages in their mailboxes. Blocks.
    pub fn stop(&self) {
        for shard in &self.shards {
            let _ = shard.blocking_send(ShardMessage::Stop);
        }
        for thread in self.threads.lock().expect("no holder panics").drain(..) {
            let _ = thread.join();
        }
    }
}

struct Shard {
    partitions: HashMap<u64, OwnedPartition>,
    itself: mpsc::WeakSender<ShardMessage>,
}

impl Shard {
    fn run(mut self, mut mailbox: mpsc::Receiver<ShardMessage>) {
        let mut gathered: HashMap<u64, Gathered> = HashMap::new();
        while let Some(first) = mailbox.blocking_recv() {
            let mut next = Some(first);
            let mut taken = 0;
            while let Some(message) = next.take() {
                if matches!(message, ShardMessage::Stop) {
                    self.append_all(&mut gathered);
                    self.fail_all();
                    return;
                }
                self.handle(message, &mut gathered);
                taken += 1;
                if taken < DRAIN {
                    next = mailbox.try_recv().ok();
                }
            }
            self.append_all(&mut gathered);
        }
        self.fail_all();
    }

    fn fail_all(&mut self) {
        for owned in self.partitions.values_mut() {
            owned.fail_waiting(&PartitionError::Gone);
        }
        self.partitions.clear();
    }

    fn handle(&mut self, message: ShardMessage, gathered: &mut HashMap<u64, Gathered>) {
        match message {
            ShardMessage::Append {
                key,
                batches,
                acks,
                reply,
            } => {
                let slot = gathered.entry(key).or_default();
                slot.requests.push((batches.len(), acks, reply));
                slot.batches.extend(batches);
            }
            ShardMessage::Add(owned) => {
                self.partitions.insert(owned.handle.key(), *owned);
            }
            ShardMessage::Flushed {
                key,
                generation,
                result,
            } => {
                // Ignore the result of a flush in a directory that the partition has left.
                if let Some(owned) = self.partitions.get_mut(&key)
                    && owned.generation == generation
                {
                    owned.flushed(result, &self.itself);
                }
            }
            ShardMessage::AppendFetched {
                key,
                fetched,
                reply,
            } => {
                if let Some(owned) = self.partitions.get_mut(&key) {
                    owned.append_fetched(&fetched, reply);
                    owned.after_change(&self.itself);
                }
            }
            ShardMessage::ReplicaFetched { key, fetch } => {
                // Append first: the follower's position is compared with the log's end.
                self.append_all(gathered);
                if let Some(owned) = self.partitions.get_mut(&key) {
                    owned.replica_fetched(&fetch);
                }
            }
            ShardMessage::Run { key, task } => {
                // Appends that were sent before the task must be in the log before the task runs.
                self.append_all(gathered);
                if let Some(owned) = self.partitions.get_mut(&key) {
                    task(owned, &self.itself);
                }
            }
            ShardMessage::Stop => unreachable!("the loop has taken it"),
            ShardMessage::Remove { key, reply } => {
                self.append_all(gathered);
                if let Some(mut owned) = self.partitions.remove(&key) {
                    owned.fail_waiting(&PartitionError::Gone);
                    owned.handle.set_offline();
                    let _ = reply.send(owned.log.directory().to_path_buf());
                }
            }
        }
    }

    fn append_all(&mut self, gathered: &mut HashMap<u64, Gathered>) {
        for (key, appends) in gathered.drain() {
            // The senders of appends to a partition that is gone see their channel closed.
            if let Some(owned) = self.partitions.get_mut(&key) {
                owned.append(appends);
                owned.after_change(&self.itself);
            }
        }
    }
}
