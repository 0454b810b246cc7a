//! Opening a partition's directory after a clean or an unclean stop.
//!
//! Crash consistency. A crash can leave: a torn or garbage tail in the active segment; a segment file without indexes
//! or with stale ones; a snapshot or checkpoint `.tmp`; a new segment without its directory entry. Repair: recovery
//! checks the batches of the last segments from the recovery point on and truncates a torn tail ([`crate::tail`]). Then
//! it walks the same segments and rebuilds their indexes, the lineage and the producer state. Damage in flushed bytes
//! changes nothing on disk: the partition stays offline.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use strandline_types::{LeaderEpoch, Offset};
use tracing::warn;

use crate::config::LogConfig;
use crate::epochs::LeaderEpochs;
use crate::error::LogError;
use crate::header_walk::HeaderWalk;
use crate::index::EntrySpacing;
use crate::index_builder::IndexBuilder;
use crate::index_check;
use crate::log_start::log_start_at_open;
use crate::producer_state::{ProducerState, load_snapshot};
use crate::segment::{Segment, file_name};
use crate::tail::TailCheck;

/// The recovery point if everything may have been flushed, so nothing may be truncated.
pub(crate) const NOTHING_MAY_BE_CUT: Offset = Offset::MAX;

/// The contents of a log as recovery found them.
pub(crate) struct Recovered {
    pub segments: Vec<Arc<Segment>>,
    pub log_start_offset: Offset,
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
    /// The last stop was clean: everything was flushed.
    pub clean: bool,
    pub lineage: Lineage,
    /// The recorded log start. A log without any segment begins here.
    pub log_start_offset: Offset,
    /// Where the readable remote segments begin, if there are any.
    pub first_remote_offset: Option<Offset>,
}

/// The knowledge of a log's leader epochs before recovery reads the batches.
pub(crate) enum Lineage {
    /// The lineage as it was last written; batches above the recovery point add to it.
    Written(LeaderEpochs),
    /// The file is missing or damaged: the epochs come from all batches and, for records in the cold tier, from
    /// `remote`.
    Lost { remote: LeaderEpochs },
}

pub(crate) fn recover(input: RecoveryInput<'_>) -> Result<Recovered, LogError> {
    let directory = input.directory;
    let mut bases = segment_bases(directory)?;
    if bases.is_empty() {
        bases.push(input.log_start_offset.max(0));
    }
    let log_start_offset =
        log_start_at_open(input.log_start_offset, bases[0], input.first_remote_offset);
    let cut_from = cut_from(&input, log_start_offset);
    let lost = matches!(input.lineage, Lineage::Lost { .. });
    let mut epochs = first_epochs(input.lineage, bases[0], log_start_offset, directory)?;
    let mut segments = Vec::with_capacity(bases.len());
    for base in &bases {
        segments.push(Arc::new(Segment::open(directory, *base)?));
    }
    let is_known = input.recovery_point != NOTHING_MAY_BE_CUT;
    let verify_above = if is_known { input.recovery_point } else { 0 };
    let first_unchecked = first_unchecked_segment(&segments, verify_above, input.clean);
    let first_to_walk = if lost {
        0
    } else {
        first_segment_to_walk(&segments, first_unchecked, directory)?
    };
    let check = TailCheck {
        first: first_to_walk,
        first_unflushed: first_unchecked,
        verify_above,
        cut_from,
    };
    check.run(&mut segments)?;
    let behind = segments.iter().skip(1);
    for (segment, next) in segments.iter().zip(behind).take(first_to_walk) {
        mend_indexes(segment, next.base_offset, input.config)?;
    }
    let snapshot = file_name(directory, bases[first_to_walk], "snapshot");
    let mut producers = load_snapshot(&snapshot)?.unwrap_or_default();
    let mut log_end_offset = bases[first_to_walk];
    let mut bytes_since_index_entry = 0;
    for (at, segment) in segments.iter().enumerate().skip(first_to_walk) {
        if at > first_to_walk {
            // The walk passed a roll: its snapshot is written again in case the crash came before it, or it is damaged.
            let snapshot = file_name(directory, segment.base_offset, "snapshot");
            if load_snapshot(&snapshot)?.is_none() {
                producers
                    .write_snapshot(&snapshot)
                    .map_err(LogError::io(&snapshot))?;
            }
        }
        let is_last = at + 1 == segments.len();
        let next_base = segments.get(at + 1).map_or(Offset::MAX, |s| s.base_offset);
        let walk = Walk {
            segment,
            config: input.config,
            rebuild: at >= first_unchecked
                || indexes_are_damaged(segment, next_base, input.config)?,
        };
        let end = walk.run(&mut producers, &mut epochs)?;
        if walk.rebuild && !is_last {
            segment.finish_indexes()?;
        }
        log_end_offset = end.end_offset;
        bytes_since_index_entry = end.bytes_since_index_entry;
    }
    epochs.truncate_from_end(log_end_offset.max(1));
    Ok(Recovered {
        segments,
        log_start_offset,
        log_end_offset,
        producers,
        epochs,
        bytes_since_index_entry,
    })
}

/// Below which offset damage was flushed once. A recovery point at or below the log start vouches for no record: a log may
/// begin with a batch that holds it.
fn cut_from(input: &RecoveryInput<'_>, log_start_offset: Offset) -> Offset {
    if input.clean {
        NOTHING_MAY_BE_CUT
    } else if input.recovery_point > log_start_offset {
        input.recovery_point
    } else {
        0
    }
}

/// The lineage to which the walk adds. The cold tier must supply a lost lineage where local batches do not have it.
fn first_epochs(
    lineage: Lineage,
    first_local: Offset,
    log_start_offset: Offset,
    directory: &Path,
) -> Result<LeaderEpochs, LogError> {
    let mut remote = match lineage {
        Lineage::Written(epochs) => return Ok(epochs),
        Lineage::Lost { remote } => remote,
    };
    remote.truncate_from_end(first_local);
    if log_start_offset < first_local && remote.epoch_of(log_start_offset).is_none() {
        return Err(LogError::Damaged {
            path: directory.to_path_buf(),
            reason: format!(
                "the leader epochs of offsets {log_start_offset} to {first_local} are lost"
            ),
        });
    }
    Ok(remote)
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
) -> Result<usize, LogError> {
    let last = segments.len() - 1;
    let snapshot = file_name(directory, segments[last].base_offset, "snapshot");
    let had_producers = load_snapshot(&snapshot)?.is_none_or(|state| !state.is_empty());
    let for_producers = if had_producers {
        last.saturating_sub(1)
    } else {
        last
    };
    last_with_snapshot(segments, for_producers.min(first_unchecked), directory)
}

/// The last segment at or before `from` with a readable snapshot of the producers before it; the first one if there is none.
pub(crate) fn last_with_snapshot(
    segments: &[Arc<Segment>],
    from: usize,
    directory: &Path,
) -> Result<usize, LogError> {
    let until = segments.len().min(from + 1);
    let reversed = segments.iter().enumerate().take(until).skip(1).rev();
    for (at, segment) in reversed {
        let snapshot = file_name(directory, segment.base_offset, "snapshot");
        if load_snapshot(&snapshot)?.is_some() {
            return Ok(at);
        }
    }
    Ok(0)
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
    /// The indexes may not fit the log, and are made again.
    rebuild: bool,
}

struct WalkEnd {
    end_offset: Offset,
    bytes_since_index_entry: u64,
}

impl Walk<'_> {
    fn run(
        &self,
        producers: &mut ProducerState,
        epochs: &mut LeaderEpochs,
    ) -> Result<WalkEnd, LogError> {
        let segment = self.segment;
        segment.reset_timestamps();
        let mut spacing = EntrySpacing::new(self.config.index_interval_bytes, 0);
        let mut indexes = if self.rebuild {
            Some(IndexBuilder::begin(segment)?)
        } else {
            None
        };
        let mut headers = HeaderWalk::new(segment);
        let mut position = 0;
        let mut end_offset = segment.base_offset;
        while let Some(header) = headers.header_at(position)? {
            let size = header.size() as u64;
            segment.note_timestamp(header.max_timestamp, header.last_offset());
            if spacing.passes(size)
                && let Some(indexes) = &mut indexes
            {
                indexes.push(header.last_offset(), position)?;
            }
            producers.update(&header);
            epochs.assign(
                LeaderEpoch(header.partition_leader_epoch),
                header.base_offset,
            );
            end_offset = header.end_offset();
            position += size;
        }
        if let Some(indexes) = indexes {
            indexes.finish()?;
        }
        Ok(WalkEnd {
            end_offset,
            bytes_since_index_entry: spacing.since_entry,
        })
    }
}
