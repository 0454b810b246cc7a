//! Copying one sealed segment into the bucket.
//!
//! Every batch's own CRC is checked while the file is read, so damaged local data is never copied. The log object is one
//! PUT, or a multipart upload above [`PART_BYTES`]; the side object follows.
//!
//! Crash consistency: the quorum knows `CopySegmentStarted` before the first byte moves. A crash before the log object
//! is complete leaves an unfinished multipart upload; after it, one or two objects that no finished record names: the next
//! leader marks the attempt deleted and removes all three, and the collector sweeps what is left. A failure here aborts the
//! multipart upload and removes what was written, as far as the store lets it.
//!
//! The store's word is not enough: what was sent is looked at ([`proving`]) before the caller commits the copy.

mod memory;
mod proving;
mod source;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use strandline_types::{EpochStart, RemoteLogSegmentMetadata, TimestampMs};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::keys::ObjectKind;
use crate::side::{SectionKind, SideBuilder};
use crate::store::{RemoteStore, describe, limit_of};
use crate::throttle::Throttle;
pub use memory::CopyMemory;
use memory::Room;
use source::{LogDone, LogSource};

/// Size of a part: above S3's minimum of 5 MiB, and large enough that a GiB costs 43 requests (41 parts, create, complete) and one for the side object.
pub const PART_BYTES: usize = 24 << 20;

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
    #[error("{call} {key}: {}", describe(source))]
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
    #[error("{call} {key}: {bytes} bytes have not moved within {seconds} s")]
    Stalled {
        call: &'static str,
        key: String,
        bytes: u64,
        seconds: u64,
    },
    /// The store has answered that it has the object, and has not, or has another one.
    #[error("{key}: the store took {sent} bytes and holds {found}")]
    NotThere {
        key: String,
        sent: u64,
        found: String,
    },
    /// The process stops; the next start ends the attempt.
    #[error("the broker stops")]
    Stopped,
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
    pub memory: CopyMemory,
    /// Ends what is under way, and aborts it in the store.
    pub stop: CancellationToken,
}

impl Uploader {
    /// Uploads both objects of `segment` and proves that the store has them. Not cancel safe: dropped half-way, it leaves
    /// what a crash would.
    pub async fn upload(
        &self,
        segment: &RemoteLogSegmentMetadata,
        files: &SegmentFiles,
        check: Box<dyn SegmentCheck>,
    ) -> Result<Uploaded, UploadError> {
        let result = self.upload_both(segment, files, check).await;
        if result
            .as_ref()
            .is_err_and(|e| !matches!(e, UploadError::Stopped))
        {
            // The caller deletes the rest: the attempt's record says so.
            let _ = self.remove(segment).await;
        }
        result
    }

    async fn upload_both(
        &self,
        segment: &RemoteLogSegmentMetadata,
        files: &SegmentFiles,
        check: Box<dyn SegmentCheck>,
    ) -> Result<Uploaded, UploadError> {
        let (client, proof) = self.store.copies.client();
        let source = LogSource::open(&files.log, self.chunk_bytes, check)?;
        let log_key = self.store.keys.object(segment, ObjectKind::Log);
        let log = self.upload_log(client, &log_key, source).await?;
        let proved = self.prove(&log_key, log.bytes, log.crc32c, proof);
        self.until_stop(proved).await?;
        let side = build_side(files, &log.walked, self.chunk_bytes, &log.chunk_checksums)?;
        let key = self.store.keys.object(segment, ObjectKind::Side);
        let (side_bytes, side_crc32c) = (side.len() as u64, crate::crc32c(&side));
        let put = async {
            self.throttle.acquire(side_bytes).await;
            put(client, &key, side).await?;
            self.prove(&key, side_bytes, side_crc32c, proof).await
        };
        self.until_stop(put).await?;
        Ok(Uploaded {
            log_bytes: log.bytes,
            log_crc32c: log.crc32c,
            side_bytes,
            side_crc32c,
            segment_leader_epochs: log.walked.segment_leader_epochs,
            max_timestamp_ms: log.walked.max_timestamp_ms,
        })
    }

    /// Ends what is dropped without harm when the broker stops.
    async fn until_stop<T>(
        &self,
        work: impl Future<Output = Result<T, UploadError>>,
    ) -> Result<T, UploadError> {
        let done = self.stop.run_until_cancelled(work).await;
        done.unwrap_or(Err(UploadError::Stopped))
    }

    async fn upload_log(
        &self,
        client: &Arc<dyn ObjectStore>,
        key: &Path,
        source: LogSource,
    ) -> Result<LogDone, UploadError> {
        if source.length <= PART_BYTES as u64 {
            let sent = async {
                self.throttle.acquire(source.length).await;
                let _room = self.memory.room(source.length).await;
                let (source, part) = source.next_part().await?;
                put(client, key, part).await?;
                source.finish()
            };
            return self.until_stop(sent).await;
        }
        let create = client.put_multipart(key);
        let create = moving("create multipart upload", key, 0, create);
        let mut upload = self.until_stop(create).await?;
        let parts = self.upload_parts(&mut upload, source, key);
        let result = match self.until_stop(parts).await {
            Ok(done) => moving("complete multipart upload", key, 0, upload.complete())
                .await
                .map(|_| done),
            Err(error) => Err(error),
        };
        if result.is_err() {
            // A multipart upload that cannot be aborted now is found by its key when the attempt is deleted, or by the sweep.
            let _ = moving("abort multipart upload", key, 0, upload.abort()).await;
        }
        result
    }

    /// Uploads one part while the next is being read.
    async fn upload_parts(
        &self,
        upload: &mut Box<dyn MultipartUpload>,
        mut source: LogSource,
        key: &Path,
    ) -> Result<LogDone, UploadError> {
        type InFlight = (object_store::UploadPart, u64, Room);
        let mut in_flight: Option<InFlight> = None;
        let send = |part: Option<InFlight>| async move {
            match part {
                Some((part, bytes, _room)) => moving("upload part", key, bytes, part).await,
                None => Ok(()),
            }
        };
        while !source.is_done() {
            let bytes = source.next_part_bytes();
            let read = async {
                self.throttle.acquire(bytes).await;
                // A copy that waits here has a part on its way, which will be over: there is no circle.
                let room = self.memory.room(bytes).await;
                source.next_part().await.map(|read| (read, room))
            };
            let (read, sent) = tokio::join!(read, send(in_flight.take()));
            sent?;
            let ((after, part), room) = read?;
            source = after;
            let part = upload.put_part(PutPayload::from_bytes(part));
            in_flight = Some((part, bytes, room));
        }
        send(in_flight).await?;
        source.finish()
    }

    /// Removes both objects of an attempt, and uploads of it that were never finished; what is not there is no error.
    /// Returns what the store said where something is left.
    pub async fn remove(&self, segment: &RemoteLogSegmentMetadata) -> Result<(), UploadError> {
        let log = self.store.keys.object(segment, ObjectKind::Log);
        let has_parts = segment.log_bytes > PART_BYTES as u64;
        let is_unfinished = segment.log_crc32c == 0;
        if has_parts && is_unfinished {
            let aborted = self.store.abort_uploads(&log);
            moving("abort multipart upload", &log, 0, aborted).await?;
        }
        let side = self.store.keys.object(segment, ObjectKind::Side);
        for key in [log, side] {
            let deleted = moving(
                "delete object",
                &key,
                0,
                self.store.deletes.client().delete(&key),
            )
            .await;
            match deleted {
                Err(UploadError::Store {
                    source: object_store::Error::NotFound { .. },
                    ..
                }) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

async fn put(client: &Arc<dyn ObjectStore>, key: &Path, bytes: Bytes) -> Result<(), UploadError> {
    let length = bytes.len() as u64;
    let put = client.put(key, bytes.into());
    moving("put object", key, length, put).await.map(|_| ())
}

/// Awaits a call to the store that carries so many bytes, but not one that is stuck.
async fn moving<T>(
    call: &'static str,
    key: &Path,
    bytes: u64,
    done: impl Future<Output = object_store::Result<T>>,
) -> Result<T, UploadError> {
    let key = || key.to_string();
    let limit = limit_of(bytes);
    match tokio::time::timeout(limit, done).await {
        Ok(result) => result.map_err(|source| UploadError::Store {
            call,
            key: key(),
            source,
        }),
        Err(_) => Err(UploadError::Stalled {
            call,
            key: key(),
            bytes,
            seconds: limit.as_secs(),
        }),
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
            24 << 20,
            std::future::pending::<object_store::Result<()>>(),
        );
        let said = stuck.await.unwrap_err().to_string();
        assert_eq!(
            said,
            "upload part segments/x.log: 25165824 bytes have not moved within 54 s"
        );
    }
}
