//! Loads chunks and side objects from the bucket, and checks them.
//!
//! One damaged answer says nothing about the object: a bit may have been flipped on the way, a proxy may have cut the body.
//! So the bytes are fetched again, and then from another angle ([`Angle`]). Only what is wrong each time is damaged.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore};
use strandline_types::RemoteLogSegmentMetadata;

use super::{FetchError, Inner};
use crate::keys::ObjectKind;
use crate::side::SideObject;
use crate::store::describe;

/// How a range is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Angle {
    Straight,
    /// The same once more.
    Again,
    /// In two halves, over other connections: a cache on the way that holds a damaged answer does not have these.
    Halves,
}

const ANGLES: [Angle; 3] = [Angle::Straight, Angle::Again, Angle::Halves];
/// Before the bytes are fetched again.
const PAUSE: Duration = Duration::from_millis(50);

impl Angle {
    fn parts(self, range: &Range<u64>) -> Vec<Range<u64>> {
        let middle = range.start + range.end.saturating_sub(range.start) / 2;
        if self == Self::Halves && middle > range.start {
            vec![range.start..middle, middle..range.end]
        } else {
            vec![range.clone()]
        }
    }
}

impl Inner {
    pub(super) async fn load_side(
        &self,
        segment: &RemoteLogSegmentMetadata,
    ) -> Result<Arc<SideObject>, FetchError> {
        let key = self.store.keys.object(segment, ObjectKind::Side);
        let _permit = self
            .loads
            .acquire()
            .await
            .expect("the semaphore is never closed");
        self.throttle.acquire(segment.side_bytes).await;
        let decode = |bytes: Bytes, _| {
            // The buffer is larger than the object and goes back to its pool.
            let bytes = Bytes::copy_from_slice(&bytes);
            let side = SideObject::decode(&bytes, segment.side_bytes, segment.side_crc32c);
            side.map(Arc::new).map_err(|e| FetchError::Side {
                key: key.to_string(),
                reason: Arc::new(e),
            })
        };
        self.get_checked(&key, 0..segment.side_bytes, decode).await
    }

    pub(super) async fn load_chunk(
        &self,
        segment: &RemoteLogSegmentMetadata,
        side: &SideObject,
        chunk: u64,
    ) -> Result<Bytes, FetchError> {
        let key = (segment.id, chunk);
        let object = self.store.keys.object(segment, ObjectKind::Log);
        let start = chunk * side.chunk_bytes;
        let (Some(wanted), true) = (side.chunk_checksum(chunk), start < segment.log_bytes) else {
            return Err(FetchError::OutOfBounds {
                key: object.to_string(),
                position: start,
            });
        };
        if let Some(disk) = &self.disk
            && let Some(bytes) = disk.get(key, wanted).await
        {
            self.stats.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(bytes);
        }
        self.stats.misses.fetch_add(1, Ordering::Relaxed);
        let end = (start + side.chunk_bytes).min(segment.log_bytes);
        let _permit = self
            .loads
            .acquire()
            .await
            .expect("the semaphore is never closed");
        self.throttle.acquire(end - start).await;
        let check = |bytes, found| {
            if found == wanted {
                return Ok(bytes);
            }
            Err(FetchError::Corrupt {
                key: object.to_string(),
                chunk,
                found,
                wanted,
            })
        };
        let bytes = self.get_checked(&object, start..end, check).await?;
        if let Some(disk) = &self.disk
            && self.fetched.insert(key)
        {
            disk.put(key, wanted, bytes.clone());
        }
        Ok(bytes)
    }

    /// The bytes of a range, as soon as `check`, which is handed their CRC-32C too, takes them. An error of the store is
    /// the caller's to try again; nothing is known of the bytes then.
    async fn get_checked<T>(
        &self,
        object: &Path,
        range: Range<u64>,
        check: impl Fn(Bytes, u32) -> Result<T, FetchError>,
    ) -> Result<T, FetchError> {
        let mut damage = None;
        for angle in ANGLES {
            if damage.is_some() {
                tokio::time::sleep(PAUSE).await;
            }
            let got = self.get_range(object, &range, angle).await;
            let (bytes, crc32c) = got.map_err(|e| FetchError::Store {
                key: object.to_string(),
                reason: describe(&e),
            })?;
            match check(bytes, crc32c) {
                Ok(checked) => return Ok(checked),
                Err(error) => {
                    self.stats.damaged.fetch_add(1, Ordering::Relaxed);
                    damage = Some(error);
                }
            }
        }
        Err(damage.unwrap_or_else(|| FetchError::Store {
            key: object.to_string(),
            reason: "nothing was asked for".into(),
        }))
    }

    /// A range of an object and its CRC-32C.
    async fn get_range(
        &self,
        object: &Path,
        range: &Range<u64>,
        angle: Angle,
    ) -> object_store::Result<(Bytes, u32)> {
        let client: &dyn ObjectStore = match angle {
            Angle::Straight | Angle::Again => &self.store.reads,
            Angle::Halves => &self.store.uploads,
        };
        let length = range.end.saturating_sub(range.start) as usize;
        let mut buffer = self.buffers.take(length);
        let mut filled = 0;
        let mut checksum = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        for part in angle.parts(range) {
            let options = GetOptions {
                range: Some(part.into()),
                ..GetOptions::default()
            };
            let mut body = client.get_opts(object, options).await?.into_stream();
            while let Some(run) = body.try_next().await? {
                checksum.update(&run);
                // Bytes beyond the range that was asked for are not kept; their checksum will not fit.
                if let Some(room) = buffer.as_mut().get_mut(filled..filled + run.len()) {
                    room.copy_from_slice(&run);
                    filled += run.len();
                }
            }
        }
        Ok((buffer.freeze(filled), checksum.finalize() as u32))
    }

    /// Ends a load when the cache is shut down.
    pub(super) async fn unless_stopped<T>(
        &self,
        load: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        let loaded = self.stop.run_until_cancelled(load).await;
        loaded.unwrap_or_else(|| {
            Err(FetchError::Store {
                key: String::new(),
                reason: "the broker stops".into(),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_angle_asks_for_the_same_bytes_by_other_ranges() {
        for (range, halves) in [(0..10, vec![0..5, 5..10]), (7..10, vec![7..8, 8..10])] {
            assert_eq!(Angle::Halves.parts(&range), halves);
            assert_eq!(Angle::Straight.parts(&range), vec![range]);
        }
        for tiny in [3..4, 3..3] {
            assert_eq!(Angle::Halves.parts(&tiny), vec![tiny]);
        }
    }
}
