//! Shards: threads that own partitions. One thread appends to a log, advances its high watermark and publishes its view;
//! nothing of it is behind a lock.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use strandline_log::{AppendInfo, PartitionLog};
use strandline_replication::LeaderState;
use strandline_types::{BrokerId, Offset, TimestampMs};
use strandline_wire::ErrorCode;
use strandline_wire::batch::ValidatedBatch;
use tokio::sync::{mpsc, oneshot};

use super::flusher::FlushRequest;
use super::handle::{Acks, AppendReply, Partition, PartitionError};
use crate::clock::now_ms;

/// Messages that wait for a shard; above it connections stop being read.
const MAILBOX: usize = 1024;
/// Messages that a shard takes at once, so that their appends share writes and flushes.
const DRAIN: usize = 256;

/// What a shard is asked to do.
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
        result: Result<Offset, String>,
    },
    Run {
        key: u64,
        task: Box<dyn FnOnce(&mut OwnedPartition) + Send>,
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
    pub fn start(count: usize) -> Self {
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
                })
                .expect("a thread can be started");
            shards.push(sender);
            threads.push(thread);
        }
        Self {
            shards,
            threads: Mutex::new(threads),
        }
    }

    /// The shard that a partition with this key belongs to.
    pub(super) fn owner_of(&self, key: u64) -> mpsc::Sender<ShardMessage> {
        self.shards[(key % self.shards.len() as u64) as usize].clone()
    }

    /// Ends the threads after what is in their mailboxes. Blocks.
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

/// A partition in the hands of its owner.
pub struct OwnedPartition {
    pub log: PartitionLog,
    pub handle: Arc<Partition>,
    node_id: BrokerId,
    leader: LeaderState,
    flusher: mpsc::UnboundedSender<FlushRequest>,
    /// A flush is under way; the next one is asked for when it ends.
    flushing: bool,
    last_flush_ms: TimestampMs,
    /// `acks=all` appends that wait for the high watermark, in order of their end offsets.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    end_offset: Offset,
    answer: AppendReply,
    reply: oneshot::Sender<AppendReply>,
}

/// Appends of one drain that go to the same partition.
#[derive(Default)]
struct Gathered {
    batches: Vec<ValidatedBatch>,
    /// How many of the batches belong to each request.
    requests: Vec<(usize, Acks, oneshot::Sender<AppendReply>)>,
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
                self.partitions.insert(owned.handle.key, *owned);
            }
            ShardMessage::Flushed { key, result } => {
                if let Some(owned) = self.partitions.get_mut(&key) {
                    owned.flushed(result, &self.itself);
                }
            }
            ShardMessage::Run { key, task } => {
                // What was sent before the task must be in the log before it runs.
                self.append_all(gathered);
                if let Some(owned) = self.partitions.get_mut(&key) {
                    task(owned);
                    owned.after_change(&self.itself);
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

impl OwnedPartition {
    pub(super) fn new(
        log: PartitionLog,
        handle: Arc<Partition>,
        node_id: BrokerId,
        flusher: mpsc::UnboundedSender<FlushRequest>,
    ) -> Self {
        let leader = LeaderState::new([node_id], 1, log.high_watermark());
        Self {
            log,
            handle,
            node_id,
            leader,
            flusher,
            flushing: false,
            last_flush_ms: now_ms(),
            waiting: VecDeque::new(),
        }
    }

    fn append(&mut self, appends: Gathered) {
        let epoch = self.handle.leader_epoch();
        let mut results = self
            .log
            .append(&appends.batches, epoch, now_ms())
            .into_iter();
        let log_start_offset = self.log.log_start_offset();
        for (count, acks, reply) in appends.requests {
            let results: Vec<_> = results
                .by_ref()
                .take(count)
                .map(|r| r.map_err(PartitionError::from))
                .collect();
            let end_offset = results
                .iter()
                .flatten()
                .map(|info: &AppendInfo| info.end_offset)
                .max();
            let answer = AppendReply {
                results,
                log_start_offset,
            };
            match end_offset {
                Some(end_offset) if acks == Acks::All && end_offset > self.log.high_watermark() => {
                    self.waiting.push_back(Waiting {
                        end_offset,
                        answer,
                        reply,
                    });
                }
                _ => {
                    let _ = reply.send(answer);
                }
            }
        }
    }

    /// After anything that may have moved an offset: ask for a flush, advance the high watermark, answer, publish.
    fn after_change(&mut self, itself: &mpsc::WeakSender<ShardMessage>) {
        self.request_flush(itself);
        self.advance();
    }

    fn request_flush(&mut self, itself: &mpsc::WeakSender<ShardMessage>) {
        let unflushed = self.log.log_end_offset() - self.log.flushed_offset();
        let overdue = unflushed > 0
            && now_ms().saturating_sub(self.last_flush_ms) >= self.log.config.flush_ms;
        if self.flushing
            || !(unflushed >= self.log.config.flush_messages && unflushed > 0 || overdue)
        {
            return;
        }
        let (segments, offset) = self.log.to_flush();
        self.flushing = true;
        let request = FlushRequest {
            key: self.handle.key,
            segments,
            offset,
            owner: itself.clone(),
        };
        let _ = self.flusher.send(request);
    }

    fn flushed(&mut self, result: Result<Offset, String>, itself: &mpsc::WeakSender<ShardMessage>) {
        self.flushing = false;
        match result {
            Ok(offset) => {
                self.log.mark_flushed(offset);
                self.last_flush_ms = now_ms();
                self.after_change(itself);
            }
            Err(message) => {
                self.handle.set_offline();
                let error = PartitionError::Refused {
                    code: ErrorCode::KafkaStorageError,
                    message,
                };
                self.fail_waiting(&error);
            }
        }
    }

    fn advance(&mut self) {
        // A replica vouches for what it has flushed where the topic flushes before it acknowledges.
        let vouched = if self.log.config.flushes_every_append() {
            self.log.flushed_offset()
        } else {
            self.log.log_end_offset()
        };
        let high_watermark = self.leader.replica_reached(self.node_id, vouched);
        self.log.advance_high_watermark(high_watermark);
        // Readers must see a batch before its producer hears of it.
        self.handle.publish(self.log.view());
        while self
            .waiting
            .front()
            .is_some_and(|w| w.end_offset <= high_watermark)
        {
            let done = self
                .waiting
                .pop_front()
                .expect("the front was just looked at");
            let _ = done.reply.send(done.answer);
        }
    }

    fn fail_waiting(&mut self, error: &PartitionError) {
        for waiting in self.waiting.drain(..) {
            let results = waiting
                .answer
                .results
                .iter()
                .map(|_| Err(error.clone()))
                .collect();
            let _ = waiting.reply.send(AppendReply {
                results,
                ..waiting.answer
            });
        }
    }
}
