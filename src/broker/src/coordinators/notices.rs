//! Deleted topics that a coordinator has not heard of yet. The task that follows the metadata leaves them
//! here and never waits for a coordinator, which may itself wait for the next change of the metadata.

use std::collections::BTreeSet;
use std::sync::Mutex;

use tokio::sync::Notify;

/// Names of deleted topics: at most one for each topic that was deleted while the coordinator was busy.
#[derive(Default)]
pub(super) struct Notices {
    topics: Mutex<BTreeSet<String>>,
    left: Notify,
}

impl Notices {
    pub fn leave(&self, topic: &str) {
        let mut topics = self.topics.lock().expect("no holder panics");
        topics.insert(topic.to_owned());
        self.left.notify_one();
    }

    /// Returns when notices have been left since this returned last.
    pub async fn left(&self) {
        self.left.notified().await;
    }

    pub fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.topics.lock().expect("no holder panics"))
    }
}
