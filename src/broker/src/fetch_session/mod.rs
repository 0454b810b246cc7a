//! Fetch sessions (KIP-227): the broker remembers what a client fetches, and answers only what changed.
//!
//! A session looks only at partitions that may have something to say: partitions that the request names, partitions
//! that had more when they were looked at last, and partitions that have announced news since. So the cost of a fetch
//! depends on how much has changed, not on the number of its partitions. At intervals a session looks at all its
//! partitions, for changes that no partition announces: a replica nearer to the client, a topic that is back, or a
//! follower that has nothing to fetch and is still alive.

mod context;
mod session;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::Rng;
use strandline_wire::ErrorCode;
use strandline_wire::fetch::FetchRequest;

use crate::partition::Interest;
use context::Answer;
pub use context::FetchContext;
pub use session::Visit;
use session::{Session, lock};

/// Bytes that all sessions may have. A client without a session names its partitions in each request.
const SESSIONS_BYTES: usize = 64 << 20;
/// The epoch that asks for no session, and the one that begins one.
const FINAL_EPOCH: i32 = -1;
const INITIAL_EPOCH: i32 = 0;
/// All sessions of a broker.
pub struct FetchSessions {
    state: Mutex<State>,
    /// `max.incremental.fetch.session.cache.slots`
    slots: usize,
    most_bytes: usize,
}

#[derive(Default)]
struct State {
    sessions: HashMap<i32, Kept>,
    clock: u64,
    /// The sum of all sessions.
    bytes: usize,
}

/// A session that has an id.
struct Kept {
    session: Arc<Mutex<Session>>,
    bytes: usize,
}

impl State {
    fn insert(&mut self, id: i32, kept: Kept) {
        self.bytes += kept.bytes;
        self.sessions.insert(id, kept);
    }

    fn remove(&mut self, id: i32) {
        if let Some(kept) = self.sessions.remove(&id) {
            self.bytes = self.bytes.saturating_sub(kept.bytes);
        }
    }
}

impl FetchSessions {
    pub fn new(slots: i64) -> Self {
        Self {
            state: Mutex::default(),
            slots: usize::try_from(slots).unwrap_or(0),
            most_bytes: SESSIONS_BYTES,
        }
    }

    /// Bytes that all sessions have, and the limit.
    pub fn usage(&self) -> (usize, usize) {
        (self.lock().bytes, self.most_bytes)
    }

    /// Determines the partitions that a request fetches.
    pub fn begin(
        &self,
        request: &FetchRequest,
        uses_topic_ids: bool,
        interest: Interest,
    ) -> Result<FetchContext, ErrorCode> {
        if request.session_epoch == FINAL_EPOCH || request.session_epoch == INITIAL_EPOCH {
            if request.session_id != 0 {
                self.lock().remove(request.session_id);
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
        let found = self.find(request.session_id)?;
        let bytes = {
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
            session.bytes
        };
        self.account(request.session_id, bytes)?;
        Ok(FetchContext {
            session: found,
            kept: Some((request.session_id, Answer::Incremental)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn find(&self, id: i32) -> Result<Arc<Mutex<Session>>, ErrorCode> {
        let mut state = self.lock();
        state.clock += 1;
        let clock = state.clock;
        let kept = state.sessions.get(&id);
        let found = kept
            .ok_or(ErrorCode::FetchSessionIdNotFound)?
            .session
            .clone();
        lock(&found).last_used = clock;
        Ok(found)
    }

    /// Counts a session's bytes after a request. A session that grows beyond the limit ends; its client begins another
    /// one, and goes on without where there is no room.
    fn account(&self, id: i32, bytes: usize) -> Result<(), ErrorCode> {
        let mut state = self.lock();
        let Some(kept) = state.sessions.get_mut(&id) else {
            return Ok(());
        };
        let before = std::mem::replace(&mut kept.bytes, bytes);
        state.bytes = state.bytes.saturating_sub(before) + bytes;
        if state.bytes > self.most_bytes && bytes > before {
            state.remove(id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        Ok(())
    }

    /// Gives a session an id, if there is room. The one that was used longest ago makes place; a follower's only to
    /// another follower.
    fn keep(&self, session: &Arc<Mutex<Session>>, interest: Interest) -> Option<i32> {
        let mut state = self.lock();
        let bytes = lock(session).bytes;
        if self.slots == 0 || bytes > self.most_bytes {
            return None;
        }
        while state.sessions.len() >= self.slots || state.bytes + bytes > self.most_bytes {
            let oldest = state
                .sessions
                .iter()
                .map(|(id, other)| (*id, lock(&other.session)))
                .filter(|(_, other)| {
                    other.interest == Interest::Committed || interest == Interest::Appended
                })
                .min_by_key(|(_, other)| (other.interest == Interest::Appended, other.last_used))
                .map(|(id, _)| id)?;
            state.remove(oldest);
        }
        let mut rng = rand::rng();
        let id = std::iter::repeat_with(|| rng.random_range(1..i32::MAX))
            .find(|id| !state.sessions.contains_key(id))?;
        state.clock += 1;
        lock(session).last_used = state.clock;
        let session = session.clone();
        state.insert(id, Kept { session, bytes });
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use strandline_wire::fetch::{FetchPartition, FetchTopic};
    use strandline_wire::produce::TopicKey;

    use super::*;

    /// A request for `partitions` partitions of a topic whose name is a slice of a large buffer.
    fn request(session: (i32, i32), partitions: std::ops::Range<i32>) -> FetchRequest {
        let partition = |partition| FetchPartition {
            partition,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            max_bytes: 1,
        };
        let topic = FetchTopic {
            topic: TopicKey::Name("t".into()),
            partitions: partitions.map(partition).collect(),
        };
        FetchRequest {
            replica_id: -1,
            replica_epoch: -1,
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: 1,
            isolation_level: 0,
            session_id: session.0,
            session_epoch: session.1,
            topics: vec![topic],
            forgotten: Vec::new(),
            rack_id: bytes::Bytes::new(),
        }
    }

    fn begin(sessions: &FetchSessions, request: &FetchRequest) -> Result<i32, ErrorCode> {
        let context = sessions.begin(request, false, Interest::Committed)?;
        Ok(context.finish(Vec::new()).0)
    }

    #[test]
    fn sessions_stay_within_their_slots_and_bytes() {
        let mut sessions = FetchSessions::new(2);
        sessions.most_bytes = 10 * session::SLOT_BYTES + 100;
        let first = begin(&sessions, &request((0, 0), 0..4)).unwrap();
        let second = begin(&sessions, &request((0, 0), 0..4)).unwrap();
        assert!(first > 0 && second > 0);
        // A third one takes the slot of the oldest.
        let third = begin(&sessions, &request((0, 0), 0..4)).unwrap();
        let lost = begin(&sessions, &request((first, 1), 0..0));
        assert_eq!(lost, Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(begin(&sessions, &request((second, 1), 0..0)), Ok(second));
        // One that would take all bytes gets no session, and its answer is whole.
        assert_eq!(begin(&sessions, &request((0, 0), 0..100)), Ok(0));
        // One that grows beyond the limit ends.
        let grown = begin(&sessions, &request((second, 2), 4..100));
        assert_eq!(grown, Err(ErrorCode::FetchSessionIdNotFound));
        let (used, limit) = sessions.usage();
        assert!(0 < used && used <= limit, "{used} of {limit}");
        assert_eq!(begin(&sessions, &request((third, -1), 0..0)), Ok(0));
        assert_eq!(sessions.usage().0, 0);
    }

    #[test]
    fn no_slots_are_no_sessions() {
        let sessions = FetchSessions::new(0);
        assert_eq!(begin(&sessions, &request((0, 0), 0..4)), Ok(0));
    }
}
