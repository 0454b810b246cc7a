//! A cold tier for the brokers of one cluster.

use std::path::Path;

use tempfile::TempDir;

use crate::broker::TIERED;

/// A directory that the brokers of a cluster share.
pub struct SharedTier {
    directory: TempDir,
    url: String,
}

impl Default for SharedTier {
    fn default() -> Self {
        let directory = TempDir::new().expect("a directory");
        let url = format!("file://{}", directory.path().display());
        Self { directory, url }
    }
}

impl SharedTier {
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The tier with short intervals, and `more`.
    pub fn properties<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let mut all = vec![("strandline.remote.store.url", self.url.as_str())];
        all.extend(TIERED);
        all.extend_from_slice(more);
        all
    }
}
