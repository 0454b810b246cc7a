//! The reasons for which a process does not start.

use std::io;

use strandline_log::LogDirError;
use strandline_quorum::QuorumError;
use thiserror::Error;

use crate::cluster::LifecycleError;
use crate::founding::FoundingError;
use crate::tier::OpenTierError;

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
    Tier(OpenTierError),
    #[error("{property}: {address}: {source}")]
    Bind {
        property: &'static str,
        address: String,
        source: io::Error,
    },
    #[error("log.dirs: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
}

impl From<OpenTierError> for StartError {
    fn from(error: OpenTierError) -> Self {
        match error {
            OpenTierError::Io(error) => Self::Io(error),
            error => Self::Tier(error),
        }
    }
}
