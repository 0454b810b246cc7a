//! Decides whether the indexes beside a segment fit its log, and rebuilds indexes that do not.
//!
//! The check runs for every segment when a log is opened. The check reads the last entries and the batches behind them,
//! not the log, so that a start does not get slower with the bytes on disk. Each look-up checks the entries in the
//! middle (`look_up.rs`). Indexes that do not fit are rebuilt from the batch headers, as Kafka does.
//! Crash consistency: a crash in a rebuild leaves short indexes, which the next start finds too short.

use strandline_types::Offset;
use strandline_wire::batch::BatchHeader;

use crate::error::LogError;
use crate::header_walk::HeaderWalk;
use crate::index::{EntrySpacing, Found};
use crate::index_builder::IndexBuilder;
use crate::segment::Segment;

/// Bytes behind the last entry of an offset index up to which no entry is missing, whatever `index.interval.bytes` was
/// when the index was written.
const LONGEST_TAIL_BYTES: u64 = 1 << 16;

/// The reason why a segment's indexes are damaged; `None` if they fit. The next segment begins at `end_offset`.
pub(crate) fn damage(
    segment: &Segment,
    end_offset: Offset,
    index_interval_bytes: u32,
) -> Result<Option<&'static str>, LogError> {
    let bytes = segment.bytes();
    let found = [segment.offset_index.0.found, segment.time_index.0.found];
    if bytes > 0 && found.contains(&Found::Missing) {
        return Ok(Some("an index is missing"));
    }
    if found.contains(&Found::Torn) {
        return Ok(Some("the last entry of an index is cut off"));
    }
    let last = segment
        .offset_index
        .last()
        .map_err(LogError::io(&segment.offset_index.0.path))?;
    let indexed = last.map(|(relative, position)| {
        (
            segment.base_offset + i64::from(relative),
            u64::from(position),
        )
    });
    let start = indexed.map_or(0, |(_, position)| position);
    let most = LONGEST_TAIL_BYTES.max(2 * u64::from(index_interval_bytes));
    let Some(tail) = Tail::read(segment, start, most) else {
        return Ok(Some("the offset index names no batch"));
    };
    if let Some((offset, _)) = indexed
        && tail.first_last_offset != Some(offset)
    {
        return Ok(Some("the offset index names another batch"));
    }
    if indexed.is_some_and(|(offset, _)| offset >= end_offset) {
        return Ok(Some("the offset index reaches over the segment's end"));
    }
    if tail.is_too_long || (indexed.is_none() && tail.misses_entry(index_interval_bytes)) {
        return Ok(Some("the offset index ends too early"));
    }
    time_damage(segment, &tail, end_offset)
}

fn time_damage(
    segment: &Segment,
    tail: &Tail,
    end_offset: Offset,
) -> Result<Option<&'static str>, LogError> {
    let failed = LogError::io(&segment.time_index.0.path);
    let Some((timestamp, relative)) = segment.time_index.last().map_err(failed)? else {
        let bytes = segment.bytes();
        let first = segment.header_at(0, bytes).ok().flatten();
        let has_timestamps = tail.max_timestamp >= 0 || first.is_some_and(|h| h.max_timestamp >= 0);
        return Ok(has_timestamps.then_some("the time index is empty"));
    };
    if tail.max_timestamp > timestamp {
        return Ok(Some("the time index ends too early"));
    }
    let offset = segment.base_offset + i64::from(relative);
    if offset >= end_offset {
        return Ok(Some("the time index reaches over the segment's end"));
    }
    let named = match segment.find_batch(offset, segment.bytes()) {
        Ok(named) => named,
        Err(LogError::Corrupt { .. }) => None,
        Err(error) => return Err(error),
    };
    let fits = named.is_some_and(|(_, h)| h.base_offset <= offset && h.max_timestamp == timestamp);
    Ok((!fits).then_some("the time index names another batch"))
}

/// The batches behind the last entry of an offset index.
#[derive(Debug, Default)]
struct Tail {
    /// Last offset of the batch that the entry names.
    first_last_offset: Option<Offset>,
    max_timestamp: i64,
    /// Bytes in front of its last batch.
    bytes_before_last: u64,
    is_too_long: bool,
}

impl Tail {
    /// `None` if no batch begins at `start`, though there are bytes.
    fn read(segment: &Segment, start: u64, most: u64) -> Option<Self> {
        let mut headers = HeaderWalk::new(segment);
        let mut tail = Self {
            max_timestamp: -1,
            ..Self::default()
        };
        let mut position = start;
        // A damaged batch is not the index's fault: reading the batch reports the damage.
        while let Ok(Some(header)) = headers.header_at(position) {
            tail.note(&header, position - start);
            if position - start > most {
                tail.is_too_long = true;
                break;
            }
            position += header.size() as u64;
        }
        (start == 0 || tail.first_last_offset.is_some()).then_some(tail)
    }

    fn note(&mut self, header: &BatchHeader, bytes_before: u64) {
        self.first_last_offset.get_or_insert(header.last_offset());
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        self.bytes_before_last = bytes_before;
    }

    /// Without any entry, the tail is the whole segment: a batch behind so many bytes would have had one.
    fn misses_entry(&self, index_interval_bytes: u32) -> bool {
        self.bytes_before_last > u64::from(index_interval_bytes)
    }
}

/// Builds both indexes of a sealed segment from its batch headers. Stops at a batch that cannot be read.
pub(crate) fn rebuild(segment: &Segment, index_interval_bytes: u32) -> Result<(), LogError> {
    segment.reset_timestamps();
    let mut builder = IndexBuilder::begin(segment)?;
    let mut spacing = EntrySpacing::new(index_interval_bytes, 0);
    let mut headers = HeaderWalk::new(segment);
    let mut position = 0;
    while let Ok(Some(header)) = headers.header_at(position) {
        segment.note_timestamp(header.max_timestamp, header.last_offset());
        if spacing.passes(header.size() as u64) {
            builder.push(header.last_offset(), position)?;
        }
        position += header.size() as u64;
    }
    builder.finish()?;
    segment.finish_indexes()
}
