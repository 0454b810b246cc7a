//! The decisions of a kind of coordinator, without I/O.

use bytes::Bytes;
use strandline_types::{MonotonicMs, Now};
use strandline_wire::ErrorCode;

/// Names a request that waits for its answer.
pub type Token = u64;

/// Answers that may be sent now, and records that must be committed first.
pub struct Turn<M: Machine> {
    pub replies: Vec<(Token, M::Reply)>,
    pub appends: Vec<M::Append>,
}

impl<M: Machine> Default for Turn<M> {
    fn default() -> Self {
        Self {
            replies: Vec::new(),
            appends: Vec::new(),
        }
    }
}

impl<M: Machine> Turn<M> {
    pub fn merge(&mut self, other: Self) {
        self.replies.extend(other.replies);
        self.appends.extend(other.appends);
    }
}

/// A key and a value; without a value, the record is a tombstone.
pub type KeyValue = (Bytes, Option<Bytes>);

/// The state of one partition of a coordinator's topic. A change that a restart must remember is a record first; its
/// effect follows in [`Machine::committed`].
pub trait Machine: Sized + Send + 'static {
    type Reply: Send + 'static;
    /// Records, and what follows when they are committed.
    type Append: Send + 'static;

    /// Replays one record; an error names a record that is not understood, and is skipped.
    fn load(&mut self, key: &Bytes, value: Option<&Bytes>, now: Now) -> Result<(), String>;
    fn finish_load(&mut self);
    fn records(append: &Self::Append) -> Vec<KeyValue>;
    fn committed(&mut self, append: Self::Append, now: Now) -> Turn<Self>;
    /// The log has refused the records.
    fn failed(&mut self, append: Self::Append, error: ErrorCode, now: Now) -> Turn<Self>;
    /// When [`Machine::tick`] has something to do next.
    fn next_deadline(&self) -> Option<MonotonicMs>;
    fn tick(&mut self, now: Now) -> Turn<Self>;
    /// Work that is done at intervals.
    fn upkeep(&mut self) -> Turn<Self>;
    fn topic_deleted(&mut self, topic: &str) -> Turn<Self>;
}
