//! The memory that clients can make the broker use for requests and answers, in bytes. `docs/LIMITS.md` lists these
//! budgets with every other bound.
//!
//! A [`Budget`] counts bytes; [`Held`] is a part of it that returns when the value, or the buffer that owns it, is
//! dropped. Invariant: a caller that waits for a budget holds nothing of the same budget, so no wait is for ever.

mod answers;
mod budget;
mod requests;

use strandline_metadata::config::BrokerConfig;
use tokio::sync::Semaphore;

pub use answers::AnswerMemory;
pub use budget::{Budget, Held};
pub use requests::{Allowance, READ_BYTES, RequestMemory};

/// The memory of a broker for the requests and the answers of its clients.
pub struct Memory {
    pub requests: RequestMemory,
    pub answers: AnswerMemory,
    /// One permit for each batch that a codec works on: a zstd decoder may hold a window of 128 MiB.
    pub codecs: Semaphore,
}

/// Batches that codecs work on at the same time.
const CODECS: usize = 4;

impl Memory {
    pub fn of(config: &BrokerConfig) -> Self {
        Self {
            requests: RequestMemory::new(config.number("queued.max.request.bytes")),
            answers: AnswerMemory::new(config.number("strandline.queued.max.response.bytes")),
            codecs: Semaphore::new(codecs()),
        }
    }
}

/// Half of the processors, because the other work goes on meanwhile.
fn codecs() -> usize {
    let processors = std::thread::available_parallelism().map_or(2, usize::from);
    (processors / 2).clamp(1, CODECS)
}
