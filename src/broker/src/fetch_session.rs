//! Fetch sessions (KIP-227): the broker remembers what a client fetches, and answers only what changed.
//!
//! A session looks only at partitions that may have something to say: partitions that the request names, partitions
//! that had more when they were looked at last, and partitions that have announced news since. So the cost of a fetch
//! depends on how much has changed, not on the number of its partitions. At intervals a session looks at all its
//! partitions, for changes that no partition announces: a replica nearer to the client, a topic that is back, or a
//! follower that has nothing to fetch and is still alive.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rand::Rng;
use strandline_wire::ErrorCode;
use strandline_wire::fetch::{FetchPartition, FetchPartitionResponse, FetchRequest};
use strandline_wire::produce::TopicKey;

use crate::partition::{Interest, Partition, Watch};

/// Kafka's `max.incremental.fetch.session.cache.slots`.
const SLOTS: usize = 1000;
/// The epoch that asks for no session, and the one that begins one.
const FINAL_EPOCH: i32 = -1;
const INITIAL_EPOCH: i32 = 0;
/// Between looks at everything.
const LOOK_AT_ALL: Duration = Duration::from_millis(500);

/// A partition of a session, by topic and number.
type Key = (TopicKey, i32);

struct Slot {
    topic: TopicKey,
    request: FetchPartition,
    /// The high watermark of the last answer to the client.
    high_watermark: i64,
    log_start_offset: i64,
    order: u64,
    /// The partition that announces news to this slot, by its key in this process.
    watched: Option<u64>,
}

/// The partitions that a client fetches. A request outside of a session has a `Session` for itself.
pub struct Session {
    next_epoch: i32,
    uses_topic_ids: bool,
    slots: HashMap<u32, Slot>,
    numbers: HashMap<Key, u32>,
    next_number: u32,
    next_order: u64,
    last_used: u64,
    interest: Interest,
    watch: Arc<Watch>,
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

/// All sessions of a broker.
#[derive(Default)]
pub struct FetchSessions {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<i32, Arc<Mutex<Session>>>,
    clock: u64,
}

/// The session of one request, and the change that its answer makes to it.
pub struct FetchContext {
    session: Arc<Mutex<Session>>,
    kept: Option<(i32, Answer)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Everything: the session is new.
    Full,
    /// Only partitions that have changed.
    Incremental,
}

impl FetchSessions {
    /// Determines the partitions that a request fetches.
    pub fn begin(
        &self,
        request: &FetchRequest,
        uses_topic_ids: bool,
        interest: Interest,
    ) -> Result<FetchContext, ErrorCode> {
        if request.session_epoch == FINAL_EPOCH || request.session_epoch == INITIAL_EPOCH {
            if request.session_id != 0 {
                self.lock().sessions.remove(&request.session_id);
            }
            let mut session = Session::new(uses_topic_ids, interest);
            session.update(request);
            let is_kept = request.session_epoch == INITIAL_EPOCH && !session.slots.is_empty();
            let session = Arc::new(Mutex::new(session));
            let id = is_kept.then(|| self.keep(&session, interest)).flatten();
            return Ok(FetchContext {
                session,
                kept: id.map(|id| (id, Answer::Full)),
            });
        }
        let found = {
            let mut state = self.lock();
            state.clock += 1;
            let clock = state.clock;
            let found = state.sessions.get(&request.session_id).cloned();
            let found = found.ok_or(ErrorCode::FetchSessionIdNotFound)?;
            lock(&found).last_used = clock;
            found
        };
        {
            let mut session = lock(&found);
            if session.next_epoch != request.session_epoch {
                return Err(ErrorCode::InvalidFetchSessionEpoch);
            }
            if session.uses_topic_ids != uses_topic_ids {
                return Err(ErrorCode::FetchSessionTopicIdError);
            }
            session.next_epoch = if session.next_epoch == i32::MAX {
                1
            } else {
                session.next_epoch + 1
            };
            session.update(request);
        }
        Ok(FetchContext {
            session: found,
            kept: Some((request.session_id, Answer::Incremental)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Gives a session an id, if there is room. The one that was used longest ago makes place; a follower's only to
    /// another follower.
    fn keep(&self, session: &Arc<Mutex<Session>>, interest: Interest) -> Option<i32> {
        let mut state = self.lock();
        if state.sessions.len() >= SLOTS {
            let oldest = state
                .sessions
                .iter()
                .map(|(id, other)| (*id, lock(other)))
                .filter(|(_, other)| {
                    other.interest == Interest::Committed || interest == Interest::Appended
                })
                .min_by_key(|(_, other)| (other.interest == Interest::Appended, other.last_used))
                .map(|(id, _)| id)?;
            state.sessions.remove(&oldest);
        }
        let mut rng = rand::rng();
        let id = std::iter::repeat_with(|| rng.random_range(1..i32::MAX))
            .find(|id| !state.sessions.contains_key(id))?;
        state.clock += 1;
        lock(session).last_used = state.clock;
        state.sessions.insert(id, session.clone());
        Some(id)
    }
}

fn lock(session: &Mutex<Session>) -> MutexGuard<'_, Session> {
    session.lock().expect("no holder panics")
}

impl Session {
    fn new(uses_topic_ids: bool, interest: Interest) -> Self {
        Self {
            next_epoch: 1,
            uses_topic_ids,
            slots: HashMap::new(),
            numbers: HashMap::new(),
            next_number: 0,
            next_order: 0,
            last_used: 0,
            interest,
            watch: Watch::new(interest),
            busy: BTreeSet::new(),
            looked_at_all: None,
        }
    }

    fn update(&mut self, request: &FetchRequest) {
        for topic in &request.topics {
            for wanted in &topic.partitions {
                self.ask(&topic.topic, *wanted);
            }
        }
        for (topic, partitions) in &request.forgotten {
            for partition in partitions {
                if let Some(number) = self.numbers.remove(&(topic.clone(), *partition)) {
                    self.slots.remove(&number);
                    self.busy.remove(&number);
                }
            }
        }
    }

    fn ask(&mut self, topic: &TopicKey, request: FetchPartition) {
        let key = (topic.clone(), request.partition);
        let known = self.numbers.get(&key).copied();
        let number = known.unwrap_or_else(|| {
            self.next_number += 1;
            self.numbers.insert(key, self.next_number);
            self.next_number
        });
        let (order, topic) = (self.next_order, topic.clone());
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

impl FetchContext {
    pub fn session(&self) -> MutexGuard<'_, Session> {
        lock(&self.session)
    }

    /// The watch on which a fetch waits for news.
    pub fn watch(&self) -> Arc<Watch> {
        self.session().watch.clone()
    }

    pub fn is_empty(&self) -> bool {
        self.session().slots.is_empty()
    }

    /// The session's id for the answer, 0 without one; drops what an incremental answer leaves out.
    pub fn finish(
        self,
        answers: Vec<(u32, TopicKey, FetchPartitionResponse)>,
    ) -> (i32, Vec<(TopicKey, FetchPartitionResponse)>) {
        let Some((id, kind)) = self.kept else {
            let all = answers
                .into_iter()
                .map(|(_, topic, answer)| (topic, answer));
            return (0, all.collect());
        };
        let mut session = lock(&self.session);
        let mut kept = Vec::new();
        for (number, topic, answer) in answers {
            let next_order = session.next_order;
            let mut changed = true;
            if let Some(slot) = session.slots.get_mut(&number) {
                let has_records = !answer.records.is_empty();
                changed = has_records
                    || answer.error != ErrorCode::None
                    || slot.high_watermark != answer.high_watermark
                    || slot.log_start_offset != answer.log_start_offset
                    || answer.preferred_read_replica >= 0
                    || answer.diverging_epoch.is_some();
                slot.high_watermark = answer.high_watermark;
                slot.log_start_offset = answer.log_start_offset;
                if has_records {
                    // A partition that was served goes to the end, so that a small byte budget reaches all partitions
                    // in turn.
                    slot.order = next_order;
                    session.next_order += 1;
                }
            }
            if kind == Answer::Full || changed {
                kept.push((topic, answer));
            }
        }
        (id, kept)
    }
}
