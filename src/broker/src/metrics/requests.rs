//! Requests by API, and connections that the broker closed.

use std::time::Duration;

use strandline_wire::ApiKey;

use super::Metrics;
use super::page::Page;
use crate::disconnects::Disconnects;

impl Metrics {
    pub fn request_done(&self, key: ApiKey, elapsed: Duration) {
        let known = self
            .requests
            .read()
            .expect("no holder panics")
            .get(&(key as i16))
            .cloned();
        let latencies = known.unwrap_or_else(|| {
            let mut requests = self.requests.write().expect("no holder panics");
            requests.entry(key as i16).or_default().clone()
        });
        latencies.record(elapsed);
    }
}

pub(super) fn render(page: &mut Page, metrics: &Metrics) {
    const NAME: &str = "kafka_network_requestmetrics_totaltimems";
    page.family(
        NAME,
        "summary",
        "Time from a request's arrival to its answer.",
    );
    for (key, latencies) in metrics.requests.read().expect("no holder panics").iter() {
        let Ok(api) = ApiKey::try_from(*key) else {
            continue;
        };
        let request = format!("{api:?}");
        page.summary(NAME, &[("request", request.as_str())], latencies);
    }
}

pub(super) fn render_disconnects(page: &mut Page, disconnects: &Disconnects) {
    const NAME: &str = "strandline_connections_closed_total";
    let help = "Client connections that the broker closed, by cause.";
    page.family(NAME, "counter", help);
    for (cause, count) in disconnects.counts() {
        page.sample(NAME, &[("cause", cause.name())], count);
    }
}
