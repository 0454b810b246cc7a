//! Incremental fetch sessions (KIP-227): the broker remembers what a client fetches, and answers only what changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use rand::Rng;
use strandline_wire::ErrorCode;
use strandline_wire::fetch::{FetchPartition, FetchPartitionResponse, FetchRequest};
use strandline_wire::produce::TopicKey;

/// Kafka's `max.incremental.fetch.session.cache.slots`.
const SLOTS: usize = 1000;
/// The epoch that asks for no session, and the one that begins one.
const FINAL_EPOCH: i32 = -1;
const INITIAL_EPOCH: i32 = 0;

/// A partition of a session, by topic and number.
type Key = (TopicKey, i32);

struct CachedPartition {
    request: FetchPartition,
    /// What the client was told last.
    high_watermark: i64,
    log_start_offset: i64,
    order: u64,
}

struct Session {
    next_epoch: i32,
    uses_topic_ids: bool,
    partitions: HashMap<Key, CachedPartition>,
    next_order: u64,
    last_used: u64,
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

/// What one request fetches, and what its answer must do to the session.
pub struct FetchContext {
    pub partitions: Vec<(TopicKey, FetchPartition)>,
    session: Option<(i32, Arc<Mutex<Session>>, Answer)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Everything: the session is new.
    Full,
    /// Only what has changed.
    Incremental,
}

impl FetchSessions {
    /// Works out what a request fetches.
    pub fn begin(
        &self,
        request: &FetchRequest,
        uses_topic_ids: bool,
    ) -> Result<FetchContext, ErrorCode> {
        let listed = || -> Vec<(TopicKey, FetchPartition)> {
            let topics = request.topics.iter();
            topics
                .flat_map(|t| t.partitions.iter().map(|p| (t.topic.clone(), *p)))
                .collect()
        };
        if request.session_epoch == FINAL_EPOCH || request.session_epoch == INITIAL_EPOCH {
            if request.session_id != 0 {
                self.lock().sessions.remove(&request.session_id);
            }
            let partitions = listed();
            let session = (request.session_epoch == INITIAL_EPOCH && !partitions.is_empty())
                .then(|| self.create(&partitions, uses_topic_ids))
                .flatten();
            return Ok(FetchContext {
                partitions,
                session,
            });
        }
        let session = {
            let mut state = self.lock();
            state.clock += 1;
            let clock = state.clock;
            let session = state.sessions.get(&request.session_id).cloned();
            let session = session.ok_or(ErrorCode::FetchSessionIdNotFound)?;
            session.lock().expect("no holder panics").last_used = clock;
            session
        };
        let partitions = {
            let mut session = session.lock().expect("no holder panics");
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
            session.update(listed(), &request.forgotten);
            session.in_order()
        };
        Ok(FetchContext {
            partitions,
            session: Some((request.session_id, session, Answer::Incremental)),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// A new session, if there is room; the one that was used longest ago makes place.
    fn create(
        &self,
        partitions: &[(TopicKey, FetchPartition)],
        uses_topic_ids: bool,
    ) -> Option<(i32, Arc<Mutex<Session>>, Answer)> {
        let mut state = self.lock();
        if state.sessions.len() >= SLOTS {
            let oldest = state
                .sessions
                .iter()
                .min_by_key(|(_, s)| s.lock().map_or(0, |s| s.last_used))
                .map(|(id, _)| *id)?;
            state.sessions.remove(&oldest);
        }
        let mut rng = rand::rng();
        let id = std::iter::repeat_with(|| rng.random_range(1..i32::MAX))
            .find(|id| !state.sessions.contains_key(id))?;
        state.clock += 1;
        let mut session = Session {
            next_epoch: 1,
            uses_topic_ids,
            partitions: HashMap::new(),
            next_order: 0,
            last_used: state.clock,
        };
        session.update(partitions.to_vec(), &[]);
        let session = Arc::new(Mutex::new(session));
        state.sessions.insert(id, session.clone());
        Some((id, session, Answer::Full))
    }
}

impl Session {
    fn update(
        &mut self,
        listed: Vec<(TopicKey, FetchPartition)>,
        forgotten: &[(TopicKey, Vec<i32>)],
    ) {
        for (topic, request) in listed {
            let order = self.next_order;
            self.next_order += 1;
            self.partitions
                .entry((topic, request.partition))
                .and_modify(|known| known.request = request)
                .or_insert(CachedPartition {
                    request,
                    high_watermark: -1,
                    log_start_offset: -1,
                    order,
                });
        }
        for (topic, partitions) in forgotten {
            for partition in partitions {
                self.partitions.remove(&(topic.clone(), *partition));
            }
        }
    }

    fn in_order(&self) -> Vec<(TopicKey, FetchPartition)> {
        let ordered: BTreeMap<u64, (TopicKey, FetchPartition)> = self
            .partitions
            .iter()
            .map(|((topic, _), cached)| (cached.order, (topic.clone(), cached.request)))
            .collect();
        ordered.into_values().collect()
    }
}

impl FetchContext {
    /// The session's id for the answer, 0 without one; drops what an incremental answer leaves out.
    pub fn finish(
        self,
        answers: Vec<(TopicKey, FetchPartitionResponse)>,
    ) -> (i32, Vec<(TopicKey, FetchPartitionResponse)>) {
        let Some((id, session, kind)) = self.session else {
            return (0, answers);
        };
        let mut session = session.lock().expect("no holder panics");
        let kept = answers
            .into_iter()
            .filter(|(topic, answer)| {
                let key = (topic.clone(), answer.partition);
                let next_order = session.next_order;
                let Some(known) = session.partitions.get_mut(&key) else {
                    return true;
                };
                let has_records = !answer.records.is_empty();
                let changed = has_records
                    || answer.error != ErrorCode::None
                    || known.high_watermark != answer.high_watermark
                    || known.log_start_offset != answer.log_start_offset
                    || answer.preferred_read_replica >= 0
                    || answer.diverging_epoch.is_some();
                known.high_watermark = answer.high_watermark;
                known.log_start_offset = answer.log_start_offset;
                if has_records {
                    // Who was served goes to the end, so that a small byte budget reaches everybody in turn.
                    known.order = next_order;
                    session.next_order += 1;
                }
                kind == Answer::Full || changed
            })
            .collect();
        (id, kept)
    }
}
