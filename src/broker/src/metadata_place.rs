//! The directory that holds the metadata log, as it was when the process started. A process whose metadata is not there any
//! more (unmounted, moved away) must end: what it promises the quorum from then on would be gone at the next start. I/O
//! errors of the metadata log end the quorum by themselves.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use strandline_log::DirectoryPlace;
use strandline_quorum::Quorum;

/// How often the directory is looked at.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct MetadataPlace(DirectoryPlace);

impl MetadataPlace {
    pub fn of(path: &Path) -> io::Result<Self> {
        DirectoryPlace::of(path).map(Self)
    }

    /// Returns when another directory is in its place, or none, with the reason.
    pub async fn lost(&self) -> String {
        loop {
            let place = self.0.clone();
            match tokio::task::spawn_blocking(move || place.check()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    return format!("metadata log: {}: {error}", self.0.path().display());
                }
                Err(error) => {
                    tracing::warn!(%error, "the directory of the metadata log was not looked at");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Writes the cluster's id into the `meta.properties` of a controller that is no broker, once it is known; Kafka's tools
/// read it there.
pub async fn note_cluster_id(quorum: Arc<Quorum>, directory: PathBuf, node_id: i32) {
    let mut images = quorum.subscribe();
    let Ok(image) = images.wait_for(|image| image.cluster_id.is_some()).await else {
        return;
    };
    let cluster_id = image.cluster_id.clone();
    drop(image);
    if let Err(error) = strandline_log::identify(&directory, node_id, cluster_id.as_deref()) {
        tracing::error!(%error, "the cluster id could not be written");
    }
}
