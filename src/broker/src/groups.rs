//! Group coordinators at run time: one task per partition of `__consumer_offsets` that this broker leads.
//!
//! A task replays its partition, then takes requests one after the other, appends the records that the pure coordinator
//! returns, and answers when they are committed. Requests that come during an append share the next one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use strandline_coordinator::{
    CoordinatorRecord, GroupConfig, GroupCoordinator, Outcome, PendingAppend, Reply, Token,
};
use strandline_metadata::config::BrokerConfig;
use strandline_types::{LeaderEpoch, Now};
use strandline_wire::ErrorCode;
use strandline_wire::batch::{
    BatchBuilder, BatchHeader, RecordToWrite, Records, ValidatedBatch, split_batches,
};
use strandline_wire::compression::Compression;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::read::read_batches;
use crate::clock::{monotonic, now, now_ms};
use crate::partition::{Acks, Interest, Partition, Watch};
use crate::stop;

/// Requests that wait for one coordinator.
const MAILBOX: usize = 1024;
/// Requests whose records may share one append.
const SHARED_APPEND: usize = 128;
const LOAD_READ_BYTES: usize = 1 << 20;

type Command = Box<dyn FnOnce(&mut GroupCoordinator, Token, Now) -> Outcome + Send>;
type Query = Box<dyn FnOnce(&GroupCoordinator) + Send>;
/// A change for which no client waits.
type Upkeep = Box<dyn FnOnce(&mut GroupCoordinator) -> Outcome + Send>;

enum Message {
    Command(Command, oneshot::Sender<Reply>),
    Query(Query),
    Upkeep(Upkeep),
}

/// A running coordinator. A new leader epoch gets a new coordinator, which reads the records that others wrote in
/// between.
struct Coordinator {
    leader_epoch: LeaderEpoch,
    sender: mpsc::Sender<Message>,
}

/// All coordinators of this broker.
pub struct Groups {
    coordinators: Mutex<HashMap<i32, Coordinator>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Kafka's choice of the partition that keeps a group: the absolute value of Java's string hash, modulo.
pub fn partition_for(group: &str, partitions: i32) -> i32 {
    let hash = group
        .encode_utf16()
        .fold(0i32, |h, c| h.wrapping_mul(31).wrapping_add(i32::from(c)));
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

pub fn group_config(broker: &BrokerConfig) -> GroupConfig {
    GroupConfig {
        min_session_timeout_ms: broker.number("group.min.session.timeout.ms") as i32,
        max_session_timeout_ms: broker.number("group.max.session.timeout.ms") as i32,
        initial_rebalance_delay_ms: broker.number("group.initial.rebalance.delay.ms"),
        max_size: broker.number("group.max.size").max(1) as usize,
        offset_metadata_max_bytes: broker.number("offset.metadata.max.bytes").max(0) as usize,
        offsets_retention_ms: broker.number("offsets.retention.minutes") * 60_000,
    }
}

impl Groups {
    pub fn new() -> Self {
        Self {
            coordinators: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Starts coordinators for partitions that have come and forgets those that are gone.
    pub fn follow(&self, partitions: &[Arc<Partition>], broker: &BrokerConfig) {
        let mut coordinators = self.coordinators.lock().expect("no holder panics");
        let here = |number: i32, epoch: LeaderEpoch| {
            partitions
                .iter()
                .any(|p| p.topic_partition.partition == number && p.leader_epoch() == epoch)
        };
        coordinators.retain(|number, c| here(*number, c.leader_epoch) && !c.sender.is_closed());
        for partition in partitions {
            coordinators
                .entry(partition.topic_partition.partition)
                .or_insert_with(|| {
                    let (sender, mailbox) = mpsc::channel(MAILBOX);
                    let task = Task {
                        coordinator: GroupCoordinator::new(group_config(broker)),
                        partition: partition.clone(),
                        waiting: HashMap::new(),
                        next_token: 0,
                        expiry_interval: Duration::from_millis(
                            broker.number("offsets.retention.check.interval.ms").max(1) as u64,
                        ),
                    };
                    let leader_epoch = partition.leader_epoch();
                    self.tasks.spawn(task.run(mailbox, self.stop.clone()));
                    Coordinator {
                        leader_epoch,
                        sender,
                    }
                });
        }
    }

    fn sender(&self, partition: i32) -> Result<mpsc::Sender<Message>, ErrorCode> {
        let coordinators = self.coordinators.lock().expect("no holder panics");
        coordinators
            .get(&partition)
            .map(|c| c.sender.clone())
            .ok_or(ErrorCode::NotCoordinator)
    }

    /// Runs a command on the coordinator of `partition` and waits for its answer, however long the group takes.
    pub async fn command(
        &self,
        partition: i32,
        command: impl FnOnce(&mut GroupCoordinator, Token, Now) -> Outcome + Send + 'static,
    ) -> Result<Reply, ErrorCode> {
        let sender = self.sender(partition)?;
        let (reply, answer) = oneshot::channel();
        let sent = sender
            .send(Message::Command(Box::new(command), reply))
            .await;
        sent.map_err(|_| ErrorCode::NotCoordinator)?;
        answer.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// Looks at the coordinator of `partition`.
    pub async fn query<T: Send + 'static>(
        &self,
        partition: i32,
        query: impl FnOnce(&GroupCoordinator) -> T + Send + 'static,
    ) -> Result<T, ErrorCode> {
        let sender = self.sender(partition)?;
        let (reply, answer) = oneshot::channel();
        let query: Query = Box::new(move |coordinator| {
            let _ = reply.send(query(coordinator));
        });
        sender
            .send(Message::Query(query))
            .await
            .map_err(|_| ErrorCode::NotCoordinator)?;
        answer.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// Removes committed positions of a deleted topic from every group.
    pub async fn forget_topic(&self, topic: &str) {
        for partition in self.partitions() {
            let Ok(sender) = self.sender(partition) else {
                continue;
            };
            let topic = topic.to_owned();
            let upkeep: Upkeep = Box::new(move |coordinator| coordinator.forget_topic(&topic));
            // A coordinator that has stopped has no groups to keep in order.
            let _ = sender.send(Message::Upkeep(upkeep)).await;
        }
    }

    /// Partitions whose coordinators run here.
    pub fn partitions(&self) -> Vec<i32> {
        self.coordinators
            .lock()
            .expect("no holder panics")
            .keys()
            .copied()
            .collect()
    }

    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.coordinators.lock().expect("no holder panics").clear();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

struct Task {
    coordinator: GroupCoordinator,
    partition: Arc<Partition>,
    waiting: HashMap<Token, oneshot::Sender<Reply>>,
    next_token: Token,
    expiry_interval: Duration,
}

impl Task {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Message>, stop: CancellationToken) {
        let ready = tokio::select! {
            () = stop.cancelled() => return,
            ready = committed_to_the_end(&self.partition) => ready,
        };
        if !ready {
            return;
        }
        let Some(loaded) = stop.run_until_cancelled(self.load()).await else {
            return;
        };
        if let Err(error) = loaded {
            tracing::error!(partition = %self.partition.topic_partition, %error, "group state cannot be loaded");
            return;
        }
        let mut expiry = tokio::time::interval(self.expiry_interval);
        expiry.tick().await;
        loop {
            let deadline = self.coordinator.next_deadline();
            let wake = deadline
                .map(|at| Instant::now() + Duration::from_millis(at.ms_since(monotonic()) as u64));
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                message = mailbox.recv() => match message {
                    None => return,
                    Some(message) => self.take(message, &mut mailbox),
                },
                () = sleep_until(wake) => self.coordinator.tick(now()),
                _ = expiry.tick() => self.coordinator.expire_offsets(now_ms()),
            };
            // A commit that waits for followers must not delay the stop; its client asks the next coordinator.
            tokio::select! {
                () = self.settle(outcome) => {}
                () = stop::after(&stop, stop::COMMITS) => return,
            }
            if self.partition.is_offline() || !self.partition.is_leader() {
                return;
            }
        }
    }

    /// Handles a message and the messages that are queued behind it. A client that sends a request after its commit was
    /// answered sees its commit; messages that are handled together here were not answered before.
    fn take(&mut self, first: Message, mailbox: &mut mpsc::Receiver<Message>) -> Outcome {
        let mut all = Outcome::default();
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(message) = next.take() {
            match message {
                Message::Query(query) => query(&self.coordinator),
                Message::Upkeep(upkeep) => {
                    all.appends.extend(upkeep(&mut self.coordinator).appends);
                }
                Message::Command(command, reply) => {
                    self.next_token += 1;
                    self.waiting.insert(self.next_token, reply);
                    let outcome = command(&mut self.coordinator, self.next_token, now());
                    all.replies.extend(outcome.replies);
                    all.appends.extend(outcome.appends);
                }
            }
            taken += 1;
            if taken < SHARED_APPEND {
                next = mailbox.try_recv().ok();
            }
        }
        all
    }

    /// Sends replies, appends records, and repeats this with the outcome of the appends.
    async fn settle(&mut self, first: Outcome) {
        let mut outcome = first;
        loop {
            for (token, reply) in outcome.replies.drain(..) {
                if let Some(waiting) = self.waiting.remove(&token) {
                    let _ = waiting.send(reply);
                }
            }
            if outcome.appends.is_empty() {
                return;
            }
            let appends = std::mem::take(&mut outcome.appends);
            outcome = self.append(appends).await;
        }
    }

    async fn append(&mut self, appends: Vec<PendingAppend>) -> Outcome {
        let result = self.write(&appends).await;
        let mut all = Outcome::default();
        for append in appends {
            let next = match result {
                Ok(()) => self.coordinator.committed(append, now()),
                Err(error) => self.coordinator.failed(append, error, now()),
            };
            all.replies.extend(next.replies);
            all.appends.extend(next.appends);
        }
        all
    }

    async fn write(&self, appends: &[PendingAppend]) -> Result<(), ErrorCode> {
        let now = now_ms();
        let mut builder = BatchBuilder::new(Compression::None);
        for record in appends.iter().flat_map(|a| &a.records) {
            let (key, value) = record.encode();
            builder.push(&RecordToWrite {
                timestamp: now,
                key: Some(key),
                value,
                headers: Vec::new(),
            });
        }
        let bytes = builder.build();
        let header = BatchHeader::decode(&bytes).expect("a built batch has a header");
        let batch = ValidatedBatch { bytes, header };
        let answer = self
            .partition
            .append(vec![batch], Acks::All)
            .await
            .map_err(|e| coordinator_error(e.code()))?;
        let reply = answer.await.map_err(|_| ErrorCode::NotCoordinator)?;
        match &reply.results[..] {
            [Ok(_)] => Ok(()),
            [Err(error), ..] => Err(coordinator_error(error.code())),
            _ => Err(ErrorCode::UnknownServerError),
        }
    }

    /// Replays the whole partition.
    async fn load(&mut self) -> Result<(), String> {
        let view = self.partition.view();
        let mut offset = view.local_log_start_offset;
        while offset < view.high_watermark {
            let slice = view
                .slice(offset, LOAD_READ_BYTES, view.high_watermark)
                .map_err(|e| e.to_string())?;
            let Some(slice) = slice else { break };
            let read = read_batches(slice).await;
            let bytes = read
                .inspect_err(|error| {
                    self.partition.report(error);
                })
                .map_err(|e| e.to_string())?;
            for found in split_batches(&bytes) {
                let (at, header) = found.map_err(|e| e.to_string())?;
                self.load_batch(header, &bytes[at..at + header.size()])?;
                offset = header.end_offset();
            }
        }
        self.coordinator.finish_load();
        Ok(())
    }

    fn load_batch(&mut self, header: BatchHeader, batch: &[u8]) -> Result<(), String> {
        let mut records = Records::new(header, batch).map_err(|e| e.to_string())?;
        while let Some(record) = records.next_record().map_err(|e| e.to_string())? {
            let Some(key) = record.key else { continue };
            match CoordinatorRecord::decode(&key, record.value.as_ref()) {
                Ok(decoded) => self.coordinator.load(decoded, now()),
                Err(error) => {
                    tracing::debug!(offset = record.offset, %error, "a record of the offsets topic is skipped");
                }
            }
        }
        Ok(())
    }
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

/// Waits until every record that a new leader found in its log is committed: a coordinator must neither answer from
/// records that may still be lost, nor miss records that will stay. Returns `false` if this broker does not lead the
/// partition any more.
async fn committed_to_the_end(partition: &Partition) -> bool {
    let end = partition.view().log_end_offset;
    let watch = Watch::new(Interest::Committed);
    partition.watch(&watch, 0);
    loop {
        if !partition.is_leader() || partition.is_offline() {
            return false;
        }
        if partition.view().high_watermark >= end {
            return true;
        }
        watch.woken().await;
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_spread_as_kafka_spreads_them() {
        // "g".hashCode() is 103; "zzzzzz".hashCode() is -685785664.
        assert_eq!(partition_for("g", 50), 3);
        assert_eq!(partition_for("", 50), 0);
        assert_eq!(partition_for("zzzzzz", 1000), 664);
    }
}
