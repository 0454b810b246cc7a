//! Replaying a partition of a coordinator's topic.

use strandline_wire::batch::{BatchHeader, Records, split_batches};

use super::machine::Machine;
use crate::clock::now;
use crate::partition::read_batches;
use crate::partition::{Interest, Partition, Watch};

const READ_BYTES: usize = 1 << 20;

/// Waits until this broker leads the partition and every record that a new leader found in its log is committed: a
/// coordinator must neither answer from records that may still be lost, nor miss records that will stay.
pub(super) async fn committed_to_the_end(partition: &Partition) {
    let watch = Watch::new(Interest::Committed);
    partition.watch(&watch, 0);
    let mut end = None;
    loop {
        if partition.is_leader() && !partition.is_offline() {
            let view = partition.view();
            let end = *end.get_or_insert(view.log_end_offset);
            if view.high_watermark >= end {
                return;
            }
        } else {
            end = None;
        }
        watch.woken().await;
    }
}

/// Replays the whole partition into `machine`.
pub(super) async fn replay<M: Machine>(
    machine: &mut M,
    partition: &Partition,
) -> Result<(), String> {
    let view = partition.view();
    let mut offset = view.local_log_start_offset;
    while offset < view.high_watermark {
        let slice = view
            .slice(offset, READ_BYTES, view.high_watermark)
            .map_err(|e| e.to_string())?;
        let Some(slice) = slice else { break };
        let read = read_batches(slice).await;
        let bytes = read
            .inspect_err(|error| {
                partition.report(error);
            })
            .map_err(|e| e.to_string())?;
        for found in split_batches(&bytes) {
            let (at, header) = found.map_err(|e| e.to_string())?;
            let batch = bytes
                .get(at..at + header.size())
                .ok_or("a batch does not end where its length says")?;
            replay_batch(machine, header, batch)?;
            offset = header.end_offset();
        }
    }
    machine.finish_load();
    Ok(())
}

fn replay_batch<M: Machine>(
    machine: &mut M,
    header: BatchHeader,
    batch: &[u8],
) -> Result<(), String> {
    let mut records = Records::new(header, batch).map_err(|e| e.to_string())?;
    while let Some(record) = records.next_record().map_err(|e| e.to_string())? {
        let Some(key) = record.key else { continue };
        if let Err(error) = machine.load(&key, record.value.as_ref(), now()) {
            tracing::debug!(offset = record.offset, %error, "a coordinator's record is skipped");
        }
    }
    Ok(())
}
