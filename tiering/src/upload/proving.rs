//! Looks at an object that the store says it has: its length, and its bytes where the store is not known to compare a
//! checksum of its own ([`Proof`]).

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::{UploadError, Uploader, moving};
use crate::store::Proof;

impl Uploader {
    /// Whether the store holds what was sent.
    pub(super) async fn prove(
        &self,
        key: &Path,
        sent: u64,
        crc32c: u32,
        proof: Proof,
    ) -> Result<(), UploadError> {
        let not_there = |found: String| UploadError::NotThere {
            key: key.to_string(),
            sent,
            found,
        };
        let head = moving("head object", key, 0, self.store.reads.head(key)).await;
        let length = match head {
            Ok(meta) => meta.size,
            Err(UploadError::Store {
                source: object_store::Error::NotFound { .. },
                ..
            }) => return Err(not_there("nothing".into())),
            Err(error) => return Err(error),
        };
        if length != sent {
            return Err(not_there(format!("{length} bytes")));
        }
        if proof != Proof::ReadBack {
            return Ok(());
        }
        let read = moving("read back", key, sent, self.checksum(key)).await?;
        match read {
            (length, _) if length != sent => Err(not_there(format!("{length} bytes"))),
            (_, found) if found != crc32c => Err(not_there(format!(
                "others (crc {found:#010x}, sent was {crc32c:#010x})"
            ))),
            _ => Ok(()),
        }
    }

    /// Length and CRC-32C of an object, by reading it.
    async fn checksum(&self, key: &Path) -> object_store::Result<(u64, u32)> {
        let mut body = self.store.uploads.get(key).await?.into_stream();
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        let mut length = 0;
        while let Some(run) = body.try_next().await? {
            digest.update(&run);
            length += run.len() as u64;
        }
        Ok((length, digest.finalize() as u32))
    }
}
