//! One session: the partitions that a client fetches, and those of them that may have something to say.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use strandline_wire::fetch::{FetchPartition, FetchRequest};
use strandline_wire::produce::TopicKey;

use crate::partition::{Interest, Partition, Watch};

/// Bytes of one partition in a session, but for the topic's name, which is there twice.
pub(super) const SLOT_BYTES: usize = 400;
/// Between looks at everything.
const LOOK_AT_ALL: Duration = Duration::from_millis(500);

/// A partition of a session, by topic and number.
type Key = (TopicKey, i32);

pub(super) struct Slot {
    topic: TopicKey,
    request: FetchPartition,
    /// The high watermark of the last answer to the client.
    pub(super) high_watermark: i64,
    pub(super) log_start_offset: i64,
    pub(super) order: u64,
    /// The partition that announces news to this slot, by its key in this process.
    watched: Option<u64>,
}

/// The partitions that a client fetches. A request outside of a session has a `Session` for itself.
pub struct Session {
    pub(super) next_epoch: i32,
    pub(super) uses_topic_ids: bool,
    pub(super) slots: HashMap<u32, Slot>,
    numbers: HashMap<Key, u32>,
    next_number: u32,
    pub(super) next_order: u64,
    pub(super) last_used: u64,
    /// Estimated from the partitions.
    pub(super) bytes: usize,
    pub(super) interest: Interest,
    pub(super) watch: Arc<Watch>,
    /// The slots of partitions that may have something to say.
    busy: BTreeSet<u32>,
    looked_at_all: Option<Instant>,
}

/// A partition that is to be looked at.
pub struct Visit {
    pub slot: u32,
    pub order: u64,
    pub topic: TopicKey,
    pub request: FetchPartition,
}

pub(super) fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().expect("no holder panics")
}

/// Estimated bytes of a partition in a session.
fn slot_bytes(topic: &TopicKey) -> usize {
    SLOT_BYTES + 2 * topic.name().map_or(0, str::len)
}

impl Session {
    pub(super) fn new(uses_topic_ids: bool, interest: Interest) -> Self {
        Self {
            next_epoch: 1,
            uses_topic_ids,
            slots: HashMap::new(),
            numbers: HashMap::new(),
            next_number: 0,
            next_order: 0,
            last_used: 0,
            bytes: 0,
            interest,
            watch: Watch::new(interest),
            busy: BTreeSet::new(),
            looked_at_all: None,
        }
    }

    pub(super) fn update(&mut self, request: &FetchRequest) {
        for topic in &request.topics {
            for wanted in &topic.partitions {
                self.ask(&topic.topic, *wanted);
            }
        }
        for (topic, partitions) in &request.forgotten {
            for partition in partitions {
                if let Some(number) = self.numbers.remove(&(topic.clone(), *partition)) {
                    self.bytes = self.bytes.saturating_sub(slot_bytes(topic));
                    self.slots.remove(&number);
                    self.busy.remove(&number);
                }
            }
        }
    }

    fn ask(&mut self, topic: &TopicKey, request: FetchPartition) {
        let key = (topic.clone(), request.partition);
        let known = self.numbers.get(&key).copied();
        let topic = if known.is_some() {
            topic.clone()
        } else {
            topic.detached()
        };
        let number = known.unwrap_or_else(|| {
            self.next_number += 1;
            self.bytes += slot_bytes(&topic);
            let key = (topic.clone(), request.partition);
            self.numbers.insert(key, self.next_number);
            self.next_number
        });
        let order = self.next_order;
        self.next_order += 1;
        self.slots
            .entry(number)
            .and_modify(|slot| slot.request = request)
            .or_insert(Slot {
                topic,
                request,
                high_watermark: -1,
                log_start_offset: -1,
                order,
                watched: None,
            });
        self.busy.insert(number);
    }

    /// The partitions to look at now, in their order.
    pub fn visits(&mut self) -> Vec<Visit> {
        // Noted before anything is looked at: a request may end half-way.
        self.busy.extend(self.watch.take());
        let is_due = |at: Instant| at.elapsed() >= LOOK_AT_ALL;
        let numbers: Vec<u32> = if self.looked_at_all.is_none_or(is_due) {
            self.looked_at_all = Some(Instant::now());
            self.slots.keys().copied().collect()
        } else {
            self.busy.iter().copied().collect()
        };
        let mut visits: Vec<Visit> = numbers
            .into_iter()
            .filter_map(|number| {
                let slot = self.slots.get(&number)?;
                Some(Visit {
                    slot: number,
                    order: slot.order,
                    topic: slot.topic.clone(),
                    request: slot.request,
                })
            })
            .collect();
        visits.sort_by_key(|visit| visit.order);
        visits
    }

    /// Lets `partition` announce its news to this session from now on. Look at its view after this.
    pub fn watch(&mut self, number: u32, partition: &Partition) {
        if let Some(slot) = self.slots.get_mut(&number)
            && slot.watched != Some(partition.key())
        {
            slot.watched = Some(partition.key());
            partition.watch(&self.watch, number);
        }
    }

    /// Whether a partition that was looked at may have more to say without telling of news.
    pub fn settle(&mut self, number: u32, busy: bool) {
        if busy && self.slots.contains_key(&number) {
            self.busy.insert(number);
        } else {
            self.busy.remove(&number);
        }
    }
}
