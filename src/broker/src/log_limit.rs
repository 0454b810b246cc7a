//! How often a line about the same thing may be written. Pure.
//!
//! A store that fails makes every consumer and every partition fail, as often as they ask. One line a subject and interval
//! says it; how many there were is in the next line and in a counter.

use std::collections::HashMap;
use std::hash::Hash;

use strandline_types::MonotonicMs;

/// Between two lines about one subject.
const INTERVAL_MS: i64 = 10_000;
/// Lines in that time about all subjects together.
const MOST_LINES: usize = 10;
/// Subjects that are remembered.
const MAX_SUBJECTS: usize = 10_000;

/// The subjects of the latest lines.
#[derive(Debug)]
pub struct LogLimit<K> {
    subjects: HashMap<K, Subject>,
    /// When the last lines were written, the oldest first.
    lines: Vec<MonotonicMs>,
}

#[derive(Debug, Default)]
struct Subject {
    said: Option<MonotonicMs>,
    unsaid: u64,
}

impl<K> Default for LogLimit<K> {
    fn default() -> Self {
        Self {
            subjects: HashMap::new(),
            lines: Vec::new(),
        }
    }
}

impl<K: Hash + Eq> LogLimit<K> {
    /// Whether a line may be written now; how many of its subject were not since the last one.
    pub fn line(&mut self, subject: K, now: MonotonicMs) -> Option<u64> {
        let is_recent = |at: &MonotonicMs| now.ms_since(*at) < INTERVAL_MS;
        self.lines.retain(is_recent);
        if self.subjects.len() >= MAX_SUBJECTS {
            self.subjects
                .retain(|_, subject| subject.said.as_ref().is_some_and(is_recent));
        }
        if self.subjects.len() >= MAX_SUBJECTS && !self.subjects.contains_key(&subject) {
            return None;
        }
        let subject = self.subjects.entry(subject).or_default();
        if self.lines.len() >= MOST_LINES || subject.said.as_ref().is_some_and(is_recent) {
            subject.unsaid = subject.unsaid.saturating_add(1);
            return None;
        }
        subject.said = Some(now);
        self.lines.push(now);
        Some(std::mem::take(&mut subject.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_subject_and_interval_and_the_rest_is_counted() {
        let mut limit = LogLimit::default();
        let start = MonotonicMs::default();
        assert_eq!(limit.line("p", start), Some(0));
        for ms in 1..1000 {
            assert_eq!(limit.line("p", start.plus_ms(ms)), None);
        }
        assert_eq!(limit.line("q", start.plus_ms(5)), Some(0));
        assert_eq!(limit.line("p", start.plus_ms(INTERVAL_MS)), Some(999));
        assert_eq!(limit.line("p", start.plus_ms(2 * INTERVAL_MS)), Some(0));
    }

    #[test]
    fn many_subjects_share_a_number_of_lines_and_none_is_remembered_for_ever() {
        let mut limit = LogLimit::default();
        let start = MonotonicMs::default();
        let lines = (0..100_000).filter(|n| limit.line(*n, start).is_some());
        assert_eq!(lines.count(), MOST_LINES);
        assert!(limit.subjects.len() <= MAX_SUBJECTS);
        let later = start.plus_ms(INTERVAL_MS);
        assert!(limit.line(1_000_000, later).is_some());
        assert!(limit.subjects.len() <= MAX_SUBJECTS);
    }
}
