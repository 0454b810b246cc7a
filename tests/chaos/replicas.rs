//! The logs of all nodes side by side, after they have stopped: no two may hold different bytes at one offset.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use strandline_wire::batch::split_batches;

/// End offset, CRC and leader epoch of a batch, by its base offset.
type Batches = BTreeMap<i64, (i64, u32, i32)>;

fn read(directory: &Path) -> Result<Batches, String> {
    let mut batches = Batches::new();
    for entry in fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))? {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.extension().is_none_or(|e| e != "log") {
            continue;
        }
        let bytes = Bytes::from(fs::read(&path).map_err(|e| e.to_string())?);
        for found in split_batches(&bytes) {
            let (_, header) = found.map_err(|e| format!("{}: {e}", path.display()))?;
            let batch = (
                header.end_offset(),
                header.crc,
                header.partition_leader_epoch,
            );
            batches.insert(header.base_offset, batch);
        }
    }
    Ok(batches)
}

/// Differences between the nodes' logs, in words. Compared is what two nodes both have on disk.
pub fn differences(
    data: &[std::path::PathBuf],
    topics: &[(&str, i32)],
) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let partitions = topics
        .iter()
        .flat_map(|(topic, count)| (0..*count).map(move |p| format!("{topic}-{p}")));
    for name in partitions {
        let logs = data
            .iter()
            .map(|d| d.join(&name))
            .filter(|d| d.exists())
            .map(|d| read(&d).map(|batches| (d, batches)))
            .collect::<Result<Vec<_>, _>>()?;
        if logs.len() < 2 {
            found.push(format!("{name}: only {} node has it", logs.len()));
        }
        for (i, (one, a)) in logs.iter().enumerate() {
            for (other, b) in &logs[i + 1..] {
                let start = a.keys().next().max(b.keys().next()).copied();
                let end = |batches: &Batches| batches.values().next_back().map_or(0, |l| l.0);
                let Some(start) = start else { continue };
                if end(a) != end(b) {
                    found.push(format!(
                        "{}: ends at {}, {} at {}",
                        one.display(),
                        end(a),
                        other.display(),
                        end(b)
                    ));
                }
                let both = start..end(a).min(end(b));
                if let Some((offset, batch)) = a
                    .range(both.clone())
                    .find(|(offset, batch)| b.get(*offset) != Some(batch))
                {
                    let theirs = b.get(offset);
                    found.push(format!(
                        "{name}: offset {offset}: {batch:?} on {}, {theirs:?} on {}",
                        one.display(),
                        other.display()
                    ));
                }
            }
        }
    }
    Ok(found)
}
