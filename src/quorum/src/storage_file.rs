//! Frames of length, CRC-32C and payload, and files replaced atomically.
//!
//! Every file of the quorum is a sequence of frames, so a torn or damaged tail is recognised as one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

const FRAME_OVERHEAD: usize = 8;

pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_OVERHEAD + payload.len());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    out.extend_from_slice(payload);
    out
}

/// The whole frames at the front of `bytes`: payload and where each ends. Stops at the first that does not check.
pub(crate) fn frames(bytes: &[u8]) -> impl Iterator<Item = (&[u8], usize)> {
    let mut position = 0;
    std::iter::from_fn(move || {
        let rest = &bytes[position..];
        let length = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let crc = u32::from_le_bytes(rest.get(4..8)?.try_into().ok()?);
        let payload = rest.get(FRAME_OVERHEAD..FRAME_OVERHEAD.checked_add(length)?)?;
        if crc32c::crc32c(payload) != crc {
            return None;
        }
        position += FRAME_OVERHEAD + length;
        Some((payload, position))
    })
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
        let mut bytes = [frame(b"one"), frame(b""), frame(b"three")].concat();
        let read = |b: &[u8]| frames(b).map(|(p, _)| p.to_vec()).collect::<Vec<_>>();
        assert_eq!(read(&bytes), [b"one".to_vec(), vec![], b"three".to_vec()]);
        for cut in 1..8 + 5 {
            assert_eq!(read(&bytes[..bytes.len() - cut]).len(), 2);
        }
        bytes[9] ^= 1;
        assert!(read(&bytes).is_empty());
    }
}
