//! Looks at a store before anything depends on it: which call does not work, and how copies are proved.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::proof::{Proof, Way};
use super::said::{describe, forbidden};
use super::{RemoteStore, StoreError};

/// The bytes of the probe.
pub(super) const PROBE: Bytes = Bytes::from_static(b"strandline probe");
/// The bytes that arrive in their place over a connection that lies: one bit differs.
pub(super) const DAMAGED: Bytes = Bytes::from_static(b"strandline probd");

impl RemoteStore {
    /// Creates the bucket where that is asked for, and probes it.
    pub async fn prepare(&self) -> Result<(), StoreError> {
        if let Some(bucket) = self.bucket.as_ref().filter(|_| self.creates_bucket) {
            bucket.create(&self.place).await?;
        }
        self.probe().await
    }

    /// The error of a call that failed; where S3 forbids the call, with the permission that is missing.
    pub(super) fn failed(&self, call: &'static str, error: &object_store::Error) -> StoreError {
        let is_forbidden = matches!(
            error,
            object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }
        );
        StoreError::Call {
            call,
            place: self.place.clone(),
            reason: if is_forbidden && self.place.starts_with("s3") {
                forbidden(call, &error.to_string())
            } else {
                describe(error)
            },
            transient: matches!(error, object_store::Error::Generic { .. }),
        }
    }

    /// Uses every call that the broker needs on a small object; the error names the one that failed. Then finds out how
    /// copies are proved.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let key = self.keys.probe();
        let failed = |call: &'static str| move |e: object_store::Error| self.failed(call, &e);
        let mismatch = |call| StoreError::Call {
            call,
            place: self.place.clone(),
            reason: "other bytes came back than were written".into(),
            transient: false,
        };
        self.reads
            .put(&key, PROBE.into())
            .await
            .map_err(failed("put object"))?;
        let head = self.reads.head(&key).await.map_err(failed("head object"))?;
        let whole = self.reads.get(&key).await.map_err(failed("get object"))?;
        if head.size != PROBE.len() as u64
            || whole.bytes().await.map_err(failed("get object"))? != PROBE
        {
            return Err(mismatch("get object"));
        }
        let range = self
            .reads
            .get_range(&key, 2..5)
            .await
            .map_err(failed("get object range"))?;
        if PROBE.get(2..5) != Some(&range[..]) {
            return Err(mismatch("get object range"));
        }
        let mut listing = self.reads.list(Some(&key));
        while let Some(entry) = listing.next().await {
            entry.map_err(failed("list objects"))?;
        }
        if let Err(error) = self.probe_multipart(&key).await {
            // The answer may be lost, and the upload there.
            let _ = self.abort_uploads(&key).await;
            return Err(error);
        }
        if !self.copies.is_known() {
            self.find_proof(&key).await;
        }
        let deleted = self.deletes.client().delete(&key).await;
        let deleted = match deleted {
            Err(error) if is_unknown_call(&error) && self.deletes.go_on_one_by_one() => {
                tracing::info!(place = %self.place, error = describe(&error), "objects are deleted one by one: the store does not take several in one request");
                self.deletes.client().delete(&key).await
            }
            other => other,
        };
        deleted.map_err(failed("delete object"))
    }

    /// An upload in parts that is completed, and one that is aborted.
    async fn probe_multipart(&self, key: &Path) -> Result<(), StoreError> {
        let failed = |call: &'static str| move |e: object_store::Error| self.failed(call, &e);
        let create = || async {
            let created = self.reads.put_multipart(key).await;
            created.map_err(failed("create multipart upload"))
        };
        let mut upload = create().await?;
        let part = upload.put_part(PROBE.into()).await;
        let done = match part.map_err(failed("upload part")) {
            Ok(()) => upload
                .complete()
                .await
                .map(|_| ())
                .map_err(failed("complete multipart upload")),
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            let _ = upload.abort().await;
            return Err(error);
        }
        match create().await?.abort().await {
            // Uploads that fail stay there, which costs space and no record.
            Err(error) if is_unknown_call(&error) => {
                let error = describe(&error);
                tracing::warn!(place = %self.place, %error, "the store cannot abort uploads: what is left of those that fail stays there");
                return Ok(());
            }
            other => other.map_err(failed("abort multipart upload"))?,
        }
        match self.open_uploads(key).await {
            // An answer may have been lost, and the client has created another one.
            Ok(lost) => {
                for upload in &lost {
                    let aborted = self.abort_upload(upload).await;
                    aborted.map_err(failed("abort multipart upload"))?;
                }
            }
            Err(error) => {
                let error = describe(&error);
                tracing::warn!(place = %self.place, %error, "unfinished uploads cannot be found here; set a rule of the bucket that aborts them");
            }
        }
        Ok(())
    }

    /// Finds out how copies are proved, once.
    async fn find_proof(&self, key: &Path) {
        let mut chosen = None;
        for (number, way) in self.copies.ways.iter().enumerate() {
            match is_verified(way, key).await {
                Some(true) => {
                    chosen = Some(number);
                    break;
                }
                Some(false) => {}
                // The store does not answer: nothing is known yet.
                None => return,
            }
        }
        self.copies.choose(chosen);
        let (_, proof) = self.copies.client();
        tracing::info!(place = %self.place, %proof, "how copies are proved");
    }

    /// Finds out how copies are proved, where the store has not answered yet.
    pub async fn learn_proof(&self) -> Proof {
        if !self.copies.is_known() {
            let key = self.keys.probe();
            self.find_proof(&key).await;
            let _ = self.deletes.client().delete(&key).await;
        }
        self.copies.client().1
    }
}

/// Whether the store takes what fits the checksum and refuses what does not, as an object and as a part. `None` if the
/// store does not answer.
async fn is_verified(way: &Way, key: &Path) -> Option<bool> {
    for (client, is_honest) in [(&way.client, true), (&way.lying, false)] {
        let put = client.put(key, PROBE.into()).await.map(|_| ());
        let in_parts = in_parts(client, key).await;
        for taken in [put, in_parts] {
            match (is_honest, taken) {
                (true, Ok(())) => {}
                (false, Err(error)) if is_refusal(&error) => {}
                // A connection that ends instead of an answer proves nothing.
                (false, _) => return Some(false),
                (true, Err(error)) if is_refusal(&error) => return Some(false),
                (true, Err(_)) => return None,
            }
        }
    }
    Some(true)
}

async fn in_parts(client: &Arc<dyn ObjectStore>, key: &Path) -> object_store::Result<()> {
    let mut upload = client.put_multipart(key).await?;
    let sent = match upload.put_part(PROBE.into()).await {
        Ok(()) => upload.complete().await.map(|_| ()),
        Err(error) => Err(error),
    };
    if sent.is_err() {
        let _ = upload.abort().await;
    }
    sent
}

/// The store does not have this call at all.
fn is_unknown_call(error: &object_store::Error) -> bool {
    let text = error.to_string();
    let said = [
        "status code: 405",
        "status code: 501",
        "NotImplemented",
        "MethodNotAllowed",
    ];
    said.iter().any(|said| text.contains(said))
}

/// The store has answered and said no. An error of the network, or of the server, says nothing.
fn is_refusal(error: &object_store::Error) -> bool {
    let text = error.to_string();
    ["non-2xx status code: 4", "NotImplemented"]
        .iter()
        .any(|said| text.contains(said))
        && !text.contains("status code: 429")
        && !text.contains("status code: 408")
}
