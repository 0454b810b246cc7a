//! Waiting for news of many partitions at once, and learning which of them have any.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Notify;

/// The kind of change that wakes a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// A new high watermark or log start, which consumers see.
    Committed,
    /// More records in the log, which followers see. A new high watermark or log start is noted, but wakes nobody.
    Appended,
}

/// A watcher of partitions, each under a number that the watcher chose.
#[derive(Debug)]
pub struct Watch {
    interest: Interest,
    news: Mutex<BTreeSet<u32>>,
    woken: Notify,
}

impl Watch {
    pub fn new(interest: Interest) -> Arc<Self> {
        Arc::new(Self {
            interest,
            news: Mutex::default(),
            woken: Notify::new(),
        })
    }

    /// The partitions that have news since this was called last.
    pub fn take(&self) -> BTreeSet<u32> {
        std::mem::take(&mut *self.news.lock().expect("no holder panics"))
    }

    /// Returns when there is something that wakes, or was since this returned last.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    fn tell(&self, number: u32, wake: bool) {
        self.news.lock().expect("no holder panics").insert(number);
        if wake {
            self.woken.notify_one();
        }
    }
}

/// The watchers of one partition. Watchers that have gone away are dropped when the next one is added.
#[derive(Default)]
pub(super) struct Watchers(Mutex<Vec<(Weak<Watch>, u32)>>);

impl Watchers {
    pub fn add(&self, watch: &Arc<Watch>, number: u32) {
        let mut watchers = self.0.lock().expect("no holder panics");
        watchers.retain(|(other, _)| other.strong_count() > 0);
        watchers.push((Arc::downgrade(watch), number));
    }

    /// Says that `committed` or `appended` records have changed.
    pub fn tell(&self, committed: bool, appended: bool) {
        for (watch, number) in self.0.lock().expect("no holder panics").iter() {
            let Some(watch) = watch.upgrade() else {
                continue;
            };
            match watch.interest {
                Interest::Committed if committed => watch.tell(*number, true),
                Interest::Appended => watch.tell(*number, appended),
                Interest::Committed => {}
            }
        }
    }
}
