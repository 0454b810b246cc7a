//! Connections of clients, by listener.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::page::Page;

/// The listeners, of which there are as many as the settings name.
#[derive(Default)]
pub(crate) struct OpenConnections(Mutex<BTreeMap<Arc<str>, Arc<AtomicUsize>>>);

/// Counts as one open connection as long as it lives.
pub(crate) struct OpenConnection(Arc<AtomicUsize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl OpenConnections {
    pub fn opened(&self, listener: &Arc<str>) -> OpenConnection {
        let mut listeners = self.0.lock().expect("no holder panics");
        let count = listeners.entry(listener.clone()).or_default().clone();
        count.fetch_add(1, Ordering::Relaxed);
        OpenConnection(count)
    }
}

pub(super) fn render(page: &mut Page, connections: &OpenConnections) {
    const NAME: &str = "kafka_server_socket_server_metrics_connection_count";
    page.family(NAME, "gauge", "Connections of clients that are open.");
    let listeners = connections.0.lock().expect("no holder panics").clone();
    for (listener, count) in listeners {
        let labels = [("listener", &*listener)];
        page.sample(NAME, &labels, count.load(Ordering::Relaxed));
    }
}
