//! Whether the bucket prefix that this broker is configured with is its cluster's cold tier. Until that is known nothing is
//! copied and nothing is swept: another cluster's objects must not be called orphans, and one cluster must not spread its
//! segments over two prefixes. Nothing here trusts a conditional PUT; the quorum decides between brokers.

use std::sync::Arc;
use std::time::Duration;

use strandline_log::LogDir;
use strandline_metadata::ClusterImage;
use strandline_metadata::controller::{Command, KnownRemoteStore, RemoteStoreStep};
use strandline_quorum::Quorum;
use strandline_tiering::marker::{
    MarkerError, StoreMarker, Unmarked, look_around, read_marker, write_marker,
};
use strandline_tiering::store::RemoteStore;
use thiserror::Error;
use tokio::time::Instant;
use uuid::Uuid;

use crate::settings::Settings;

/// Between looks for a marker that another broker is about to write.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Between writing a marker and looking whether another cluster wrote one at the same moment.
const SETTLE: Duration = Duration::from_millis(500);
/// A broker that claimed the store writes its marker within this, or is gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a prefix is not used.
#[derive(Debug, Error)]
pub enum OwnershipError {
    /// The properties name the wrong place.
    #[error("strandline.remote.store.url: {place}: {reason}")]
    Refused { place: String, reason: String },
    #[error(transparent)]
    Marker(#[from] MarkerError),
    #[error("the metadata quorum: {0}")]
    Quorum(String),
}

/// The cluster that a process belongs to, as its properties or its log directories say.
pub fn cluster_of(settings: &Settings) -> Option<String> {
    let mut directories = settings.log_dirs.iter();
    let stored = directories.find_map(|directory| LogDir::stored_cluster_id(directory));
    settings.cluster_id.clone().or(stored)
}

/// The next step towards an owned prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The prefix belongs to this cluster, and the metadata say so.
    Owned,
    Claim,
    WriteMarker(Uuid),
    Confirm(Uuid),
    /// Another broker is about to write the marker.
    Wait,
    Refuse(String),
}

/// The objects found at the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Marker(StoreMarker),
    None(Unmarked),
}

fn next_step(found: &Found, known: Option<&KnownRemoteStore>, cluster_id: &str, url: &str) -> Step {
    let marker = match found {
        Found::Marker(marker) => marker,
        Found::None(unmarked) => return without_marker(*unmarked, known, url),
    };
    if marker.cluster_id != cluster_id {
        return Step::Refuse(format!(
            "it belongs to cluster {}, not to {cluster_id}",
            marker.cluster_id
        ));
    }
    match known {
        Some(known) if known.id() != marker.store_id => Step::Refuse(format!(
            "it is store {}, and the cluster's cold tier is store {}: another broker is configured with another place",
            marker.store_id,
            known.id()
        )),
        Some(KnownRemoteStore::Placed { .. }) => Step::Owned,
        _ => Step::Confirm(marker.store_id),
    }
}

fn without_marker(unmarked: Unmarked, known: Option<&KnownRemoteStore>, url: &str) -> Step {
    match (unmarked, known) {
        (Unmarked::Foreign, _) => Step::Refuse(
            "it holds segments that this cluster does not know and no marker that says whose they are".into(),
        ),
        (_, None) => Step::Claim,
        (_, Some(KnownRemoteStore::Pending { id, url: claimed })) if claimed == url => {
            Step::WriteMarker(*id)
        }
        // Objects of the cluster's own whose marker was lost.
        (Unmarked::Known, Some(known)) => Step::WriteMarker(known.id()),
        (Unmarked::Empty, Some(_)) => Step::Wait,
    }
}

/// Determines whether `store` is the cluster's, and claims it if no cluster owns it. Returns when the store is the
/// cluster's.
pub async fn own(store: &RemoteStore, quorum: &Quorum, url: &str) -> Result<(), OwnershipError> {
    if url.starts_with("memory:") {
        return Ok(());
    }
    let refused = |reason: String| OwnershipError::Refused {
        place: store.place().to_owned(),
        reason,
    };
    let began = Instant::now();
    loop {
        let image = quorum.image();
        let cluster_id = image.cluster_id.clone();
        let cluster_id = cluster_id.ok_or(OwnershipError::Quorum("no cluster yet".into()))?;
        let found = look(store, &image).await?;
        let known = KnownRemoteStore::of(&image);
        match next_step(&found, known.as_ref(), &cluster_id, url) {
            Step::Owned => return Ok(()),
            Step::Refuse(reason) => return Err(refused(reason)),
            Step::Claim => {
                let (id, url) = (Uuid::new_v4(), url.to_owned());
                note(quorum, RemoteStoreStep::Claim { id, url }).await?;
            }
            Step::WriteMarker(id) => {
                write_marker(store, &StoreMarker::new(cluster_id, id)).await?;
                tracing::info!(place = store.place(), store_id = %id, "the prefix is marked as this cluster's cold tier");
                tokio::time::sleep(SETTLE).await;
            }
            Step::Confirm(id) => {
                note(quorum, RemoteStoreStep::Confirm { id }).await?;
            }
            Step::Wait if began.elapsed() < PATIENCE => tokio::time::sleep(LOOK_AGAIN).await,
            Step::Wait => {
                let id = known.map(|known| known.id()).unwrap_or_default();
                return Err(refused(format!(
                    "it has no marker, and the cluster's cold tier is store {id}: another broker is configured with another place"
                )));
            }
        }
    }
}

async fn look(store: &RemoteStore, image: &ClusterImage) -> Result<Found, MarkerError> {
    if let Some(marker) = read_marker(store).await? {
        return Ok(Found::Marker(marker));
    }
    let known: std::collections::HashSet<_> = image
        .remote_logs()
        .flat_map(|(_, log)| log.segments().map(|segment| segment.id))
        .collect();
    let unmarked = look_around(store, |id| known.contains(&id)).await?;
    Ok(Found::None(unmarked))
}

async fn note(quorum: &Quorum, step: RemoteStoreStep) -> Result<Arc<ClusterImage>, OwnershipError> {
    let noted = quorum.submit(Command::NoteRemoteStore(step)).await;
    let noted = noted.map_err(|error| OwnershipError::Quorum(error.to_string()))?;
    Ok(noted.image)
}

/// An image that is certainly up to date: a majority of the quorum has just committed that the marker at the prefix is
/// the cluster's. Call this before deleting objects because an image does not know them.
pub async fn confirmed_image(
    store: &RemoteStore,
    quorum: &Quorum,
    url: &str,
) -> Result<Arc<ClusterImage>, OwnershipError> {
    if url.starts_with("memory:") {
        return Ok(quorum.image());
    }
    let found = look(store, &quorum.image()).await?;
    let refused = |reason: &str| OwnershipError::Refused {
        place: store.place().to_owned(),
        reason: reason.to_owned(),
    };
    let Found::Marker(marker) = found else {
        return Err(refused("its marker is gone"));
    };
    let image = note(
        quorum,
        RemoteStoreStep::Confirm {
            id: marker.store_id,
        },
    )
    .await?;
    if image.cluster_id.as_ref() != Some(&marker.cluster_id) {
        return Err(refused("its marker names another cluster"));
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_used_by_its_cluster_and_by_all_brokers_of_it() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let marker = |cluster: &str, id| Found::Marker(StoreMarker::new(cluster.into(), id));
        let pending = |url: &str| KnownRemoteStore::Pending {
            id: one,
            url: url.into(),
        };
        let placed = KnownRemoteStore::Placed { id: one };
        let step = |found: &Found, known: Option<&KnownRemoteStore>| {
            next_step(found, known, "c", "s3://mine")
        };
        let refuses = |found: &Found, known: Option<&KnownRemoteStore>| {
            matches!(step(found, known), Step::Refuse(_))
        };
        assert!(refuses(&marker("other", one), Some(&placed)));
        assert!(refuses(&marker("other", one), None));
        assert!(refuses(&marker("c", two), Some(&placed)));
        assert!(refuses(&marker("c", two), Some(&pending("s3://mine"))));
        assert_eq!(step(&marker("c", one), Some(&placed)), Step::Owned);
        assert_eq!(step(&marker("c", one), None), Step::Confirm(one));
        let mine = pending("s3://mine");
        assert_eq!(step(&marker("c", one), Some(&mine)), Step::Confirm(one));
        for unmarked in [Unmarked::Empty, Unmarked::Known] {
            let found = Found::None(unmarked);
            assert_eq!(step(&found, None), Step::Claim);
            assert_eq!(step(&found, Some(&mine)), Step::WriteMarker(one));
        }
        let empty = Found::None(Unmarked::Empty);
        assert_eq!(step(&empty, Some(&pending("s3://other"))), Step::Wait);
        assert_eq!(step(&empty, Some(&placed)), Step::Wait);
        let known = Found::None(Unmarked::Known);
        assert_eq!(step(&known, Some(&placed)), Step::WriteMarker(one));
        let foreign = Found::None(Unmarked::Foreign);
        assert!(refuses(&foreign, None));
        assert!(refuses(&foreign, Some(&placed)));
    }
}
