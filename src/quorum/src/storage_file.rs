//! Frames of length, CRC-32C and payload, and files replaced atomically.
//!
//! Every file of the quorum is a sequence of frames, so a torn or damaged tail is recognised as one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const FRAME_OVERHEAD: usize = 8;
/// The unit that a disk writes completely or not at all, in bytes.
const SECTOR: usize = 512;

pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_OVERHEAD + payload.len());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    out.extend_from_slice(payload);
    out
}

/// The whole frames at the front of `bytes`: payload and where each ends. Stops at the first that does not check. No frame is
/// empty: bytes that the file system never wrote are zeros, which would be one.
pub(crate) fn frames(bytes: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut position = 0;
    std::iter::from_fn(move || {
        let rest = &bytes[position..];
        let length = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let crc = u32::from_le_bytes(rest.get(4..8)?.try_into().ok()?);
        let payload = rest.get(FRAME_OVERHEAD..FRAME_OVERHEAD.checked_add(length)?)?;
        if payload.is_empty() || crc32c::crc32c(payload) != crc {
            return None;
        }
        position += FRAME_OVERHEAD + length;
        Some((payload, position))
    })
}

/// Whether the bytes behind the last whole frame, at `end`, are a write that a crash interrupted. Otherwise a frame
/// that was once whole is damaged.
///
/// A crash leaves an incomplete frame or, where the disk wrote the pages of several frames in another order, sectors of
/// zeros in front of whole frames. A damaged frame has whole frames behind it and no such sector.
pub(crate) fn is_torn(bytes: &[u8], end: usize, is_whole: impl Fn(&[u8]) -> bool) -> bool {
    let rest = bytes.get(end..).unwrap_or_default();
    let starts_whole_frame = |at: &usize| {
        let behind = rest.get(*at..).unwrap_or_default();
        frames(behind).next().is_some_and(|(p, _)| is_whole(p))
    };
    let Some(whole) = (1..rest.len()).find(starts_whole_frame) else {
        return true;
    };
    let sectors = (end.next_multiple_of(SECTOR)..).step_by(SECTOR);
    let mut unwritten = sectors
        .map_while(|at| {
            bytes
                .get(at..at + SECTOR)
                .filter(|_| at + SECTOR <= end + whole)
        })
        .filter(|sector| sector.iter().all(|byte| *byte == 0));
    unwritten.next().is_some()
}

/// Replaces `path` by `contents`; a crash leaves the old file or the new one.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// A file's bytes; absent is empty.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_or_damaged_frame_ends_the_sequence() {
        let mut bytes = [frame(b"one"), frame(b"two"), frame(b"three")].concat();
        let read = |b: &[u8]| frames(b).map(|(p, _)| p.to_vec()).collect::<Vec<_>>();
        let all = [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()];
        assert_eq!(read(&bytes), all);
        assert_eq!(read(&[bytes.clone(), vec![0; 100]].concat()), all);
        for cut in 1..8 + 5 {
            assert_eq!(read(&bytes[..bytes.len() - cut]).len(), 2);
        }
        bytes[9] ^= 1;
        assert!(read(&bytes).is_empty());
    }

    #[test]
    fn damage_is_told_from_a_torn_write() {
        let one = frame(&[7; 2000]);
        let whole = [one.clone(), one.clone(), one.clone()].concat();
        let torn = |bytes: &[u8]| {
            let end = frames(bytes).last().map_or(0, |(_, end)| end);
            end == bytes.len() || is_torn(bytes, end, |payload| payload == [7; 2000])
        };
        assert!(torn(&whole));
        for cut in 1..one.len() {
            assert!(torn(&whole[..whole.len() - cut]), "{cut} bytes are missing");
        }
        for tail in [vec![0; 3000], vec![0xff; 3000]] {
            assert!(torn(&[whole.clone(), tail].concat()));
        }
        for at in 0..2 * one.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            assert!(!torn(&damaged), "byte {at}");
        }
        // The last frame may be torn or damaged: no bytes behind it show which.
        let mut damaged = whole.clone();
        damaged[2 * one.len() + 100] ^= 0x10;
        assert!(torn(&damaged));
        // Two frames in one write, of which the disk wrote the second page first.
        let mut reordered = whole;
        reordered[2048..2560].fill(0);
        assert!(torn(&reordered));
    }
}
