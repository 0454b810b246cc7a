//! The memory that requests and answers of clients hold, beside its limits.

use super::page::Page;
use crate::fetch_session::FetchSessions;
use crate::memory::Memory;

pub(super) fn render(page: &mut Page, memory: &Memory, sessions: &FetchSessions) {
    const NAME: &str = "strandline_memory_bytes";
    const LIMIT: &str = "strandline_memory_limit_bytes";
    let kinds = [
        ("requests", memory.requests.usage()),
        ("answers", memory.answers.usage()),
        ("fetch-sessions", sessions.usage()),
    ];
    let help =
        "Bytes that requests and answers of clients hold above the allowances of connections.";
    page.family(NAME, "gauge", help);
    for (kind, (used, _)) in kinds {
        page.sample(NAME, &[("kind", kind)], used);
    }
    let help = "The limits of strandline_memory_bytes.";
    page.family(LIMIT, "gauge", help);
    for (kind, (_, limit)) in kinds {
        page.sample(LIMIT, &[("kind", kind)], limit);
    }
}
