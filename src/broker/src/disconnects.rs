//! Connections that the broker closes: each one is counted, and the log has a few of each cause a minute, with the
//! peer, the API, its version and the reason. Connections that the peer closes are not counted here.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use strandline_types::{AdmittedLine, LogWindow};
use strandline_wire::ApiKey;

/// Lines of one cause in a [`WINDOW`].
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Why the broker closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The size in front of a frame cannot be one, or exceeds `socket.request.max.bytes`.
    FrameSize,
    /// A frame that has begun comes too slowly.
    SlowFrame,
    /// The bytes of a request are not a message of its API and version.
    Malformed,
    /// The API or its version is not answered here.
    Unsupported,
    /// A produce with `acks=0` failed; its client can learn so in no other way.
    FailedProduce,
    /// The answer cannot be encoded or sent: a defect of the broker.
    Internal,
    /// The client sent nothing for `connections.max.idle.ms`.
    Idle,
    /// Requests of others hold the memory for one more (`queued.max.request.bytes`).
    NoMemory,
    /// The client does not read its answer.
    SlowReader,
    /// `max.connections`
    TooMany,
    /// `max.connections.per.ip`
    TooManyPerIp,
}

impl Cause {
    pub const ALL: [Self; 11] = [
        Self::FrameSize,
        Self::SlowFrame,
        Self::Malformed,
        Self::Unsupported,
        Self::FailedProduce,
        Self::Internal,
        Self::Idle,
        Self::NoMemory,
        Self::SlowReader,
        Self::TooMany,
        Self::TooManyPerIp,
    ];

    /// The label of the metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::FrameSize => "frame-size",
            Self::SlowFrame => "slow-frame",
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
            Self::FailedProduce => "failed-produce",
            Self::Internal => "internal",
            Self::Idle => "idle",
            Self::NoMemory => "no-memory",
            Self::SlowReader => "slow-reader",
            Self::TooMany => "max-connections",
            Self::TooManyPerIp => "max-connections-per-ip",
        }
    }
}

/// API key and version as the client sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestedApi {
    pub key: i16,
    pub version: i16,
}

impl fmt::Display for RequestedApi {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ApiKey::try_from(self.key) {
            Ok(key) => write!(out, "{key:?}"),
            Err(()) => write!(out, "{}", self.key),
        }
    }
}

/// The end of one connection.
#[derive(Clone, Debug)]
pub struct Disconnect {
    pub cause: Cause,
    /// The request at fault, where one was read.
    pub api: Option<RequestedApi>,
    pub reason: String,
}

/// Counts of all causes, and of the lines that the log has of each.
#[derive(Default)]
pub struct Disconnects {
    causes: [OneCause; Cause::ALL.len()],
}

struct OneCause {
    count: AtomicU64,
    window: Mutex<LogWindow>,
}

impl Default for OneCause {
    fn default() -> Self {
        Self {
            count: AtomicU64::new(0),
            window: Mutex::new(LogWindow::new(LINES, WINDOW)),
        }
    }
}

impl Disconnects {
    /// Notes that the broker closes the connection of `peer`.
    pub fn note(&self, peer: SocketAddr, listener: &str, disconnect: &Disconnect) {
        let Disconnect { cause, api, reason } = disconnect;
        let Some(one) = self.causes.get(*cause as usize) else {
            return;
        };
        one.count.fetch_add(1, Ordering::Relaxed);
        let mut window = one.window.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(AdmittedLine { left_out, last }) = window.admit(Instant::now()) else {
            return;
        };
        drop(window);
        let cause_name = cause.name();
        let version = api.map(|a| a.version);
        let api = api.map(tracing::field::display);
        // Values that are not there are left out of the line.
        let left_out = (left_out > 0).then_some(left_out);
        let quiet_seconds = last.then_some(WINDOW.as_secs());
        if *cause == Cause::Idle {
            tracing::info!(%peer, listener, cause = cause_name, api, version, %reason, left_out, quiet_seconds, "the broker closes a connection");
        } else {
            tracing::warn!(%peer, listener, cause = cause_name, api, version, %reason, left_out, quiet_seconds, "the broker closes a connection");
        }
    }

    /// Connections that were closed, by cause.
    pub fn counts(&self) -> impl Iterator<Item = (Cause, u64)> {
        let causes = Cause::ALL.into_iter().zip(&self.causes);
        causes.map(|(cause, one)| (cause, one.count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_place_and_a_label_of_its_own() {
        for (place, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, place);
            let same = Cause::ALL.iter().filter(|c| c.name() == cause.name());
            assert_eq!(same.count(), 1, "{}", cause.name());
        }
    }
}
