//! Kafka's small text files: offset checkpoints of a log directory and a partition's leader epochs.
//!
//! Crash consistency: a checkpoint is written to `<name>.tmp`, flushed, renamed over the old one, and the directory is
//! flushed. A crash leaves the old file or the new one. A file that does not parse is damaged, which is not the same as
//! absent: the reader decides how to continue without its contents.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use strandline_types::{EpochStart, LeaderEpoch, Offset, TopicPartition};

const VERSION: &str = "0";

/// Offsets by partition, as `recovery-point-offset-checkpoint` and its siblings hold them.
pub type OffsetCheckpoint = BTreeMap<TopicPartition, Offset>;

/// Replaces `path` with `contents` so that a crash leaves one or the other.
pub(crate) fn write_atomically(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Makes names that were created, renamed or removed in `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

pub fn write_offset_checkpoint(path: &Path, offsets: &OffsetCheckpoint) -> io::Result<()> {
    let mut text = format!("{VERSION}\n{}\n", offsets.len());
    for (tp, offset) in offsets {
        text.push_str(&format!("{} {} {offset}\n", tp.topic, tp.partition));
    }
    write_atomically(path, text.as_bytes())
}

/// Reads an offset checkpoint. An absent file is empty; a damaged one is an error, because offsets that are not known are
/// not zero.
pub fn read_offset_checkpoint(path: &Path) -> io::Result<OffsetCheckpoint> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        read => read?,
    };
    parse_offsets(&text).ok_or_else(|| io::Error::other("the checkpoint is damaged"))
}

fn parse_offsets(text: &str) -> Option<OffsetCheckpoint> {
    let entries = entries(text)?;
    entries
        .map(|line| {
            let mut words = line.split(' ');
            let tp = TopicPartition::new(words.next()?, words.next()?.parse().ok()?);
            let offset = words.next()?.parse().ok()?;
            words.next().is_none().then_some((tp, offset))
        })
        .collect()
}

pub(crate) fn write_epochs(path: &Path, epochs: &[EpochStart]) -> io::Result<()> {
    write_atomically(path, format_epochs(epochs).as_bytes())
}

pub(crate) fn format_epochs(epochs: &[EpochStart]) -> String {
    let mut text = format!("{VERSION}\n{}\n", epochs.len());
    for entry in epochs {
        text.push_str(&format!("{} {}\n", entry.epoch, entry.start_offset));
    }
    text
}

/// The contents of a small file, or its defect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<T> {
    Whole(T),
    Missing,
    /// Its bytes are no file of this kind.
    Damaged,
}

pub(crate) fn read_epochs(path: &Path) -> io::Result<Found<Vec<EpochStart>>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        read => read?,
    };
    Ok(decode_leader_epochs(&bytes).map_or(Found::Damaged, Found::Whole))
}

/// The lineage in a `leader-epoch-checkpoint` file's bytes.
pub fn decode_leader_epochs(bytes: &[u8]) -> Option<Vec<EpochStart>> {
    let text = std::str::from_utf8(bytes).ok()?;
    entries(text)?
        .map(|line| {
            let (epoch, start) = line.split_once(' ')?;
            Some(EpochStart {
                epoch: LeaderEpoch(epoch.parse().ok()?),
                start_offset: start.parse().ok()?,
            })
        })
        .collect()
}

/// The lines behind version and count, if there are as many as the count says.
fn entries(text: &str) -> Option<impl Iterator<Item = &str>> {
    let mut lines = text.lines();
    if lines.next()? != VERSION {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    (lines.clone().count() == count).then_some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_and_a_damaged_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("recovery-point-offset-checkpoint");
        let offsets: OffsetCheckpoint = [
            (TopicPartition::new("a.b-c", 3), 17),
            (TopicPartition::new("z", 0), 0),
        ]
        .into();
        write_offset_checkpoint(&path, &offsets).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "0\n2\na.b-c 3 17\nz 0 0\n"
        );
        assert_eq!(read_offset_checkpoint(&path).unwrap(), offsets);
        for damaged in ["0\n2\na.b-c 3 17\n", "", "1\n0\n", "0\n1\nz 0 x\n"] {
            fs::write(&path, damaged).unwrap();
            assert!(read_offset_checkpoint(&path).is_err(), "{damaged:?}");
        }
        fs::remove_file(&path).unwrap();
        assert!(read_offset_checkpoint(&path).unwrap().is_empty());
    }
}
