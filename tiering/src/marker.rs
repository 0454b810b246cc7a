//! The marker of a bucket prefix: one small object names the cluster and the store that own the prefix.
//!
//! `<prefix>/strandline-store.json`: `{"format":1,"cluster_id":"…","store_id":"…"}`. A cluster writes the marker where
//! there is none and no foreign object, and never over another cluster's marker. Two clusters that start on an empty
//! prefix at the same moment may both write the marker; the last write stands, and the other cluster finds the foreign
//! marker when it looks again.

use object_store::{ObjectStoreExt, path::Path};
use serde::{Deserialize, Serialize};
use strandline_types::RemoteLogSegmentId;
use thiserror::Error;
use uuid::Uuid;

use crate::store::{RemoteStore, describe, one_line};
use futures::TryStreamExt;

const NAME: &str = "strandline-store.json";
const FORMAT: u32 = 1;
/// A marker is no larger than this.
const MAX_BYTES: u64 = 64 << 10;
/// Objects that are looked at where a prefix has no marker.
const LOOKED_AT: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreMarker {
    pub format: u32,
    pub cluster_id: String,
    pub store_id: Uuid,
}

#[derive(Debug, Error)]
pub enum MarkerError {
    #[error("{key}: {}", describe(source))]
    Store {
        key: String,
        source: object_store::Error,
    },
    #[error("{key} is no marker of a cold tier: {reason}")]
    Damaged { key: String, reason: String },
}

/// The contents of a prefix that has no marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmarked {
    Empty,
    /// Segments that the cluster knows.
    Known,
    /// Segments, and the cluster knows none of those that were looked at.
    Foreign,
}

impl StoreMarker {
    pub fn new(cluster_id: String, store_id: Uuid) -> Self {
        Self {
            format: FORMAT,
            cluster_id,
            store_id,
        }
    }
}

fn key(store: &RemoteStore) -> Path {
    store.keys.named(NAME)
}

/// Reads the marker; `None` where there is none.
pub async fn read_marker(store: &RemoteStore) -> Result<Option<StoreMarker>, MarkerError> {
    let key = key(store);
    let failed = |source| MarkerError::Store {
        key: key.to_string(),
        source,
    };
    let damaged = |reason: String| MarkerError::Damaged {
        key: key.to_string(),
        reason,
    };
    let found = match store.reads.get(&key).await {
        Ok(found) => found,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if found.meta.size > MAX_BYTES {
        return Err(damaged(format!("{} bytes", found.meta.size)));
    }
    let bytes = found.bytes().await.map_err(failed)?;
    let marker: StoreMarker =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if one_line(&marker.cluster_id) != marker.cluster_id {
        return Err(damaged("its cluster id is none".into()));
    }
    if marker.format != FORMAT {
        return Err(damaged(format!("format {}", marker.format)));
    }
    Ok(Some(marker))
}

pub async fn write_marker(store: &RemoteStore, marker: &StoreMarker) -> Result<(), MarkerError> {
    let key = key(store);
    let text = serde_json::to_vec(marker).map_err(|error| MarkerError::Damaged {
        key: key.to_string(),
        reason: error.to_string(),
    })?;
    let put = store.reads.put(&key, text.into()).await;
    put.map(|_| ()).map_err(|source| MarkerError::Store {
        key: key.to_string(),
        source,
    })
}

/// Looks at the first segments of a prefix without a marker.
pub async fn look_around(
    store: &RemoteStore,
    is_known: impl Fn(RemoteLogSegmentId) -> bool,
) -> Result<Unmarked, MarkerError> {
    let prefix = store.keys.all_segments();
    let mut listing = store.reads.list(Some(&prefix));
    let mut found = Unmarked::Empty;
    for _ in 0..LOOKED_AT {
        let next = listing
            .try_next()
            .await
            .map_err(|source| MarkerError::Store {
                key: prefix.to_string(),
                source,
            })?;
        let Some(object) = next else { break };
        let Some(key) = store.keys.parse(&object.location) else {
            continue;
        };
        if is_known(key.id) {
            return Ok(Unmarked::Known);
        }
        found = Unmarked::Foreign;
    }
    Ok(found)
}
