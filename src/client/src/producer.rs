//! A producer: records are gathered into batches by partition, several requests are under way to each broker, and with
//! `acks=all` every record is written once and in order (KIP-98).
//!
//! One task sends. A batch gets its sequence when it is sent first and keeps it: one that has to be sent again goes to the
//! front of its partition's queue and travels alone until it is through, so nothing overtakes it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use kafka_protocol::messages as m;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use strandline_wire::batch::{BatchBuilder, RecordToWrite};
use strandline_wire::compression::Compression;
use strandline_wire::{ErrorCode, StrBytes};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::cluster::Cluster;
use crate::error::{ClientError, check};
use crate::partitioner::partition_of_key;

/// Overhead of a record in a batch, beside its key and value.
const RECORD_OVERHEAD: usize = 32;
/// Newest version that names topics, not ids.
const PRODUCE_VERSION: i16 = 12;

/// `acks`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    None,
    Leader,
    All,
}

#[derive(Clone, Debug)]
pub struct ProducerOptions {
    pub acks: Acks,
    pub compression: Compression,
    /// `linger.ms`
    pub linger: Duration,
    /// `batch.size`
    pub batch_bytes: usize,
    /// `buffer.memory`
    pub buffer_bytes: usize,
    /// `max.request.size`
    pub max_request_bytes: usize,
    /// `max.block.ms`
    pub max_block: Duration,
    /// `delivery.timeout.ms`
    pub delivery_timeout: Duration,
    /// `retry.backoff.ms`
    pub retry_backoff: Duration,
    /// `max.in.flight.requests.per.connection`
    pub max_in_flight: usize,
    /// `enable.idempotence`
    pub idempotent: bool,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Compression::None,
            linger: Duration::from_millis(5),
            batch_bytes: 16 << 10,
            buffer_bytes: 32 << 20,
            max_request_bytes: 1 << 20,
            max_block: Duration::from_secs(60),
            delivery_timeout: Duration::from_secs(120),
            retry_backoff: Duration::from_millis(100),
            max_in_flight: 5,
            idempotent: true,
        }
    }
}

/// The outcome of the records of one batch.
#[derive(Debug)]
pub struct Delivery {
    pub topic: Arc<str>,
    pub partition: i32,
    /// The tokens that the records were sent with, in order.
    pub tokens: Vec<u64>,
    /// Offset of the first; −1 where the broker was not asked for it.
    pub result: Result<i64, ClientError>,
}

type OnDelivery = Box<dyn Fn(Delivery) + Send + Sync>;

struct Batch {
    builder: BatchBuilder,
    tokens: Vec<u64>,
    /// The batch's share of the buffer.
    bytes: usize,
    since: Instant,
    /// The batch was sent at least once.
    sent: bool,
    not_before: Instant,
}

/// The producer id and epoch under which a partition's batches are numbered.
#[derive(Clone, Copy)]
struct Identity {
    producer_id: i64,
    epoch: i16,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Batch>,
    in_flight: usize,
    identity: Option<Identity>,
    next_sequence: i32,
    /// The broker refuses this identity's numbers: begin with another one when nothing is under way.
    renew: bool,
}

struct Topic {
    /// Leaders by partition; −1 while there is none.
    leaders: Vec<i32>,
    queues: Vec<Queue>,
    /// For records without a key: the current partition, and the bytes that it has received.
    sticky: (i32, usize),
}

#[derive(Default)]
struct State {
    topics: HashMap<Arc<str>, Topic>,
    /// Requests under way, by broker.
    requests: HashMap<i32, usize>,
    /// Batches that are neither delivered nor failed.
    pending: usize,
    /// Callers that wait until everything is sent.
    flushing: usize,
    /// Leaders may have changed.
    stale: bool,
}

struct Shared {
    cluster: Arc<Cluster>,
    options: ProducerOptions,
    state: Mutex<State>,
    buffer: Arc<Semaphore>,
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
            buffer: Arc::new(Semaphore::new(options.buffer_bytes.clamp(1, 1 << 40))),
            options,
            state: Mutex::default(),
            work: Notify::new(),
            settled: Notify::new(),
            on_delivery: Box::new(on_delivery),
        });
        let sender = tokio::spawn(send_all(shared.clone()));
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
        if !shared.lock().topics.contains_key(topic)
            && let Err(error) = shared.learn(topic).await
        {
            shared.buffer.add_permits(permits as usize);
            return Err(error);
        }
        let taken = shared.take(topic, partition, record, token, permits as usize);
        match taken {
            Ok(wake) => {
                if wake {
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
            if self.shared.lock().pending == 0 {
                break;
            }
            settled.await;
        }
        self.shared.lock().flushing -= 1;
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
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

    /// Learns a topic's partitions; one that is missing may be created by the broker.
    async fn learn(&self, topic: &str) -> Result<(), ClientError> {
        let began = Instant::now();
        loop {
            let named = [topic.to_owned()];
            let answer = self.cluster.metadata_creating(&named).await?;
            let found = answer.topics.into_iter().next();
            if let Some(found) = found {
                let code = ErrorCode::from_code(found.error_code);
                if code == Some(ErrorCode::None) && !found.partitions.is_empty() {
                    self.note_leaders(topic, &found);
                    return Ok(());
                }
                if !code.unwrap_or(ErrorCode::UnknownServerError).is_retriable() {
                    return check(topic, found.error_code, None);
                }
            }
            if began.elapsed() > self.options.max_block {
                let waited = self.options.max_block.as_millis();
                return Err(ClientError::Broker {
                    what: topic.to_owned(),
                    code: ErrorCode::UnknownTopicOrPartition,
                    message: Some(format!(
                        "Topic {topic} not present in metadata after {waited} ms."
                    )),
                });
            }
            tokio::time::sleep(self.options.retry_backoff).await;
        }
    }

    fn note_leaders(&self, name: &str, found: &m::metadata_response::MetadataResponseTopic) {
        let mut state = self.lock();
        let topic = state.topics.entry(name.into()).or_insert_with(|| Topic {
            leaders: Vec::new(),
            queues: Vec::new(),
            sticky: (0, 0),
        });
        let count = found.partitions.len().max(topic.leaders.len());
        topic.leaders.resize(count, -1);
        topic.queues.resize_with(count, Queue::default);
        for partition in &found.partitions {
            if let Some(leader) = topic.leaders.get_mut(partition.partition_index as usize) {
                *leader = partition.leader_id.0;
            }
        }
    }

    /// Puts a record into its partition's last batch; returns whether the sender has to look.
    fn take(
        &self,
        name: &str,
        partition: Option<i32>,
        record: &RecordToWrite,
        token: u64,
        bytes: usize,
    ) -> Result<bool, ClientError> {
        let batch_bytes = self.options.batch_bytes.max(1);
        let mut state = self.lock();
        let topic = state.topics.get_mut(name).expect("it was learnt");
        let count = topic.queues.len() as i32;
        let partition = match (partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of_key(key, count),
            (None, None) => {
                let (current, got) = &mut topic.sticky;
                if *got >= batch_bytes {
                    *current = (*current + 1) % count.max(1);
                    *got = 0;
                }
                *got += bytes;
                *current
            }
        };
        let Some(queue) = topic.queues.get_mut(partition as usize) else {
            return Err(ClientError::Broker {
                what: name.to_owned(),
                code: ErrorCode::InvalidPartitions,
                message: Some(format!(
                    "Partition {partition} of topic {name} with partition count {count} is not present in metadata."
                )),
            });
        };
        let now = Instant::now();
        let open = queue
            .batches
            .back_mut()
            .filter(|b| !b.sent && b.bytes + bytes <= batch_bytes);
        let mut wake = false;
        if let Some(batch) = open {
            batch.builder.push(record);
            batch.tokens.push(token);
            batch.bytes += bytes;
        } else {
            let mut builder = BatchBuilder::new(self.options.compression);
            builder.push(record);
            queue.batches.push_back(Batch {
                builder,
                tokens: vec![token],
                bytes,
                since: now,
                sent: false,
                not_before: now,
            });
            // The one before is full, or this one's linger begins.
            wake = true;
            state.pending += 1;
        }
        Ok(wake)
    }

    /// The batches that can be sent now, by broker, and when to look again.
    fn drain(&self) -> (Vec<Outgoing>, Option<Instant>) {
        let now = Instant::now();
        let mut state = self.lock();
        let flushing = state.flushing > 0;
        let State {
            topics,
            requests,
            stale,
            ..
        } = &mut *state;
        let mut outgoing: BTreeMap<i32, Outgoing> = BTreeMap::new();
        let mut next: Option<Instant> = None;
        let mut look_at = |at: Instant| next = Some(next.map_or(at, |n| n.min(at)));
        for (name, topic) in topics.iter_mut() {
            for (partition, queue) in topic.queues.iter_mut().enumerate() {
                let waiting = queue.batches.len();
                let Some(first) = queue.batches.front_mut() else {
                    continue;
                };
                let leader = topic.leaders[partition];
                if leader < 0 {
                    *stale = true;
                    look_at(now + self.options.retry_backoff);
                    continue;
                }
                let full = waiting > 1 || first.bytes >= self.options.batch_bytes;
                let due = first.since + self.options.linger;
                let held =
                    first.not_before > now || (first.sent || queue.renew) && queue.in_flight > 0;
                if held {
                    look_at(first.not_before.max(now + Duration::from_millis(1)));
                    continue;
                }
                if !full && !flushing && due > now && !first.sent {
                    look_at(due);
                    continue;
                }
                let under_way = requests.get(&leader).copied().unwrap_or(0);
                if under_way >= self.options.max_in_flight {
                    continue;
                }
                let request = outgoing.entry(leader).or_insert_with(|| Outgoing {
                    leader,
                    batches: Vec::new(),
                    bytes: 0,
                });
                if request.bytes > 0 && request.bytes + first.bytes > self.options.max_request_bytes
                {
                    look_at(now);
                    continue;
                }
                request.bytes += first.bytes;
                let batch = queue.batches.pop_front().expect("it was looked at");
                queue.in_flight += 1;
                request.batches.push(Sending {
                    topic: name.clone(),
                    partition: partition as i32,
                    batch,
                });
                if !queue.batches.is_empty() {
                    look_at(now);
                }
            }
        }
        for request in outgoing.values() {
            *requests.entry(request.leader).or_default() += 1;
        }
        (outgoing.into_values().collect(), next)
    }

    /// Gives a batch its sequence, if it has none yet.
    fn number(&self, sending: &mut Sending, fresh: Option<Identity>) -> bool {
        let mut state = self.lock();
        let topic = state.topics.get_mut(&sending.topic).expect("it is known");
        let queue = &mut topic.queues[sending.partition as usize];
        let builder = &mut sending.batch.builder;
        let current = queue.identity.map(|i| (i.producer_id, i.epoch));
        let own = (builder.producer_id, builder.producer_epoch);
        if builder.base_sequence >= 0 && !queue.renew && current == Some(own) {
            return true;
        }
        if queue.identity.is_none() || queue.renew {
            let Some(fresh) = fresh else { return false };
            queue.identity = Some(fresh);
            queue.next_sequence = 0;
            queue.renew = false;
        }
        let identity = queue.identity.expect("it was just set");
        builder.producer_id = identity.producer_id;
        builder.producer_epoch = identity.epoch;
        builder.base_sequence = queue.next_sequence;
        queue.next_sequence = queue.next_sequence.wrapping_add(builder.record_count()) & i32::MAX;
        true
    }

    async fn identity(&self) -> Result<Identity, ClientError> {
        let asking = || async {
            let request = m::InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(i32::MAX)
                .with_producer_id(m::ProducerId(-1))
                .with_producer_epoch(-1);
            let answer = self.cluster.call_any("initProducerId", &request).await?;
            check("InitProducerId", answer.error_code, None)?;
            Ok(Identity {
                producer_id: answer.producer_id.0,
                epoch: answer.producer_epoch,
            })
        };
        self.cluster.retrying(asking).await
    }

    /// Takes the answer to a request apart.
    fn finish_request(
        &self,
        outgoing: Outgoing,
        answer: Result<Option<m::ProduceResponse>, ClientError>,
    ) {
        let leader = outgoing.leader;
        let mut results: HashMap<(String, i32), Result<i64, ClientError>> = HashMap::new();
        let mut failure = None;
        match answer {
            Ok(Some(response)) => {
                for topic in &response.responses {
                    for p in &topic.partition_responses {
                        let what = format!("{}-{}", topic.name.as_str(), p.index);
                        let told = check(&what, p.error_code, p.error_message.as_ref());
                        let key = (topic.name.to_string(), p.index);
                        results.insert(key, told.map(|()| p.base_offset));
                    }
                }
            }
            Ok(None) => {}
            Err(error) => failure = Some(error),
        }
        let unasked = self.options.acks == Acks::None && failure.is_none();
        let deliveries: Vec<Delivery> = {
            let mut state = self.lock();
            if let Some(count) = state.requests.get_mut(&leader) {
                *count -= 1;
            }
            let mut deliveries = Vec::new();
            for sending in outgoing.batches {
                let key = (sending.topic.to_string(), sending.partition);
                let result = match (&failure, results.remove(&key)) {
                    (Some(error), _) => Err(again(error)),
                    (None, Some(result)) => result,
                    (None, None) if unasked => Ok(-1),
                    (None, None) => Err(ClientError::Decode {
                        address: leader.to_string(),
                        reason: "a partition is missing in the answer".into(),
                    }),
                };
                deliveries.extend(self.settle(&mut state, sending, result));
            }
            deliveries
        };
        self.deliver(deliveries);
        self.work.notify_one();
    }

    /// Handles the answer of a batch: the batch is delivered, fails, or is queued again.
    fn settle(
        &self,
        state: &mut State,
        sending: Sending,
        result: Result<i64, ClientError>,
    ) -> Option<Delivery> {
        let Sending {
            topic: name,
            partition,
            mut batch,
        } = sending;
        let queue = {
            let topic = state.topics.get_mut(&name).expect("it is known");
            &mut topic.queues[partition as usize]
        };
        queue.in_flight -= 1;
        let code = result.as_ref().err().and_then(ClientError::code);
        let numbered = batch.builder.base_sequence >= 0;
        let result = match code {
            // An earlier attempt has written the batch.
            Some(ErrorCode::DuplicateSequenceNumber) => Ok(-1),
            _ => result,
        };
        let misnumbered = matches!(
            code,
            Some(ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId)
        );
        let expired = batch.since.elapsed() > self.options.delivery_timeout;
        match result {
            // An earlier batch is not written yet: this batch is sent again behind it.
            Err(error)
                if !expired && (error.is_retriable() || misnumbered && numbered && batch.sent) =>
            {
                if misnumbered && queue.in_flight == 0 {
                    queue.renew = true;
                }
                batch.not_before = Instant::now() + self.options.retry_backoff;
                batch.sent = true;
                let at = queue
                    .batches
                    .iter()
                    .position(|b| !b.sent || b.builder.base_sequence > batch.builder.base_sequence)
                    .unwrap_or(queue.batches.len());
                queue.batches.insert(at, batch);
                state.stale = true;
                None
            }
            result => {
                if result.is_err() && numbered {
                    // Its numbers are missing now: those behind it need others.
                    queue.renew = true;
                }
                self.buffer.add_permits(batch.bytes);
                Some(Delivery {
                    topic: name,
                    partition,
                    tokens: batch.tokens,
                    result,
                })
            }
        }
    }

    /// Sends a request; returns the answer to come.
    async fn begin_request(&self, outgoing: &mut Outgoing) -> Result<Begun, ClientError> {
        if self.options.idempotent && self.options.acks == Acks::All {
            for sending in &mut outgoing.batches {
                if !self.number(sending, None) {
                    let fresh = self.identity().await?;
                    self.number(sending, Some(fresh));
                }
            }
        }
        let mut topics: BTreeMap<Arc<str>, Vec<PartitionProduceData>> = BTreeMap::new();
        for sending in &mut outgoing.batches {
            sending.batch.sent = true;
            let data = PartitionProduceData::default()
                .with_index(sending.partition)
                .with_records(Some(sending.batch.builder.build()));
            topics.entry(sending.topic.clone()).or_default().push(data);
        }
        let topics = topics.into_iter().map(|(name, partitions)| {
            TopicProduceData::default()
                .with_name(m::TopicName(StrBytes::from_string(name.to_string())))
                .with_partition_data(partitions)
        });
        let acks = match self.options.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        };
        let limit = self.cluster.options.request_timeout;
        let request = m::ProduceRequest::default()
            .with_acks(acks)
            .with_timeout_ms(limit.as_millis() as i32)
            .with_topic_data(topics.collect());
        let channel = self.cluster.broker(outgoing.leader).await?;
        let version = channel
            .version_of::<m::ProduceRequest>()?
            .min(PRODUCE_VERSION);
        if acks == 0 {
            channel.tell_version(&request, version).await?;
            return Ok(Box::pin(async { Ok(None) }));
        }
        let answer = channel.begin(&request, version).await?;
        Ok(Box::pin(async move {
            let answered = tokio::time::timeout(limit, answer).await;
            let late = |_| channel.late::<m::ProduceRequest>(limit);
            answered.map_err(late)?.map(Some)
        }))
    }

    /// Fetches the metadata again, to find the leaders.
    async fn refresh(&self) {
        let names: Vec<String> = {
            let mut state = self.lock();
            if !std::mem::take(&mut state.stale) {
                return;
            }
            state.topics.keys().map(ToString::to_string).collect()
        };
        match self.cluster.metadata(Some(&names)).await {
            Ok(answer) => {
                for topic in &answer.topics {
                    if let Some(name) = &topic.name
                        && topic.error_code == 0
                    {
                        self.note_leaders(name.as_str(), topic);
                    }
                }
            }
            Err(_) => self.lock().stale = true,
        }
    }

    /// Fails batches that have waited too long and are not in flight.
    fn expire(&self) {
        let mut expired = Vec::new();
        {
            let mut state = self.lock();
            let limit = self.options.delivery_timeout;
            for (name, topic) in &mut state.topics {
                for (partition, queue) in topic.queues.iter_mut().enumerate() {
                    while let Some(batch) =
                        queue.batches.pop_front_if(|b| b.since.elapsed() > limit)
                    {
                        queue.renew |= batch.sent && batch.builder.base_sequence >= 0;
                        self.buffer.add_permits(batch.bytes);
                        let count = batch.tokens.len();
                        let message = format!(
                            "Expiring {count} record(s) for {name}-{partition}:{} ms has passed since batch creation",
                            limit.as_millis()
                        );
                        expired.push(Delivery {
                            topic: name.clone(),
                            partition: partition as i32,
                            tokens: batch.tokens,
                            result: Err(ClientError::Broker {
                                what: format!("{name}-{partition}"),
                                code: ErrorCode::RequestTimedOut,
                                message: Some(message),
                            }),
                        });
                    }
                }
            }
        }
        self.deliver(expired);
    }

    /// Reports the deliveries of finished batches; only then do the batches count as settled.
    fn deliver(&self, deliveries: Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let count = deliveries.len();
        for delivery in deliveries {
            (self.on_delivery)(delivery);
        }
        self.lock().pending -= count;
        self.settled.notify_waiters();
    }
}

/// The answer to a request under way; `None` where the broker gives none.
type Begun = BoxFuture<'static, Result<Option<m::ProduceResponse>, ClientError>>;

struct Sending {
    topic: Arc<str>,
    partition: i32,
    batch: Batch,
}

struct Outgoing {
    leader: i32,
    batches: Vec<Sending>,
    bytes: usize,
}

/// The same error for another batch of the same request.
fn again(error: &ClientError) -> ClientError {
    match error {
        ClientError::Broker {
            what,
            code,
            message,
        } => ClientError::Broker {
            what: what.clone(),
            code: *code,
            message: message.clone(),
        },
        ClientError::Io { address, source } => ClientError::Io {
            address: address.clone(),
            source: source.kind().into(),
        },
        other => ClientError::Closed {
            address: other.to_string(),
        },
    }
}

async fn send_all(shared: Arc<Shared>) {
    // Requests to one broker are begun one after the other, and none of them waits for another broker.
    let mut lanes: HashMap<i32, mpsc::UnboundedSender<Outgoing>> = HashMap::new();
    let mut running = JoinSet::new();
    loop {
        shared.refresh().await;
        shared.expire();
        let work = shared.work.notified();
        let (requests, next) = shared.drain();
        for request in requests {
            let lane = lanes.entry(request.leader).or_insert_with(|| {
                // The queue never holds more than the batches in flight.
                let (lane, queue) = mpsc::unbounded_channel();
                running.spawn(send_in_order(shared.clone(), queue));
                lane
            });
            let sent = lane.send(request);
            sent.unwrap_or_else(|_| unreachable!("a lane lives as long as its producer"));
        }
        let pause = next.map_or(Duration::from_secs(1), |at| {
            at.saturating_duration_since(Instant::now())
        });
        tokio::select! {
            () = work => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn send_in_order(shared: Arc<Shared>, mut queue: mpsc::UnboundedReceiver<Outgoing>) {
    let mut answers = JoinSet::new();
    while let Some(mut request) = queue.recv().await {
        match shared.begin_request(&mut request).await {
            Err(error) => shared.finish_request(request, Err(error)),
            Ok(answer) => {
                let shared = shared.clone();
                answers.spawn(async move {
                    let answer = answer.await;
                    shared.finish_request(request, answer);
                });
            }
        }
        while answers.try_join_next().is_some() {}
    }
}
