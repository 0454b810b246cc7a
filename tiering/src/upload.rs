//! Copying one sealed segment into the bucket.
//!
//! Every batch's own CRC is checked while the file is read, so damaged local data is never copied. The log object is one
//! PUT, or a multipart upload above [`PART_BYTES`]; the side object follows.
//!
//! Crash consistency: the quorum knows `CopySegmentStarted` before the first byte moves. A crash before the log object
//! is complete leaves an unfinished multipart upload, which the bucket's lifecycle rule aborts. A later crash leaves
//! one or two objects that no finished record names: the next leader marks the attempt deleted, and the collector
//! sweeps the objects. After a failure, the uploader aborts the multipart upload and removes the objects, as far as the
//! store allows.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use strandline_types::{EpochStart, RemoteLogSegmentMetadata, TimestampMs};
use thiserror::Error;

use crate::chunk_checksums::ChunkChecksums;
use crate::keys::ObjectKind;
use crate::side::{SectionKind, SideBuilder};
use crate::store::RemoteStore;
use crate::throttle::Throttle;

/// Size of a part: above S3's minimum of 5 MiB, and large enough that a GiB costs 43 requests (41 parts, create, complete) and one for the side object.
pub const PART_BYTES: usize = 24 << 20;

/// A call to the store carries at most [`PART_BYTES`]; one that takes longer than this is not slow but stuck.
const STALL_TIMEOUT: Duration = Duration::from_secs(300);

/// The files of a sealed segment that are copied as they are.
#[derive(Clone, Debug)]
pub struct SegmentFiles {
    pub log: PathBuf,
    /// May be absent: no transaction was aborted in the segment.
    pub transaction_index: PathBuf,
}

/// The findings of a walk over a segment's batches. The side object is made from these and not from the files beside
/// the log: a fault of an index or a snapshot would stay for as long as the copy does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Kafka's `.index` and `.timeindex`.
    pub offset_index: Vec<u8>,
    pub time_index: Vec<u8>,
    /// Kafka's `.snapshot` of the segment's end.
    pub producer_snapshot: Vec<u8>,
    /// The lineage up to the segment's end, as `leader-epoch-checkpoint`.
    pub leader_epochs: String,
    /// The lineage for the finished copy's record.
    pub segment_leader_epochs: Vec<EpochStart>,
    pub max_timestamp_ms: TimestampMs,
}

/// The facts for the finished copy's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    pub log_bytes: u64,
    pub log_crc32c: u32,
    pub side_bytes: u64,
    pub side_crc32c: u32,
    pub segment_leader_epochs: Vec<EpochStart>,
    pub max_timestamp_ms: TimestampMs,
}

/// Why a copy failed.
#[derive(Debug, Error)]
pub enum UploadError {
    #[error("{call} {key}: {source}")]
    Store {
        call: &'static str,
        key: String,
        source: object_store::Error,
    },
    #[error("{}: {source}", path.display())]
    Local {
        path: PathBuf,
        source: std::io::Error,
    },
    /// A copy that makes no progress fails and begins again.
    #[error("{call} {key}: nothing has moved for {} s", STALL_TIMEOUT.as_secs())]
    Stalled { call: &'static str, key: String },
    /// The local copy is damaged; it is not copied and must not be deleted elsewhere on its account.
    #[error("{}: {reason} at byte {position}", path.display())]
    Corrupt {
        path: PathBuf,
        position: u64,
        reason: String,
    },
}

/// Checks the batches that begin in a run of bytes, given where the next one begins. Handed in by the caller, because
/// this crate does not know Kafka's format.
pub trait SegmentCheck: Send {
    /// Looks at the next run of the segment's bytes. The error has the place and the reason.
    fn check(&mut self, bytes: &[u8]) -> Result<(), (u64, String)>;
    /// After the last run: nothing may be left open.
    fn finish(&mut self) -> Result<Walked, (u64, String)>;
}

/// Copies segments.
#[derive(Clone, Debug)]
pub struct Uploader {
    pub store: RemoteStore,
    pub throttle: Arc<Throttle>,
    pub chunk_bytes: u32,
}

impl Uploader {
    /// Uploads both objects of `segment`. Not cancel safe: if the future is dropped half-way, it leaves the same
    /// objects as a crash.
    pub async fn upload(
        &self,
        segment: &RemoteLogSegmentMetadata,
        files: &SegmentFiles,
        check: Box<dyn SegmentCheck>,
    ) -> Result<Uploaded, UploadError> {
        let result = self.upload_both(segment, files, check).await;
        if result.is_err() {
            self.remove(segment).await;
        }
        result
    }

    async fn upload_both(
        &self,
        segment: &RemoteLogSegmentMetadata,
        files: &SegmentFiles,
        check: Box<dyn SegmentCheck>,
    ) -> Result<Uploaded, UploadError> {
        let source = LogSource::open(&files.log, self.chunk_bytes, check)?;
        let log = self.upload_log(segment, source).await?;
        let side = build_side(files, &log.walked, self.chunk_bytes, &log.chunk_checksums)?;
        let key = self.store.keys.object(segment, ObjectKind::Side);
        let (side_bytes, side_crc32c) = (side.len() as u64, crate::crc32c(&side));
        self.throttle.acquire(side_bytes).await;
        let put = self.store.uploads.put(&key, side.into());
        moving("put object", &key, put).await?;
        Ok(Uploaded {
            log_bytes: log.bytes,
            log_crc32c: log.crc32c,
            side_bytes,
            side_crc32c,
            segment_leader_epochs: log.walked.segment_leader_epochs,
            max_timestamp_ms: log.walked.max_timestamp_ms,
        })
    }

    async fn upload_log(
        &self,
        segment: &RemoteLogSegmentMetadata,
        source: LogSource,
    ) -> Result<LogDone, UploadError> {
        let key = self.store.keys.object(segment, ObjectKind::Log);
        let uploads = &self.store.uploads;
        if source.length <= PART_BYTES as u64 {
            self.throttle.acquire(source.length).await;
            let (source, part) = source.next_part().await?;
            moving("put object", &key, uploads.put(&key, part.into())).await?;
            return source.finish();
        }
        let create = uploads.put_multipart(&key);
        let mut upload = moving("create multipart upload", &key, create).await?;
        let result = match self.upload_parts(&mut upload, source, &key).await {
            Ok(done) => moving("complete multipart upload", &key, upload.complete())
                .await
                .map(|_| done),
            Err(error) => Err(error),
        };
        if result.is_err() {
            // A multipart upload that cannot be aborted now is left to the bucket's lifecycle rule.
            let _ = moving("abort multipart upload", &key, upload.abort()).await;
        }
        result
    }

    /// Uploads one part while the next is being read.
    async fn upload_parts(
        &self,
        upload: &mut Box<dyn MultipartUpload>,
        mut source: LogSource,
        key: &object_store::path::Path,
    ) -> Result<LogDone, UploadError> {
        let mut in_flight: Option<object_store::UploadPart> = None;
        while !source.is_done() {
            self.throttle.acquire(source.next_part_bytes()).await;
            let (after, part) = match in_flight.take() {
                None => source.next_part().await?,
                Some(previous) => {
                    let sending = moving("upload part", key, previous);
                    let (read, sent) = tokio::join!(source.next_part(), sending);
                    sent?;
                    read?
                }
            };
            source = after;
            in_flight = Some(upload.put_part(PutPayload::from_bytes(part)));
        }
        if let Some(last) = in_flight {
            moving("upload part", key, last).await?;
        }
        source.finish()
    }

    /// Removes both objects of an attempt; a missing object is no error. Returns whether both are gone.
    pub async fn remove(&self, segment: &RemoteLogSegmentMetadata) -> bool {
        let mut gone = true;
        for kind in [ObjectKind::Log, ObjectKind::Side] {
            let key = self.store.keys.object(segment, kind);
            match self.store.uploads.delete(&key).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(%key, %error, "a remote object could not be deleted");
                    gone = false;
                }
            }
        }
        gone
    }
}

/// Awaits a call to the store, but not one that is stuck.
async fn moving<T>(
    call: &'static str,
    key: &object_store::path::Path,
    done: impl Future<Output = object_store::Result<T>>,
) -> Result<T, UploadError> {
    let key = || key.to_string();
    match tokio::time::timeout(STALL_TIMEOUT, done).await {
        Ok(result) => result.map_err(|source| UploadError::Store {
            call,
            key: key(),
            source,
        }),
        Err(_) => Err(UploadError::Stalled { call, key: key() }),
    }
}

struct LogDone {
    bytes: u64,
    crc32c: u32,
    chunk_checksums: Vec<u32>,
    walked: Walked,
}

/// Reads a segment file part by part on the blocking pool, computing every checksum on the way.
struct LogSource {
    path: PathBuf,
    file: File,
    length: u64,
    position: u64,
    digest: crc_fast::Digest,
    chunks: ChunkChecksums,
    check: Box<dyn SegmentCheck>,
}

impl LogSource {
    fn open(
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

    fn is_done(&self) -> bool {
        self.position >= self.length
    }

    fn next_part_bytes(&self) -> u64 {
        (self.length - self.position).min(PART_BYTES as u64)
    }

    async fn next_part(mut self) -> Result<(Self, Bytes), UploadError> {
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
        let mut part = vec![0; self.next_part_bytes() as usize];
        self.file
            .read_exact_at(&mut part, self.position)
            .map_err(|source| UploadError::Local {
                path: self.path.clone(),
                source,
            })?;
        self.check.check(&part).map_err(|e| self.corrupt(e))?;
        self.digest.update(&part);
        self.chunks.update(&part);
        self.position += part.len() as u64;
        Ok(part.into())
    }

    fn corrupt(&self, (position, reason): (u64, String)) -> UploadError {
        UploadError::Corrupt {
            path: self.path.clone(),
            position,
            reason,
        }
    }

    fn finish(mut self) -> Result<LogDone, UploadError> {
        let walked = self.check.finish().map_err(|e| self.corrupt(e))?;
        Ok(LogDone {
            bytes: self.length,
            crc32c: self.digest.finalize() as u32,
            chunk_checksums: self.chunks.finish(),
            walked,
        })
    }
}

fn build_side(
    files: &SegmentFiles,
    walked: &Walked,
    chunk_bytes: u32,
    checksums: &[u32],
) -> Result<Bytes, UploadError> {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|source| UploadError::Local {
            path: path.clone(),
            source,
        })
    };
    let optional = |path: &PathBuf| {
        if path.exists() {
            read(path)
        } else {
            Ok(Vec::new())
        }
    };
    let mut chunks = chunk_bytes.to_be_bytes().to_vec();
    chunks.extend(checksums.iter().flat_map(|crc| crc.to_be_bytes()));
    Ok(SideBuilder::default()
        .section(SectionKind::OffsetIndex, walked.offset_index.clone())
        .section(SectionKind::TimeIndex, walked.time_index.clone())
        .section(
            SectionKind::TransactionIndex,
            optional(&files.transaction_index)?,
        )
        .section(
            SectionKind::ProducerSnapshot,
            walked.producer_snapshot.clone(),
        )
        .section(
            SectionKind::LeaderEpochs,
            walked.leader_epochs.clone().into_bytes(),
        )
        .section(SectionKind::ChunkChecksums, chunks)
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_comes_back_is_given_up() {
        let key = object_store::path::Path::from("segments/x.log");
        let stuck = moving(
            "upload part",
            &key,
            std::future::pending::<object_store::Result<()>>(),
        );
        let said = stuck.await.unwrap_err().to_string();
        assert_eq!(
            said,
            "upload part segments/x.log: nothing has moved for 300 s"
        );
    }
}
