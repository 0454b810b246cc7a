//! A page in Prometheus' text format.

use crate::latencies::Latencies;

/// Escapes a label's value for Prometheus' text format.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

pub(super) struct Page(String);

impl Page {
    pub fn new() -> Self {
        Self(String::new())
    }

    pub fn into_text(self) -> String {
        self.0
    }

    /// The head of a metric, before its samples.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.0
            .push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// The samples of a summary of times, in milliseconds.
    pub fn summary(&mut self, name: &str, labels: &[(&str, &str)], times: &Latencies) {
        for quantile in [0.5, 0.95, 0.99, 0.999] {
            let text = quantile.to_string();
            let mut with_quantile = labels.to_vec();
            with_quantile.push(("quantile", &text));
            self.sample(name, &with_quantile, times.quantile_ms(quantile));
        }
        self.sample(&format!("{name}_sum"), labels, times.sum_ms());
        self.sample(&format!("{name}_count"), labels, times.count());
    }

    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        if !labels.is_empty() {
            let labels: Vec<_> = labels
                .iter()
                .map(|(k, v)| format!("{k}=\"{}\"", escape(v)))
                .collect();
            self.0.push_str(&format!("{{{}}}", labels.join(",")));
        }
        self.0.push_str(&format!(" {value}\n"));
    }
}
