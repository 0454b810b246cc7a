//! Sweeps up objects that no record names, and unfinished uploads: leftovers of crashes and interrupted deletions.
//!
//! An object goes only if all of this holds: its key is one that this cluster makes, the image names no attempt with its
//! id in any state, and the store's own clock says that it is older than a grace longer than any upload. Too large a
//! share of orphans stops the sweep: then it is the image that is suspect, not the bucket.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use strandline_types::{RemoteLogSegmentId, TopicId};
use thiserror::Error;

use crate::store::{OpenUpload, RemoteStore, describe};

/// Whether orphans are removed or only reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepMode {
    DryRun,
    Delete,
}

#[derive(Clone, Debug)]
pub struct SweepRules {
    pub mode: SweepMode,
    pub grace: Duration,
    /// Above this share of all objects (0 to 1) nothing is removed.
    pub max_share: f64,
}

/// Orphans that a report names; of the others it has the number and the bytes.
const NAMED_ORPHANS: usize = 1000;

/// An object that nothing refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    pub key: String,
    pub bytes: u64,
    /// The object's age by the store's clock.
    pub age_seconds: u64,
}

/// The findings of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepReport {
    pub objects: u64,
    pub bytes: u64,
    pub orphans: u64,
    pub orphan_bytes: u64,
    /// Unknown to the image, but younger than the grace: most likely uploads that are under way.
    pub young: u64,
    pub deleted: u64,
    /// Uploads in parts that nobody will finish.
    #[serde(default)]
    pub open_uploads: u64,
    /// More orphans than the allowed share: a sweep that deletes would refuse to.
    pub too_many: bool,
    /// The first of the orphans.
    pub named: Vec<Orphan>,
}

#[derive(Debug, Error)]
pub enum SweepError {
    #[error("{}", describe(.0))]
    Store(#[from] object_store::Error),
    #[error(
        "{orphans} of {objects} objects would be swept, more than the allowed share; nothing was deleted"
    )]
    TooMany { orphans: u64, objects: u64 },
}

/// Objects that a sweep would remove.
#[derive(Debug, Default)]
pub struct Orphans {
    found: Vec<(RemoteLogSegmentId, Path)>,
    uploads: Vec<OpenUpload>,
}

/// Lists every segment object of the cluster and finds the orphans.
///
/// `known` must have been read from the image *before* the call: an attempt that starts later is younger than the grace.
pub async fn find_orphans(
    store: &RemoteStore,
    known: &HashSet<RemoteLogSegmentId>,
    rules: &SweepRules,
    now: SystemTime,
) -> Result<(SweepReport, Orphans), SweepError> {
    let mut report = SweepReport::default();
    let mut orphans = Orphans::default();
    let mut listing = store.reads.list(Some(&store.keys.all_segments()));
    while let Some(object) = listing.try_next().await? {
        report.objects += 1;
        report.bytes += object.size;
        let Some(key) = store.keys.parse(&object.location) else {
            continue;
        };
        if known.contains(&key.id) {
            continue;
        }
        let age = now
            .duration_since(object.last_modified.into())
            .unwrap_or_default();
        if age <= rules.grace {
            report.young += 1;
            continue;
        }
        report.orphans += 1;
        report.orphan_bytes += object.size;
        if report.named.len() < NAMED_ORPHANS {
            report.named.push(Orphan {
                key: object.location.to_string(),
                bytes: object.size,
                age_seconds: age.as_secs(),
            });
        }
        if rules.mode == SweepMode::Delete {
            orphans.found.push((key.id, object.location));
        }
    }
    // Where the store cannot list them, a rule of the bucket has to end them.
    for prefix in [store.keys.all_segments(), store.keys.all_probes()] {
        let Ok(uploads) = store.open_uploads(&prefix).await else {
            continue;
        };
        let old = |u: &OpenUpload| {
            let age = u.initiated.and_then(|at| now.duration_since(at).ok());
            age.is_some_and(|age| age > rules.grace)
        };
        orphans.uploads.extend(uploads.into_iter().filter(old));
    }
    report.open_uploads = orphans.uploads.len() as u64;
    report.too_many = report.orphans as f64 > report.objects as f64 * rules.max_share;
    if report.too_many && !orphans.found.is_empty() {
        return Err(SweepError::TooMany {
            orphans: report.orphans,
            objects: report.objects,
        });
    }
    Ok((report, orphans))
}

/// Removes orphans, but none that `known` names: an image that is newer than the one they were found with, and that a
/// majority of the quorum has confirmed.
pub async fn remove_orphans(
    store: &RemoteStore,
    orphans: Orphans,
    known: &HashSet<RemoteLogSegmentId>,
) -> Result<u64, SweepError> {
    // An upload that is older than the grace is over, whatever became of its segment.
    for upload in &orphans.uploads {
        store.abort_upload(upload).await?;
    }
    let found = orphans.found.into_iter();
    let keys: Vec<_> = found
        .filter(|(id, _)| !known.contains(id))
        .map(|(_, key)| key)
        .collect();
    Ok(delete_all(store, keys).await?)
}

/// Why a deleted topic's data is still there.
#[derive(Debug, Error)]
pub enum PurgeError {
    #[error("{}", describe(.0))]
    Store(#[from] object_store::Error),
    #[error("the store says that {key} is deleted, and lists it still")]
    StillThere { key: String },
}

/// Removes everything under a deleted topic's prefix, unfinished uploads too; returns how many objects there were.
pub async fn purge_topic(store: &RemoteStore, topic: TopicId) -> Result<u64, PurgeError> {
    let prefix = store.keys.topic(topic);
    let mut deleted = HashSet::new();
    // Listed again until nothing is left: an upload may have been finishing while the first listing ran.
    loop {
        store.abort_uploads(&prefix).await?;
        let listed = store.reads.list(Some(&prefix));
        let objects: Vec<Path> = listed.map_ok(|o| o.location).try_collect().await?;
        if objects.is_empty() {
            return Ok(deleted.len() as u64);
        }
        // Each round deletes something new, or it is the last.
        if let Some(key) = objects.iter().find(|key| deleted.contains(*key)) {
            return Err(PurgeError::StillThere {
                key: key.to_string(),
            });
        }
        delete_all(store, objects.clone()).await?;
        deleted.extend(objects);
    }
}

async fn delete_all(store: &RemoteStore, keys: Vec<Path>) -> object_store::Result<u64> {
    let keys = futures::stream::iter(keys).map(Ok).boxed();
    let mut deleted = 0;
    let mut results = store.deletes.client().delete_stream(keys);
    while let Some(result) = results.next().await {
        match result {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => deleted += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;
    use crate::keys::ObjectKind;
    use crate::planner::tests::remote_segment;
    use crate::store::RemoteStoreConfig;

    async fn store_with(segments: i64) -> RemoteStore {
        let config = RemoteStoreConfig {
            url: "memory://".into(),
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            create_bucket: false,
        };
        let store = RemoteStore::connect(&config).await.unwrap();
        for n in 0..segments {
            for kind in [ObjectKind::Log, ObjectKind::Side] {
                let key = store.keys.object(&remote_segment(n, n + 1), kind);
                store.uploads.put(&key, "x".into()).await.unwrap();
            }
        }
        store
    }

    fn known(segments: i64) -> HashSet<RemoteLogSegmentId> {
        (0..segments).map(|n| remote_segment(n, n + 1).id).collect()
    }

    const RULES: SweepRules = SweepRules {
        mode: SweepMode::Delete,
        grace: Duration::from_secs(60),
        max_share: 0.5,
    };

    const RULES_OF_ALL: SweepRules = SweepRules {
        max_share: 1.0,
        ..RULES
    };

    #[tokio::test]
    async fn orphans_go_after_the_grace_and_nothing_else() {
        let store = store_with(10).await;
        let later = SystemTime::now() + Duration::from_secs(120);
        let swept = |rules: SweepRules, now| {
            let store = store.clone();
            async move {
                let (mut report, orphans) = find_orphans(&store, &known(8), &rules, now).await?;
                report.deleted = remove_orphans(&store, orphans, &known(8)).await?;
                Ok::<_, SweepError>(report)
            }
        };
        assert_eq!(
            swept(RULES, SystemTime::now()).await.unwrap().orphans,
            0,
            "too young"
        );
        let dry = SweepRules {
            mode: SweepMode::DryRun,
            ..RULES
        };
        let report = swept(dry, later).await.unwrap();
        assert_eq!((report.objects, report.orphans, report.deleted), (20, 4, 0));
        assert_eq!(report.named.len(), 4);
        let strict = SweepRules {
            max_share: 0.1,
            ..RULES
        };
        assert!(matches!(
            swept(strict, later).await,
            Err(SweepError::TooMany { .. })
        ));
        let (_, stale) = find_orphans(&store, &known(2), &RULES_OF_ALL, later)
            .await
            .unwrap();
        let removed = remove_orphans(&store, stale, &known(10)).await.unwrap();
        assert_eq!(removed, 0, "a newer image knows them");
        assert_eq!(swept(RULES, later).await.unwrap().deleted, 4);
        assert_eq!(swept(RULES, later).await.unwrap().objects, 16);
    }

    #[tokio::test]
    async fn a_deleted_topics_prefix_is_emptied() {
        let store = store_with(5).await;
        let topic = remote_segment(0, 1).partition.topic_id;
        assert_eq!(purge_topic(&store, topic).await.unwrap(), 10);
        assert_eq!(purge_topic(&store, topic).await.unwrap(), 0);
    }
}
