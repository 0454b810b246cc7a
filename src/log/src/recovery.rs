//! Opening a partition's directory after a clean or an unclean stop.
//!
//! Crash consistency. A crash can leave: a torn or garbage tail in the active segment; a segment file without indexes
//! or with stale ones; a snapshot or checkpoint `.tmp`; a new segment without its directory entry. Repair: the last
//! segments are walked batch by batch from the recovery point on, with CRC; the log is cut at the first bad byte and
//! later segments are removed; their indexes and the producer state are rebuilt. A bad byte *below* the recovery
//! point was once flushed and acknowledged: nothing is cut, the partition stays offline ([`LogError::Corrupt`]).

use std::fs;
use std::path::Path;
use std::sync::Arc;

use strandline_types::Offset;
use strandline_wire::batch::{BatchHeader, verify_crc};
use tracing::warn;

use crate::config::LogConfig;
use crate::epochs::LeaderEpochs;
use crate::error::LogError;
use crate::index_check;
use crate::producer_state::{ProducerState, read_snapshot};
use crate::segment::{Segment, file_name};

/// What opening found.
pub(crate) struct Recovered {
    pub segments: Vec<Arc<Segment>>,
    pub log_end_offset: Offset,
    pub producers: ProducerState,
    pub epochs: LeaderEpochs,
    /// Bytes of the active segment since its last index entry.
    pub bytes_since_index_entry: u64,
}

pub(crate) struct RecoveryInput<'a> {
    pub directory: &'a Path,
    pub config: &'a LogConfig,
    /// Everything below was flushed.
    pub recovery_point: Offset,
    /// The last stop was clean: nothing above the recovery point either can be torn.
    pub clean: bool,
    pub epochs: LeaderEpochs,
    /// Where a log without any segment begins.
    pub log_start_offset: Offset,
}

pub(crate) fn recover(input: RecoveryInput<'_>) -> Result<Recovered, LogError> {
    let directory = input.directory;
    let mut bases = segment_bases(directory)?;
    if bases.is_empty() {
        bases.push(input.log_start_offset.max(0));
    }
    let mut segments = Vec::with_capacity(bases.len());
    for base in &bases {
        segments.push(Arc::new(Segment::open(directory, *base)?));
    }
    let mut epochs = input.epochs;
    let first_unchecked = first_unchecked_segment(&segments, input.recovery_point, input.clean);
    let first_to_walk = first_segment_to_walk(&segments, first_unchecked, directory);
    let behind = segments.iter().skip(1);
    for (segment, next) in segments.iter().zip(behind).take(first_to_walk) {
        mend_indexes(segment, next.base_offset, input.config)?;
    }
    let mut producers =
        read_snapshot(&file_name(directory, bases[first_to_walk], "snapshot")).unwrap_or_default();
    let mut log_end_offset = bases[first_to_walk];
    let mut bytes_since_index_entry = 0;
    let mut keep = segments.len();
    for (at, segment) in segments.iter().enumerate().skip(first_to_walk) {
        let is_last = at + 1 == segments.len();
        if at > first_to_walk {
            // The walk passed a roll: its snapshot is written again in case the crash came before it.
            let snapshot = file_name(directory, segment.base_offset, "snapshot");
            if !snapshot.exists() {
                producers
                    .write_snapshot(&snapshot)
                    .map_err(LogError::io(&snapshot))?;
            }
        }
        let unchecked = at >= first_unchecked;
        let next_base = segments.get(at + 1).map_or(Offset::MAX, |s| s.base_offset);
        let walk = Walk {
            segment,
            config: input.config,
            check_from: input.recovery_point,
            log_start_offset: input.log_start_offset,
            unchecked,
            rebuild: unchecked || indexes_are_damaged(segment, next_base, input.config)?,
        };
        let end = walk.run(&mut producers, &mut epochs)?;
        if walk.rebuild && !is_last {
            segment.finish_indexes()?;
        }
        log_end_offset = end.end_offset;
        bytes_since_index_entry = end.bytes_since_index_entry;
        if end.cut && !is_last {
            keep = at + 1;
            break;
        }
    }
    for segment in &segments[keep..] {
        warn!(path = %segment.log_path.display(), "removing a segment behind a torn one");
        segment.remove_files()?;
    }
    segments.truncate(keep);
    epochs.truncate_from_end(log_end_offset.max(1));
    Ok(Recovered {
        segments,
        log_end_offset,
        producers,
        epochs,
        bytes_since_index_entry,
    })
}

/// Base offsets of the segments in a directory, ascending. Removes leftovers of interrupted writes.
fn segment_bases(directory: &Path) -> Result<Vec<Offset>, LogError> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(directory).map_err(LogError::io(directory))? {
        let path = entry.map_err(LogError::io(directory))?.path();
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        match extension {
            "log" => {
                let stem = path
                    .file_stem()
                    .and_then(|s| s.to_str())
                    .unwrap_or_default();
                bases.extend(stem.parse::<Offset>().ok());
            }
            "tmp" | "deleted" | "cleaned" => {
                fs::remove_file(&path).map_err(LogError::io(&path))?;
            }
            _ => {}
        }
    }
    bases.sort_unstable();
    Ok(bases)
}

/// Where the walk begins. The active segment is always walked, and the one before it where producers were active then,
/// because a snapshot knows one batch of each and five must be recognised. After an unclean stop, so is everything that
/// reaches above the recovery point.
fn first_segment_to_walk(
    segments: &[Arc<Segment>],
    first_unchecked: usize,
    directory: &Path,
) -> usize {
    let last = segments.len() - 1;
    let snapshot = file_name(directory, segments[last].base_offset, "snapshot");
    let had_producers = read_snapshot(&snapshot).is_none_or(|state| !state.is_empty());
    let for_producers = if had_producers {
        last.saturating_sub(1)
    } else {
        last
    };
    for_producers.min(first_unchecked)
}

/// The first segment that may hold bytes that were never flushed; one past the last after a clean stop.
fn first_unchecked_segment(
    segments: &[Arc<Segment>],
    recovery_point: Offset,
    clean: bool,
) -> usize {
    if clean {
        return segments.len();
    }
    segments
        .partition_point(|s| s.base_offset <= recovery_point)
        .saturating_sub(1)
}

fn indexes_are_damaged(
    segment: &Segment,
    end_offset: Offset,
    config: &LogConfig,
) -> Result<bool, LogError> {
    let damage = index_check::damage(segment, end_offset, config.index_interval_bytes)?;
    if let Some(damage) = damage {
        warn!(path = %segment.log_path.display(), damage, "the indexes of a segment are rebuilt");
    }
    Ok(damage.is_some())
}

/// Rebuilds the indexes of a segment that is not walked, if they do not fit it.
fn mend_indexes(segment: &Segment, end_offset: Offset, config: &LogConfig) -> Result<(), LogError> {
    if indexes_are_damaged(segment, end_offset, config)? {
        index_check::rebuild(segment, config.index_interval_bytes)?;
    }
    Ok(())
}

struct Walk<'a> {
    segment: &'a Segment,
    config: &'a LogConfig,
    check_from: Offset,
    log_start_offset: Offset,
    /// Bytes above `check_from` may be torn.
    unchecked: bool,
    /// The indexes may not fit the log, and are made again.
    rebuild: bool,
}

struct WalkEnd {
    end_offset: Offset,
    cut: bool,
    bytes_since_index_entry: u64,
}

impl Walk<'_> {
    fn run(
        &self,
        producers: &mut ProducerState,
        epochs: &mut LeaderEpochs,
    ) -> Result<WalkEnd, LogError> {
        let segment = self.segment;
        if self.rebuild {
            segment
                .offset_index
                .clear()
                .map_err(LogError::io(&segment.offset_index.0.path))?;
            segment
                .time_index
                .clear()
                .map_err(LogError::io(&segment.time_index.0.path))?;
        }
        segment.reset_timestamps();
        let limit = segment.bytes();
        let mut position = 0;
        let mut end_offset = segment.base_offset;
        let mut since_entry = 0u64;
        while position < limit {
            let header = match self.batch_at(position, limit, end_offset) {
                Ok(header) => header,
                Err(reason) => {
                    self.cut(position, end_offset, &reason)?;
                    return Ok(WalkEnd {
                        end_offset,
                        cut: true,
                        bytes_since_index_entry: since_entry,
                    });
                }
            };
            segment.note_timestamp(header.max_timestamp, header.last_offset());
            if since_entry > u64::from(self.config.index_interval_bytes) {
                if self.rebuild {
                    segment
                        .push_index_entries(header.last_offset(), position)
                        .map_err(LogError::io(&segment.log_path))?;
                }
                since_entry = 0;
            }
            since_entry += header.size() as u64;
            producers.update(&header);
            epochs.assign(
                strandline_types::LeaderEpoch(header.partition_leader_epoch),
                header.base_offset,
            );
            end_offset = header.end_offset();
            position += header.size() as u64;
        }
        Ok(WalkEnd {
            end_offset,
            cut: false,
            bytes_since_index_entry: since_entry,
        })
    }

    /// Reads and checks one batch. Below the recovery point the header is enough: its bytes were flushed.
    fn batch_at(
        &self,
        position: u64,
        limit: u64,
        min_offset: Offset,
    ) -> Result<BatchHeader, String> {
        let header = match self.segment.header_at(position, limit) {
            Ok(Some(header)) => header,
            Ok(None) => return Err("the batch header is cut off".into()),
            Err(error) => return Err(error.to_string()),
        };
        if position + header.size() as u64 > limit {
            return Err("the batch is cut off".into());
        }
        if header.base_offset < min_offset || header.last_offset_delta < 0 {
            return Err(format!(
                "offset {} follows {min_offset}",
                header.base_offset
            ));
        }
        if self.unchecked && header.end_offset() > self.check_from {
            let mut batch = vec![0; header.size()];
            self.segment
                .read_at(&mut batch, position)
                .map_err(|e| e.to_string())?;
            verify_crc(&header, &batch).map_err(|e| e.to_string())?;
        }
        Ok(header)
    }

    fn cut(&self, position: u64, offset: Offset, reason: &str) -> Result<(), LogError> {
        let segment = self.segment;
        // A recovery point at or below the log start vouches for no record: a log may begin with a batch that holds it.
        if offset < self.check_from && self.check_from > self.log_start_offset {
            return Err(LogError::Corrupt {
                path: segment.log_path.clone(),
                position,
                offset,
                reason: reason.to_owned(),
            });
        }
        warn!(path = %segment.log_path.display(), position, offset, reason, "cutting a torn tail");
        segment
            .file()
            .set_len(position)
            .map_err(LogError::io(&segment.log_path))?;
        segment
            .file()
            .sync_all()
            .map_err(LogError::io(&segment.log_path))?;
        segment.publish_bytes(position);
        Ok(())
    }
}
