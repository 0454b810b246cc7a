//! The records that are not delivered yet: batches by topic and partition, the leaders that take them, and which requests
//! may go now. No I/O, and the time is an argument.
//!
//! A record that was taken is in exactly one place until it is finished: in a queue, or in an [`Outgoing`] request. Next:
//! `queue.rs` for the order within a partition, `sender.rs` for the requests.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use strandline_wire::ErrorCode;
use strandline_wire::batch::RecordToWrite;

use super::batch::{Finished, Outgoing, Sending};
use super::numbering::Identity;
use super::options::ProducerOptions;
use super::queue::{Queue, Readiness};
use crate::error::ClientError;
use crate::partitioner::partition_of_key;

#[derive(Default)]
struct Topic {
    /// Leaders by partition; −1 while there is none.
    leaders: Vec<i32>,
    queues: Vec<Queue>,
    /// For records without a key: the current partition, and the bytes that it has received.
    sticky: (i32, usize),
}

pub(super) struct Accumulator {
    options: ProducerOptions,
    topics: HashMap<Arc<str>, Topic>,
    /// Requests under way, by broker.
    requests: HashMap<i32, usize>,
    /// Batches that are neither delivered nor failed.
    pending: usize,
    /// Callers that wait until everything is sent.
    pub flushing: usize,
    /// Leaders may have changed.
    pub stale: bool,
}

impl Accumulator {
    pub fn new(options: ProducerOptions) -> Self {
        Self {
            options,
            topics: HashMap::new(),
            requests: HashMap::new(),
            pending: 0,
            flushing: 0,
            stale: false,
        }
    }

    pub fn knows(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.keys().map(AsRef::as_ref)
    }

    /// Learns the leaders of a topic's partitions, as (partition, leader). Partitions are never forgotten.
    pub fn note_leaders(&mut self, name: &str, found: &[(i32, i32)]) {
        let topic = self.topics.entry(name.into()).or_default();
        let count = found.len().max(topic.leaders.len());
        topic.leaders.resize(count, -1);
        topic.queues.resize_with(count, Queue::default);
        for (partition, leader) in found {
            if let Some(known) = topic.leaders.get_mut(*partition as usize) {
                *known = *leader;
            }
        }
    }

    /// Puts a record into its partition's last batch; returns whether the sender has to look.
    pub fn take(
        &mut self,
        name: &str,
        partition: Option<i32>,
        record: &RecordToWrite,
        token: u64,
        bytes: usize,
        now: Instant,
    ) -> Result<bool, ClientError> {
        let topic = self.topics.get_mut(name).expect("it was learnt");
        let count = topic.queues.len() as i32;
        let partition = match (partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of_key(key, count),
            (None, None) => {
                let (current, got) = &mut topic.sticky;
                if *got >= self.options.batch_bytes.max(1) {
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
        // A batch begins: the one before is full, or this one's linger begins.
        let begins = queue.append(&self.options, record, token, bytes, now);
        self.pending += usize::from(begins);
        Ok(begins)
    }

    /// The batches that can be sent now, by broker, and when to look again.
    pub fn take_ready(&mut self, now: Instant) -> (Vec<Outgoing>, Option<Instant>) {
        let options = &self.options;
        let flushing = self.flushing > 0;
        let mut outgoing: BTreeMap<i32, Outgoing> = BTreeMap::new();
        let mut next: Option<Instant> = None;
        let mut look_at = |at: Instant| next = Some(next.map_or(at, |n| n.min(at)));
        for (name, topic) in &mut self.topics {
            let partitions = topic.leaders.iter().zip(&mut topic.queues).enumerate();
            for (partition, (&leader, queue)) in partitions {
                let readiness = queue.readiness(options, flushing, now);
                if readiness == Readiness::Empty {
                    continue;
                }
                if leader < 0 {
                    self.stale = true;
                    look_at(now + options.retry_backoff);
                    continue;
                }
                if let Readiness::At(at) = readiness {
                    look_at(at);
                    continue;
                }
                let under_way = self.requests.get(&leader).copied().unwrap_or(0);
                if under_way >= options.max_in_flight {
                    continue;
                }
                let request = outgoing.entry(leader).or_insert_with(|| Outgoing {
                    leader,
                    batches: Vec::new(),
                    bytes: 0,
                });
                let taken = request.bytes;
                let fits = |more| taken == 0 || taken + more <= options.max_request_bytes;
                if let Some(batch) = queue.take_first_if(fits) {
                    request.bytes += batch.bytes;
                    request.batches.push(Sending {
                        topic: name.clone(),
                        partition: partition as i32,
                        batch,
                    });
                }
                if !queue.is_empty() {
                    look_at(now);
                }
            }
        }
        for request in outgoing.values() {
            *self.requests.entry(request.leader).or_default() += 1;
        }
        (outgoing.into_values().collect(), next)
    }

    /// Gives a batch its sequence, if it has none yet; returns false if that needs a fresh identity.
    pub fn number(&mut self, sending: &mut Sending, fresh: Option<Identity>) -> bool {
        let queue = queue_of(&mut self.topics, sending);
        queue.numbering.number(&mut sending.batch.builder, fresh)
    }

    /// A request is answered or has failed; its batches are settled next.
    pub fn end_request(&mut self, leader: i32) {
        if let Some(count) = self.requests.get_mut(&leader) {
            *count -= 1;
        }
    }

    /// Handles the answer of a batch: the batch is delivered, fails, or is queued again.
    pub fn settle(
        &mut self,
        sending: Sending,
        result: Result<i64, ClientError>,
        now: Instant,
    ) -> Option<Finished> {
        let queue = queue_of(&mut self.topics, &sending);
        let Sending {
            topic,
            partition,
            batch,
        } = sending;
        let settled = queue.settle(&self.options, batch, result, now);
        self.stale |= settled.is_none();
        let (batch, result) = settled?;
        Some(Finished::new(topic, partition, batch, result))
    }

    /// Fails batches that have waited too long and are not in flight.
    pub fn expire(&mut self, now: Instant) -> Vec<Finished> {
        let mut finished = Vec::new();
        let waited = self.options.delivery_timeout.as_millis();
        for (name, topic) in &mut self.topics {
            for (partition, queue) in topic.queues.iter_mut().enumerate() {
                while let Some(batch) = queue.take_expired(&self.options, now) {
                    let count = batch.tokens.len();
                    let message = format!(
                        "Expiring {count} record(s) for {name}-{partition}:{waited} ms has passed since batch creation"
                    );
                    let error = ClientError::Broker {
                        what: format!("{name}-{partition}"),
                        code: ErrorCode::RequestTimedOut,
                        message: Some(message),
                    };
                    let (topic, partition) = (name.clone(), partition as i32);
                    finished.push(Finished::new(topic, partition, batch, Err(error)));
                }
            }
        }
        finished
    }

    /// `count` finished batches were reported.
    pub fn reported(&mut self, count: usize) {
        self.pending -= count;
    }

    /// Every batch is finished, and reported.
    pub fn is_settled(&self) -> bool {
        self.pending == 0
    }
}

/// The queue that a batch came from; topics and queues are never removed.
fn queue_of<'t>(topics: &'t mut HashMap<Arc<str>, Topic>, sending: &Sending) -> &'t mut Queue {
    let topic = topics.get_mut(&sending.topic).expect("it is known");
    &mut topic.queues[sending.partition as usize]
}
