//! Appends: a leader's batches get their sequences checked and their offsets; a follower's are written as they come.
//!
//! Crash consistency: a batch is in the log when its bytes are published. A crash before its flush leaves a torn tail,
//! which recovery truncates.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use strandline_types::{LeaderEpoch, Offset, TimestampMs};
use strandline_wire::batch::{
    BATCH_HEADER_BYTES, BatchHeader, ValidatedBatch, patch_for_append, split_batches, verify_crc,
};

use super::PartitionLog;
use crate::epochs::LeaderEpochs;
use crate::error::{AppendError, FetchedError, LogError, same};
use crate::index::EntrySpacing;
use crate::producer_state::SequenceError;
use crate::segment::Segment;

/// Kernel limit on buffers in one vectored write.
const MAX_BUFFERS: usize = 1024;

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendInfo {
    pub base_offset: Offset,
    /// Exclusive; an `acks=all` answer waits until the high watermark reaches it.
    pub end_offset: Offset,
    /// −1 unless the broker stamped the records.
    pub log_append_time_ms: TimestampMs,
    /// The producer sent this batch before; nothing was appended now.
    pub duplicate: bool,
}

impl PartitionLog {
    /// Appends batches as the leader in `epoch`: checks sequences, gives offsets, writes them with as few system calls
    /// as segments allow. One result per batch, in order; a refused batch does not touch its neighbours.
    pub fn append(
        &mut self,
        batches: &[ValidatedBatch],
        epoch: LeaderEpoch,
        now_ms: TimestampMs,
    ) -> Vec<Result<AppendInfo, AppendError>> {
        let mut results = Vec::with_capacity(batches.len());
        let mut run = PendingWrite::default();
        for batch in batches {
            let result = self.stage(batch, epoch, now_ms, &mut run, &mut results);
            results.push(result);
        }
        // Each batch of the run has its own result.
        let _ = self.write_run(&mut run, now_ms, &mut results);
        results
    }

    /// Gives one batch its place in the run that will be written next, writing the run first where the batch must go
    /// into a new segment.
    fn stage(
        &mut self,
        batch: &ValidatedBatch,
        epoch: LeaderEpoch,
        now_ms: TimestampMs,
        run: &mut PendingWrite,
        results: &mut [Result<AppendInfo, AppendError>],
    ) -> Result<AppendInfo, AppendError> {
        let log_append_time_ms = match batch.header.timestamp_type() {
            strandline_wire::batch::TimestampType::LogAppendTime => batch.header.max_timestamp,
            strandline_wire::batch::TimestampType::CreateTime => -1,
        };
        let deleted = self.log_start_offset > 0;
        match self.producers.check(&batch.header, deleted) {
            Err(SequenceError::Duplicate {
                base_offset,
                timestamp_ms,
            }) => {
                return Ok(AppendInfo {
                    base_offset,
                    end_offset: base_offset + i64::from(batch.header.last_offset_delta) + 1,
                    log_append_time_ms: if log_append_time_ms < 0 {
                        -1
                    } else {
                        timestamp_ms
                    },
                    duplicate: true,
                });
            }
            Err(refused) => return Err(refused.into()),
            Ok(()) => {}
        }
        let size = batch.bytes.len() as u64;
        if size > self.config.segment_bytes {
            return Err(AppendError::LargerThanSegment {
                size,
                max: self.config.segment_bytes,
            });
        }
        let end = run.end_offset.unwrap_or(self.log_end_offset);
        if self.must_roll(&batch.header, run.bytes, end) {
            self.write_run(run, now_ms, results)?;
            self.roll()?;
        }
        let base_offset = run.end_offset.unwrap_or(self.log_end_offset);
        let header = BatchHeader {
            base_offset,
            partition_leader_epoch: epoch.0,
            ..batch.header
        };
        self.producers.update(&header);
        run.push(
            header,
            patch_for_append(&batch.header, base_offset, epoch.0),
            &batch.bytes,
            results.len(),
        );
        Ok(AppendInfo {
            base_offset,
            end_offset: header.end_offset(),
            log_append_time_ms,
            duplicate: false,
        })
    }

    /// Appends whole batches as the leader wrote them: offsets and epochs are final. Every batch is checked; batches
    /// behind a bad one are not appended.
    pub fn append_fetched(
        &mut self,
        records: &Bytes,
        now_ms: TimestampMs,
    ) -> Result<(), FetchedError> {
        let mut run = PendingWrite::default();
        let mut results = Vec::new();
        let mut bad = None;
        let mut epochs = LeaderEpochs::clone(&self.epochs);
        for found in split_batches(records) {
            let staged = found
                .map_err(|e| FetchedError::Corrupt(e.to_string()))
                .and_then(|(at, header)| {
                    let bytes = records.slice(at..at + header.size());
                    self.stage_fetched(header, bytes, now_ms, &mut run, &mut results)?;
                    epochs.assign(
                        LeaderEpoch(header.partition_leader_epoch),
                        header.base_offset,
                    );
                    Ok(())
                });
            if let Err(error) = staged {
                bad = Some(error);
                break;
            }
        }
        let written = self.write_run(&mut run, now_ms, &mut results);
        let result = match written {
            Ok(()) => bad.map_or(Ok(()), Err),
            Err(error) => Err(error.into()),
        };
        if result.is_err() {
            // Drop the epochs of batches that were not written.
            epochs.truncate_from_end(self.log_end_offset.max(1));
            if self.log_end_offset < self.log_start_offset {
                // The log had begun with a batch that then was not written.
                self.restart_at(self.log_start_offset)?;
            }
        }
        if epochs != *self.epochs {
            self.epochs = Arc::new(epochs);
        }
        result
    }

    fn stage_fetched(
        &mut self,
        header: BatchHeader,
        bytes: Bytes,
        now_ms: TimestampMs,
        run: &mut PendingWrite,
        results: &mut Vec<Result<AppendInfo, AppendError>>,
    ) -> Result<(), FetchedError> {
        let corrupt = |e: &dyn std::fmt::Display| {
            FetchedError::Corrupt(format!("offset {}: {e}", header.base_offset))
        };
        verify_crc(&header, &bytes).map_err(|e| corrupt(&e))?;
        let end = run.end_offset.unwrap_or(self.log_end_offset);
        if header.base_offset < end && !self.begin_with(&header)? {
            return Err(FetchedError::Overlaps {
                base_offset: header.base_offset,
                log_end_offset: end,
            });
        }
        if self.must_roll(&header, run.bytes, header.base_offset) {
            self.write_run(run, now_ms, results)?;
            self.roll()?;
        }
        self.producers.update(&header);
        let mut front = [0; 16];
        front.copy_from_slice(&bytes[..16]);
        run.push(header, front, &bytes, results.len());
        results.push(Ok(AppendInfo {
            base_offset: header.base_offset,
            end_offset: header.end_offset(),
            log_append_time_ms: -1,
            duplicate: false,
        }));
        Ok(())
    }

    /// Writes the batches of the run. After an error, the result of each batch of the run has the error, and no batch
    /// that was checked against them may follow.
    fn write_run(
        &mut self,
        run: &mut PendingWrite,
        now_ms: TimestampMs,
        results: &mut [Result<AppendInfo, AppendError>],
    ) -> Result<(), LogError> {
        let run = std::mem::take(run);
        if run.batches.is_empty() {
            return Ok(());
        }
        let active = self.active().clone();
        let start = active.bytes();
        if let Err(error) = run.write(&active, start) {
            // The bytes behind `start` are garbage that no reader can see; the next append overwrites them. The
            // producer state is rebuilt, because it already counts these batches.
            let _ = active.file().set_len(start);
            let failed = || LogError::Io {
                path: active.log_path.clone(),
                source: same(&error),
            };
            for at in &run.result_at {
                results[*at] = Err(AppendError::Log(failed()));
            }
            // If the original batch failed to be written, its retry must not be answered as a duplicate.
            for result in results.iter_mut() {
                if matches!(result, Ok(info) if info.end_offset > self.log_end_offset) {
                    *result = Err(AppendError::Log(failed()));
                }
            }
            self.rebuild_producers()?;
            return Err(failed());
        }
        if start == 0 {
            active.first_append_ms.store(now_ms, Ordering::Release);
            self.active_first_timestamp_ms = run.batches.first().map(|b| b.header.max_timestamp);
        }
        let since_entry = self.bytes_since_index_entry;
        let mut spacing = EntrySpacing::new(self.config.index_interval_bytes, since_entry);
        let mut position = start;
        for batch in &run.batches {
            let size = batch.header.size() as u64;
            active.note_timestamp(batch.header.max_timestamp, batch.header.last_offset());
            if spacing.passes(size) {
                // A missing entry costs a longer scan and nothing else, so a failed write here is no error.
                let _ = active.push_index_entries(batch.header.last_offset(), position);
            }
            position += size;
        }
        self.bytes_since_index_entry = spacing.since_entry;
        active.note_append(now_ms);
        active.publish_bytes(position);
        self.log_end_offset = run.end_offset.expect("a run that is not empty has an end");
        Ok(())
    }
}

/// Batches of one append that go to the same segment.
#[derive(Default)]
struct PendingWrite {
    batches: Vec<StagedBatch>,
    result_at: Vec<usize>,
    bytes: u64,
    end_offset: Option<Offset>,
}

struct StagedBatch {
    header: BatchHeader,
    front: [u8; 16],
    rest: Bytes,
}

impl PendingWrite {
    fn push(&mut self, header: BatchHeader, front: [u8; 16], bytes: &Bytes, result_at: usize) {
        debug_assert!(bytes.len() >= BATCH_HEADER_BYTES);
        self.bytes += bytes.len() as u64;
        self.end_offset = Some(header.end_offset());
        self.result_at.push(result_at);
        self.batches.push(StagedBatch {
            header,
            front,
            rest: bytes.slice(16..),
        });
    }

    fn write(&self, segment: &Segment, mut position: u64) -> std::io::Result<()> {
        let mut slices = Vec::with_capacity(self.batches.len() * 2);
        for batch in &self.batches {
            slices.push(IoSlice::new(&batch.front));
            slices.push(IoSlice::new(&batch.rest));
        }
        let mut left = &mut slices[..];
        while !left.is_empty() {
            let count = left.len().min(MAX_BUFFERS);
            let written = rustix::io::pwritev(segment.file(), &left[..count], position)?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            position += written as u64;
            IoSlice::advance_slices(&mut left, written);
        }
        Ok(())
    }
}
