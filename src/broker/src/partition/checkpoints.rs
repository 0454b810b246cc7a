//! Checkpoints of the log directories: recovery points, high watermarks, log starts, and the lineage of each partition.
//!
//! Crash consistency: checkpoints lag. Recovery walks what they do not cover.

use std::collections::BTreeMap;

use strandline_log::{LogDir, LogView, OffsetCheckpoint, write_leader_epochs};

use super::handle::Partition;
use super::table::PartitionManager;

/// The checkpoints of one directory as they were at start.
pub(super) struct DirectoryCheckpoints {
    pub recovery_points: OffsetCheckpoint,
    pub high_watermarks: OffsetCheckpoint,
    pub log_starts: OffsetCheckpoint,
}

impl PartitionManager {
    /// Writes the checkpoints of every directory in which they have changed. Blocks.
    pub fn write_checkpoints(&self) {
        let table = self.table.load();
        let mut written = self.written.lock().expect("no holder panics");
        for (index, dir) in self.log_dirs.dirs.iter().enumerate() {
            let (mut points, mut watermarks, mut starts) =
                (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            for partition in table.values().filter(|p| p.log_dir() == index) {
                let (tp, view) = (partition.topic_partition.clone(), partition.view());
                // What lies below a recovery point is not walked again, so its epochs must be on disk first.
                if let Err(error) = store_epochs(dir, partition, &view) {
                    tracing::error!(partition = %tp, %error, "the leader epochs were not written");
                    continue;
                }
                points.insert(tp.clone(), view.flushed_offset);
                watermarks.insert(tp.clone(), view.high_watermark);
                starts.insert(tp, view.log_start_offset);
            }
            let now = [points, watermarks, starts];
            if written[index] == now {
                continue;
            }
            match dir.write_checkpoints(&now[0], &now[1], &now[2]) {
                Ok(()) => written[index] = now,
                Err(error) => {
                    tracing::error!(directory = %dir.path.display(), %error, "checkpoints were not written");
                }
            }
        }
    }
}

fn store_epochs(dir: &LogDir, partition: &Partition, view: &LogView) -> std::io::Result<()> {
    let mut stored = partition.stored_epochs.lock().expect("no holder panics");
    if *stored != view.epochs {
        write_leader_epochs(
            &dir.partition_path(&partition.topic_partition),
            &view.epochs,
        )?;
        *stored = view.epochs.clone();
    }
    Ok(())
}
