//! The directory that holds the metadata log, as it was when the process started. A process whose metadata is not there any
//! more (unmounted, moved away) must end: what it promises the quorum from then on would be gone at the next start. I/O
//! errors of the metadata log end the quorum by themselves.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the directory is looked at.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct MetadataPlace {
    path: PathBuf,
    /// Device and inode.
    place: (u64, u64),
}

impl MetadataPlace {
    pub fn of(path: PathBuf) -> io::Result<Self> {
        Ok(Self {
            place: place_of(&path)?,
            path,
        })
    }

    /// Returns when another directory is in its place, or none, with the reason.
    pub async fn lost(&self) -> String {
        loop {
            let path = self.path.clone();
            let found = tokio::task::spawn_blocking(move || place_of(&path)).await;
            let path = self.path.display();
            match found {
                Ok(Ok(place)) if place == self.place => {}
                Ok(Ok(_)) => {
                    return format!("metadata log: {path} is another directory than at the start");
                }
                Ok(Err(error)) => return format!("metadata log: {path}: {error}"),
                Err(error) => {
                    tracing::warn!(%error, "the directory of the metadata log was not looked at");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn place_of(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
