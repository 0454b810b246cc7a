//! The client at the other end of a connection, as the handlers of its requests see it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The facts about a peer that handlers use.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Kafka's form: a slash and the address.
    pub host: Arc<str>,
    /// The listener that the client came in by.
    pub listener: Arc<str>,
    muted_until: Arc<Mutex<Option<Instant>>>,
}

impl Peer {
    pub fn new(host: Arc<str>, listener: Arc<str>) -> Self {
        Self {
            host,
            listener,
            muted_until: Arc::default(),
        }
    }

    /// Begins no request of the client for this long: it has exceeded its quota (KIP-219).
    pub fn mute(&self, wait: Duration) {
        if !wait.is_zero() {
            let mut until = self.muted_until.lock().expect("no holder panics");
            *until = (*until).max(Some(Instant::now() + wait));
        }
    }

    pub async fn wait_while_muted(&self) {
        let muted = self.muted_until.lock().expect("no holder panics").take();
        if let Some(until) = muted {
            tokio::time::sleep_until(until.into()).await;
        }
    }
}
