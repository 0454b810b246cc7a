//! CRC-32C of every chunk of an object whose bytes come in runs of any length.

use crc_fast::{CrcAlgorithm, Digest};

pub(crate) struct ChunkChecksums {
    chunk_bytes: usize,
    open: Digest,
    open_bytes: usize,
    done: Vec<u32>,
}

fn digest() -> Digest {
    Digest::new(CrcAlgorithm::Crc32Iscsi)
}

impl ChunkChecksums {
    pub fn new(chunk_bytes: u32) -> Self {
        Self {
            chunk_bytes: chunk_bytes.max(1) as usize,
            open: digest(),
            open_bytes: 0,
            done: Vec::new(),
        }
    }

    pub fn update(&mut self, mut run: &[u8]) {
        while !run.is_empty() {
            let left = self.chunk_bytes.saturating_sub(self.open_bytes);
            let (front, rest) = run.split_at_checked(left).unwrap_or((run, &[]));
            self.open.update(front);
            self.open_bytes += front.len();
            if self.open_bytes >= self.chunk_bytes {
                self.close();
            }
            run = rest;
        }
    }

    fn close(&mut self) {
        let full = std::mem::replace(&mut self.open, digest());
        self.done.push(full.finalize() as u32);
        self.open_bytes = 0;
    }

    /// The last chunk may be shorter.
    pub fn finish(mut self) -> Vec<u32> {
        if self.open_bytes > 0 {
            self.close();
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_do_not_depend_on_how_the_bytes_come() {
        let bytes: Vec<u8> = (0..10_000u32).map(|i| (i * 7 % 251) as u8).collect();
        for chunk in [1, 7, 1000, 3333, 10_000, 20_000] {
            let expected: Vec<u32> = bytes.chunks(chunk).map(crate::crc32c).collect();
            for run in [1, 61, 1000, 9999, 10_000] {
                let mut checksums = ChunkChecksums::new(chunk as u32);
                bytes.chunks(run).for_each(|run| checksums.update(run));
                assert_eq!(checksums.finish(), expected, "{chunk} in runs of {run}");
            }
        }
    }
}
