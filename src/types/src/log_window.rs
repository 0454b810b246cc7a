//! A bound on the lines of one kind in the log. Pure: the caller gives the time.

use std::time::{Duration, Instant};

/// Admits a number of lines in each window of time and counts the others.
#[derive(Debug)]
pub struct LogWindow {
    max_lines: u32,
    length: Duration,
    began: Option<Instant>,
    lines: u32,
    left_out: u64,
}

/// A line that may be written.
#[derive(Debug, PartialEq, Eq)]
pub struct AdmittedLine {
    /// Lines left out since the last one that was written.
    pub left_out: u64,
    /// No more lines follow in this window.
    pub last: bool,
}

impl LogWindow {
    #[must_use]
    pub const fn new(max_lines: u32, length: Duration) -> Self {
        Self {
            max_lines,
            length,
            began: None,
            lines: 0,
            left_out: 0,
        }
    }

    /// `None` where the line is to be left out.
    pub fn admit(&mut self, now: Instant) -> Option<AdmittedLine> {
        let over = |began| now.saturating_duration_since(began) >= self.length;
        if self.began.is_none_or(over) {
            self.began = Some(now);
            self.lines = 0;
        }
        if self.lines >= self.max_lines {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(AdmittedLine {
            left_out: std::mem::take(&mut self.left_out),
            last: self.lines == self.max_lines,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_window_are_bounded_and_the_next_one_says_how_many_were_left_out() {
        let length = Duration::from_secs(60);
        let mut window = LogWindow::new(10, length);
        let start = Instant::now();
        for line in 1..=10 {
            let expected = AdmittedLine {
                left_out: 0,
                last: line == 10,
            };
            assert_eq!(window.admit(start), Some(expected));
        }
        for _ in 0..7 {
            assert_eq!(window.admit(start + length / 2), None);
        }
        let next = AdmittedLine {
            left_out: 7,
            last: false,
        };
        assert_eq!(window.admit(start + length), Some(next));
        let after = AdmittedLine {
            left_out: 0,
            last: false,
        };
        assert_eq!(window.admit(start + length), Some(after));
    }
}
