//! Reads a sealed segment part by part, and computes every checksum on the way.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use memmap2::MmapMut;

use super::{PART_BYTES, SegmentCheck, UploadError, Walked};
use crate::chunk_checksums::ChunkChecksums;

/// A log object that has been sent.
pub(super) struct LogDone {
    pub bytes: u64,
    pub crc32c: u32,
    pub chunk_checksums: Vec<u32>,
    pub walked: Walked,
}

/// Reads a segment file part by part on the blocking pool, computing every checksum on the way.
pub(super) struct LogSource {
    path: PathBuf,
    file: File,
    pub(super) length: u64,
    position: u64,
    digest: crc_fast::Digest,
    chunks: ChunkChecksums,
    check: Box<dyn SegmentCheck>,
}

impl LogSource {
    pub(super) fn open(
        path: &Path,
        chunk_bytes: u32,
        check: Box<dyn SegmentCheck>,
    ) -> Result<Self, UploadError> {
        let local = |source| UploadError::Local {
            path: path.to_path_buf(),
            source,
        };
        let file = File::open(path).map_err(local)?;
        let length = file.metadata().map_err(local)?.len();
        Ok(Self {
            path: path.to_path_buf(),
            file,
            length,
            position: 0,
            digest: crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi),
            chunks: ChunkChecksums::new(chunk_bytes),
            check,
        })
    }

    pub(super) fn is_done(&self) -> bool {
        self.position >= self.length
    }

    pub(super) fn next_part_bytes(&self) -> u64 {
        self.length
            .saturating_sub(self.position)
            .min(PART_BYTES as u64)
    }

    pub(super) async fn next_part(mut self) -> Result<(Self, Bytes), UploadError> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || self.read_part().map(|part| (self, part)));
        // Ended with the runtime: the process stops.
        let ended = |error: tokio::task::JoinError| UploadError::Local {
            path,
            source: std::io::Error::other(error),
        };
        read.await.map_err(ended)?
    }

    fn read_part(&mut self) -> Result<Bytes, UploadError> {
        let local = |source| UploadError::Local {
            path: self.path.clone(),
            source,
        };
        let length = self.next_part_bytes() as usize;
        if length == 0 {
            return Ok(Bytes::new());
        }
        // Pages of its own: they are the kernel's again when the part is sent. The allocator keeps what threads of the
        // blocking pool give back, each of them for itself, up to several times the memory of all copies.
        let mut part = MmapMut::map_anon(length).map_err(local)?;
        self.file
            .read_exact_at(&mut part, self.position)
            .map_err(local)?;
        self.check.check(&part).map_err(|e| self.corrupt(e))?;
        self.digest.update(&part);
        self.chunks.update(&part);
        self.position += part.len() as u64;
        Ok(Bytes::from_owner(part))
    }

    fn corrupt(&self, (position, reason): (u64, String)) -> UploadError {
        UploadError::Corrupt {
            path: self.path.clone(),
            position,
            reason,
        }
    }

    pub(super) fn finish(mut self) -> Result<LogDone, UploadError> {
        let walked = self.check.finish().map_err(|e| self.corrupt(e))?;
        Ok(LogDone {
            bytes: self.length,
            crc32c: self.digest.finalize() as u32,
            chunk_checksums: self.chunks.finish(),
            walked,
        })
    }
}
