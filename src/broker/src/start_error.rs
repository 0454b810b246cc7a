//! The reasons for which a process does not start.

use std::io;

use strandline_log::LogDirError;
use strandline_quorum::QuorumError;
use strandline_tiering::cache::DiskCacheError;
use strandline_tiering::store::StoreError;
use thiserror::Error;

use crate::cluster::LifecycleError;
use crate::founding::FoundingError;
use crate::tier::OwnershipError;

/// The reason why a broker did not start; each variant names the setting, file or address at fault.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    LogDir(#[from] LogDirError),
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    #[error(transparent)]
    Founding(#[from] FoundingError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    #[error(transparent)]
    Cache(#[from] DiskCacheError),
    #[error("{property}: {address}: {source}")]
    Bind {
        property: &'static str,
        address: String,
        source: io::Error,
    },
    #[error("remote.log.storage.system.enable: {0}")]
    TieredTopics(String),
    #[error("log.dirs: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
}
