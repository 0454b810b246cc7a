//! The log lines of servers in this process: shown with a test that fails, and kept for tests that look for a line.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::{MakeWriterExt, TestWriter};

/// Bytes that are kept; the oldest half goes when they are exceeded.
const MAX_KEPT_BYTES: usize = 8 << 20;

static KEPT: Mutex<String> = Mutex::new(String::new());

#[derive(Clone, Copy)]
struct Keep;

impl Write for Keep {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() > MAX_KEPT_BYTES {
            let half = kept.len() / 2;
            let from = kept.match_indices('\n').find(|(at, _)| *at >= half);
            let from = from.map_or(kept.len(), |(at, _)| at + 1);
            *kept = kept.split_off(from);
        }
        kept.push_str(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Keep {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

/// Writes the log lines of servers to the output of the test that fails; `RUST_LOG` sets the level.
pub(crate) fn show_logs() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| {
        tracing_subscriber::EnvFilter::new("info,openraft=warn,object_store=warn")
    });
    // The first test of a process sets the subscriber for all.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(TestWriter::default().and(Keep))
        .try_init();
}

/// Lines that servers of this process have logged and that contain all of `parts`. Tests of one process share the log:
/// a part must name the test's own server, client or topic.
pub fn logged(parts: &[&str]) -> Vec<String> {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = kept.lines();
    lines
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .map(str::to_owned)
        .collect()
}
