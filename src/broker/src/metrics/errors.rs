//! Errors in answers, by API and code.

use std::collections::BTreeMap;
use std::sync::Mutex;

use strandline_wire::{ApiKey, ErrorCode};

use super::Metrics;
use super::page::Page;

/// Key of the API and code of the error; no more pairs than APIs and codes make.
#[derive(Default)]
pub(super) struct RequestErrors(Mutex<BTreeMap<(i16, i16), u64>>);

impl Metrics {
    /// Counts a code of an answer; 0 is no error.
    pub fn answered(&self, key: ApiKey, code: i16) {
        if code != ErrorCode::None.code() {
            let mut counts = self.errors.0.lock().expect("no holder panics");
            *counts.entry((key as i16, code)).or_default() += 1;
        }
    }
}

pub(super) fn render(page: &mut Page, errors: &RequestErrors) {
    const NAME: &str = "kafka_network_requestmetrics_errors_total";
    page.family(
        NAME,
        "counter",
        "Errors in answers, by API and code: one for each topic, partition or group that has one.",
    );
    let counts = errors.0.lock().expect("no holder panics").clone();
    for ((key, code), count) in counts {
        let (Ok(api), Some(error)) = (ApiKey::try_from(key), ErrorCode::from_code(code)) else {
            continue;
        };
        let request = format!("{api:?}");
        let labels = [("request", request.as_str()), ("error", error.name())];
        page.sample(NAME, &labels, count);
    }
}
