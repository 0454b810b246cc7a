//! The file `log-start-offset` of a partition's directory: records below its offset are deleted.
//!
//! Crash consistency: the log directory's checkpoint of log starts is written every few seconds, and knows a partition by
//! its name only. This file is durable before the first record goes, and lies in the directory of its topic id. A log start
//! at a segment border of a log without a cold tier needs no file: the first segment's name says the same.

use std::fs;
use std::io;
use std::path::Path;

use strandline_types::Offset;

use crate::checkpoint::write_atomically;
use crate::error::LogError;

const LOG_START: &str = "log-start-offset";
const VERSION: &str = "0";

/// Replaces the recorded log start; durable when this returns.
pub(crate) fn write_log_start(directory: &Path, offset: Offset) -> Result<(), LogError> {
    let path = directory.join(LOG_START);
    let text = format!("{VERSION}\n{offset}\n");
    write_atomically(&path, text.as_bytes()).map_err(LogError::io(&path))
}

/// The recorded log start, `None` where none was recorded. A file that cannot be read is an error: a lower log start would
/// bring deleted records back.
pub(crate) fn read_log_start(directory: &Path) -> Result<Option<Offset>, LogError> {
    let path = directory.join(LOG_START);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(LogError::io(&path))?,
    };
    let offset = parse(&text).ok_or_else(|| LogError::Damaged {
        path,
        reason: "the recorded log start cannot be read".to_owned(),
    })?;
    Ok(Some(offset))
}

fn parse(text: &str) -> Option<Offset> {
    let (version, offset) = text.strip_suffix('\n')?.split_once('\n')?;
    (version == VERSION).then_some(())?;
    offset.parse().ok().filter(|offset| *offset >= 0)
}

/// The first offset that can be read. No record exists below both the first local segment and the first remote one,
/// whatever log start was recorded.
pub(crate) fn log_start_at_open(
    recorded: Offset,
    first_local: Offset,
    first_remote: Option<Offset>,
) -> Offset {
    let first = first_remote.map_or(first_local, |remote| remote.min(first_local));
    recorded.max(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_log_start_comes_back_and_a_damaged_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read_log_start(directory.path()).unwrap(), None);
        write_log_start(directory.path(), 42).unwrap();
        let path = directory.path().join(LOG_START);
        assert_eq!(fs::read_to_string(&path).unwrap(), "0\n42\n");
        assert_eq!(read_log_start(directory.path()).unwrap(), Some(42));
        for damaged in ["", "0\n", "0\n42", "1\n42\n", "0\n-1\n", "0\n42\n\n"] {
            fs::write(&path, damaged).unwrap();
            assert!(read_log_start(directory.path()).is_err(), "{damaged:?}");
        }
    }

    #[test]
    fn the_log_starts_where_the_first_record_is() {
        let cases = [
            // recorded, first local, first remote, expected
            (0, 0, None, 0),
            (0, 10, None, 10),
            (15, 10, None, 15),
            (0, 10, Some(0), 0),
            (0, 10, Some(5), 5),
            (7, 10, Some(5), 7),
            (0, 10, Some(20), 10),
            (30, 10, Some(5), 30),
        ];
        for (recorded, local, remote, expected) in cases {
            let start = log_start_at_open(recorded, local, remote);
            assert_eq!(start, expected, "{recorded} {local} {remote:?}");
        }
    }
}
