//! Checks the batches of the last segments before a log is used, and truncates a torn tail.
//!
//! Three findings are kept apart. Bytes that are no batch at or above the recovery point were never flushed: they are
//! truncated. The same bytes below the recovery point were flushed once: nothing is truncated and no byte changes
//! ([`LogError::Corrupt`]). A read that fails proves nothing about the bytes ([`LogError::Io`]): nothing is truncated
//! either.

use std::sync::Arc;

use strandline_types::Offset;
use strandline_wire::batch::{BatchHeader, verify_crc};
use tracing::warn;

use crate::error::LogError;
use crate::header_walk::HeaderWalk;
use crate::segment::Segment;

/// Which batches are checked, and how.
pub(crate) struct TailCheck {
    /// Index of the first segment that is checked.
    pub first: usize,
    /// Index of the first segment that may hold bytes that were never flushed.
    pub first_unflushed: usize,
    /// Checksums are verified of batches that end above this offset.
    pub verify_above: Offset,
    /// Bytes below this offset are never truncated.
    pub cut_from: Offset,
}

/// Where a segment stops being batches.
struct Damage {
    position: u64,
    offset: Offset,
    reason: String,
}

impl TailCheck {
    /// Checks the segments and truncates a torn tail. Segments behind the truncation are removed from `segments`, the
    /// newest first, so that a crash leaves no hole.
    pub fn run(&self, segments: &mut Vec<Arc<Segment>>) -> Result<(), LogError> {
        let mut torn = None;
        for (at, segment) in segments.iter().enumerate().skip(self.first) {
            if let Some(damage) = self.find_damage(at, segment)? {
                if damage.offset < self.cut_from {
                    return Err(LogError::Corrupt {
                        path: segment.log_path.clone(),
                        position: damage.position,
                        offset: damage.offset,
                        reason: damage.reason,
                    });
                }
                torn = Some((at, damage));
                break;
            }
        }
        let Some((at, damage)) = torn else {
            return Ok(());
        };
        for segment in segments.drain(at + 1..).rev() {
            warn!(path = %segment.log_path.display(), "a segment behind a torn one is removed");
            segment.remove_files()?;
        }
        segments.last().map_or(Ok(()), |last| cut(last, &damage))
    }

    fn find_damage(&self, at: usize, segment: &Segment) -> Result<Option<Damage>, LogError> {
        let limit = segment.bytes();
        let mut headers = HeaderWalk::new(segment);
        let (mut position, mut offset) = (0, segment.base_offset);
        while position < limit {
            match self.check_batch(at, segment, &mut headers, position, offset)? {
                Ok(header) => {
                    offset = header.end_offset();
                    position += header.size() as u64;
                }
                Err(reason) => {
                    return Ok(Some(Damage {
                        position,
                        offset,
                        reason,
                    }));
                }
            }
        }
        Ok(None)
    }

    /// The header of a whole batch, or the defect of its bytes. Below the recovery point the header is enough: the
    /// bytes were flushed.
    fn check_batch(
        &self,
        at: usize,
        segment: &Segment,
        headers: &mut HeaderWalk<'_>,
        position: u64,
        min_offset: Offset,
    ) -> Result<Result<BatchHeader, String>, LogError> {
        let header = match headers.header_at(position) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(Err("the batch header is cut off".to_owned())),
            Err(LogError::Corrupt { reason, .. }) => return Ok(Err(reason)),
            Err(error) => return Err(error),
        };
        if position.saturating_add(header.size() as u64) > segment.bytes() {
            return Ok(Err("the batch is cut off".to_owned()));
        }
        if header.base_offset < min_offset || header.last_offset_delta < 0 {
            let reason = format!("offset {} follows {min_offset}", header.base_offset);
            return Ok(Err(reason));
        }
        if at >= self.first_unflushed && header.end_offset() > self.verify_above {
            let mut batch = vec![0; header.size()];
            let read = segment.read_at(&mut batch, position);
            read.map_err(LogError::io(&segment.log_path))?;
            if let Err(error) = verify_crc(&header, &batch) {
                return Ok(Err(error.to_string()));
            }
        }
        Ok(Ok(header))
    }
}

fn cut(segment: &Segment, damage: &Damage) -> Result<(), LogError> {
    let (path, position, offset) = (&segment.log_path, damage.position, damage.offset);
    warn!(path = %path.display(), position, offset, reason = damage.reason, "a torn tail is truncated");
    let file = segment.file();
    file.set_len(position).map_err(LogError::io(path))?;
    file.sync_all().map_err(LogError::io(path))?;
    segment.publish_bytes(position);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario_tests::{filled, flush};

    #[test]
    fn a_read_that_fails_is_an_error_and_nothing_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = filled(directory.path(), 20);
        flush(&mut log);
        drop(log);
        let path = directory.path().join(format!("{:020}.log", 0));
        let before = std::fs::read(&path).unwrap();
        let open = std::fs::OpenOptions::new().write(true).open(&path);
        let unreadable = Segment::open(directory.path(), 0).unwrap();
        let unreadable = unreadable.with_file(open.unwrap());
        let check = TailCheck {
            first: 0,
            first_unflushed: 0,
            verify_above: 0,
            cut_from: 0,
        };
        let result = check.run(&mut vec![Arc::new(unreadable)]);
        assert!(matches!(result, Err(LogError::Io { .. })), "{result:?}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
