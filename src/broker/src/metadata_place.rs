//! The directory that holds the metadata log, as it was when the process started. A process whose metadata is not there any
//! more (unmounted, moved away) must end: what it promises the quorum from then on would be gone at the next start. I/O
//! errors of the metadata log end the quorum by themselves.

use std::io;
use std::path::Path;
use std::time::Duration;

use strandline_log::DirectoryPlace;

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
