//! Which record a timestamp means (`ListOffsets`), in the segments of a view.
//!
//! Timestamps need not ascend: a later batch may be older. The answer is the first record in offset order at or above
//! the timestamp, and within `[from, limit_offset)`: a batch that reaches over either border counts in part. Indexes only
//! say where a search may begin; a wrong entry is noticed (`look_up.rs`) and costs a longer scan.

use std::ops::ControlFlow;

use strandline_types::{Offset, TimestampMs};
use strandline_wire::batch::{BatchHeader, RecordError, Records};

use crate::error::LogError;
use crate::segment::Segment;
use crate::view::LogView;

/// A record found by timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundTimestamp {
    pub offset: Offset,
    pub timestamp_ms: TimestampMs,
}

impl FoundTimestamp {
    /// Whether this is the better answer for "the largest timestamp": of equal ones the first counts.
    pub fn is_later_than(&self, other: &Self) -> bool {
        (self.timestamp_ms, -self.offset) > (other.timestamp_ms, -other.offset)
    }
}

/// The offsets that a search may answer with.
#[derive(Clone, Copy)]
struct Range {
    from: Offset,
    /// Exclusive.
    limit: Offset,
}

impl Range {
    fn holds(self, offset: Offset) -> bool {
        (self.from..self.limit).contains(&offset)
    }

    fn holds_all_of(self, header: &BatchHeader) -> bool {
        header.base_offset >= self.from && header.last_offset() < self.limit
    }
}

impl LogView {
    /// The first record at or after `from` whose timestamp is at least `timestamp_ms`, below `limit_offset`.
    pub fn find_timestamp(
        &self,
        timestamp_ms: TimestampMs,
        from: Offset,
        limit_offset: Offset,
    ) -> Result<Option<FoundTimestamp>, LogError> {
        let range = Range {
            from,
            limit: limit_offset,
        };
        for segment in self.segments_within(range) {
            if segment.max_timestamp_ms() >= timestamp_ms
                && let Some(found) = first_at_or_above(segment, timestamp_ms, range)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp in `[from, limit_offset)`; of several, the first. `None` if none has one.
    pub fn find_max_timestamp(
        &self,
        from: Offset,
        limit_offset: Offset,
    ) -> Result<Option<FoundTimestamp>, LogError> {
        let range = Range {
            from,
            limit: limit_offset,
        };
        let mut candidates: Vec<_> = self.segments_within(range).collect();
        candidates.sort_by_key(|s| std::cmp::Reverse(s.max_timestamp_ms()));
        let mut best: Option<FoundTimestamp> = None;
        for segment in candidates {
            let most = segment.max_timestamp_ms();
            if most < 0 || best.is_some_and(|b| b.timestamp_ms > most) {
                break;
            }
            let found = largest(segment, range)?;
            if let Some(found) = found
                && best.is_none_or(|b| found.is_later_than(&b))
            {
                best = Some(found);
            }
        }
        Ok(best)
    }

    /// The segments that may hold offsets of `range`, in order.
    fn segments_within(&self, range: Range) -> impl Iterator<Item = &Segment> {
        self.segments
            .iter()
            .enumerate()
            .filter(move |(at, segment)| {
                segment.base_offset < range.limit && self.segment_end_offset(*at) > range.from
            })
            .map(|(_, segment)| segment.as_ref())
    }
}

fn first_at_or_above(
    segment: &Segment,
    timestamp_ms: TimestampMs,
    range: Range,
) -> Result<Option<FoundTimestamp>, LogError> {
    let bytes = segment.bytes();
    let Some((by_offset, _)) = segment.find_batch(range.from, bytes)? else {
        return Ok(None);
    };
    let by_time = segment.batch_before_timestamp(timestamp_ms, bytes)?;
    let mut position = by_time.map_or(by_offset, |(position, _)| position.max(by_offset));
    while let Some(header) = segment.header_at(position, bytes)? {
        if header.base_offset >= range.limit {
            break;
        }
        if header.max_timestamp >= timestamp_ms {
            let mut found = None;
            visit_records(segment, position, header, |record| {
                if range.holds(record.offset) && record.timestamp_ms >= timestamp_ms {
                    found = Some(record);
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        position += header.size() as u64;
    }
    Ok(None)
}

/// The record with the largest timestamp of a segment. The walk begins at the largest one that the time index knows, so
/// that only the segment's tail is read.
fn largest(segment: &Segment, range: Range) -> Result<Option<FoundTimestamp>, LogError> {
    let bytes = segment.bytes();
    let Some((first, _)) = segment.find_batch(range.from, bytes)? else {
        return Ok(None);
    };
    let known = segment.largest_batch_below(range.limit, bytes)?;
    let known = known.filter(|(_, header)| range.holds_all_of(header));
    let mut position = known.map_or(first, |(position, _)| position);
    let mut best: Option<FoundTimestamp> = None;
    while let Some(header) = segment.header_at(position, bytes)? {
        if header.base_offset >= range.limit {
            break;
        }
        if best.is_none_or(|b| b.timestamp_ms < header.max_timestamp) {
            visit_records(segment, position, header, |record| {
                let counts = record.timestamp_ms >= 0 && range.holds(record.offset);
                if counts && best.is_none_or(|b| record.is_later_than(&b)) {
                    best = Some(record);
                }
                ControlFlow::Continue(())
            })?;
        }
        position += header.size() as u64;
    }
    Ok(best)
}

/// Shows the records of the batch at `position` in order, until `visit` has seen enough.
fn visit_records(
    segment: &Segment,
    position: u64,
    header: BatchHeader,
    mut visit: impl FnMut(FoundTimestamp) -> ControlFlow<()>,
) -> Result<(), LogError> {
    let mut batch = vec![0; header.size()];
    segment
        .read_at(&mut batch, position)
        .map_err(LogError::io(&segment.log_path))?;
    let corrupt = |error: RecordError| LogError::Corrupt {
        path: segment.log_path.clone(),
        position,
        offset: header.base_offset,
        reason: error.to_string(),
    };
    let mut records = Records::new(header, &batch).map_err(corrupt)?;
    while let Some(record) = records.next_record().map_err(corrupt)? {
        let found = FoundTimestamp {
            offset: record.offset,
            timestamp_ms: record.timestamp,
        };
        if visit(found).is_break() {
            break;
        }
    }
    Ok(())
}
