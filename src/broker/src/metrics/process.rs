//! The process itself, as Prometheus' own client libraries report it.

use super::page::Page;
use crate::descriptors;

pub(super) fn render(page: &mut Page) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold spaces; the fields behind it are counted from the state, the third.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    let field = |number: usize| -> f64 {
        let text = fields.get(number - 3);
        text.and_then(|t| t.parse().ok()).unwrap_or_default()
    };
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page_bytes = rustix::param::page_size() as f64;
    let files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "User and system time.",
            (field(14) + field(15)) / ticks,
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory.",
            field(24) * page_bytes,
        ),
        (
            "process_open_fds",
            "gauge",
            "Open file descriptors.",
            files as f64,
        ),
        (
            "process_max_fds",
            "gauge",
            "File descriptors that may be open (RLIMIT_NOFILE).",
            descriptors::limit() as f64,
        ),
    ] {
        page.family(name, kind, help);
        page.sample(name, &[], value);
    }
}
