//! Whether a start may found a metadata quorum. Directories that name a cluster belong to one that has its metadata somewhere;
//! where the metadata directory is new, `log.dirs` or `metadata.log.dir` was changed, or a disk was replaced. A cluster that
//! is founded then would set every partition aside and give out offset 0 again.

use std::path::{Path, PathBuf};

use strandline_log::LogDir;
use strandline_metadata::METADATA_TOPIC;
use strandline_quorum::{QuorumError, is_new};
use thiserror::Error;

use crate::settings::Settings;

/// The start is refused: nothing can be founded, and there is nobody to ask.
#[derive(Debug, Error)]
#[error(
    "metadata.log.dir: {} holds no metadata, but {} belongs to cluster {cluster_id}{}",
    metadata_dir.display(),
    log_dir.display(),
    advice(elsewhere.as_deref())
)]
pub struct FoundingError {
    metadata_dir: PathBuf,
    log_dir: PathBuf,
    cluster_id: String,
    /// Where metadata was found.
    elsewhere: Option<PathBuf>,
}

fn advice(elsewhere: Option<&Path>) -> String {
    match elsewhere {
        Some(path) => format!(
            "; its metadata is in {}: log.dirs must name the directory of the metadata first, or metadata.log.dir name it",
            path.display()
        ),
        None => {
            "; bring the directory of its metadata back, or set metadata.log.dir to it".to_owned()
        }
    }
}

/// The part of a start in a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Founding {
    /// There is metadata here, or nothing tells of a cluster.
    Free,
    /// This node was a member of a cluster and has lost its metadata: it asks the others, and founds nothing.
    OnlyJoin,
}

/// Looks at the directories before anything is written to them.
pub fn founding(settings: &Settings) -> Result<Result<Founding, FoundingError>, QuorumError> {
    if !settings.founds_quorum || !is_new(&settings.metadata_dir)? {
        return Ok(Ok(Founding::Free));
    }
    let parent = settings.metadata_dir.parent();
    let directories = settings.log_dirs.iter().map(PathBuf::as_path).chain(parent);
    let named = directories
        .clone()
        .find_map(|dir| Some((dir, LogDir::stored_cluster_id(dir)?)));
    let Some((log_dir, cluster_id)) = named else {
        return Ok(Ok(Founding::Free));
    };
    if settings.voters.len() > 1 {
        tracing::warn!(
            metadata_dir = %settings.metadata_dir.display(),
            log_dir = %log_dir.display(),
            %cluster_id,
            "the metadata directory is new and the log directory belongs to a cluster: this node joins the quorum of the others and founds none"
        );
        return Ok(Ok(Founding::OnlyJoin));
    }
    let mut elsewhere = None;
    for dir in directories {
        if !is_new(&dir.join(METADATA_TOPIC))? {
            elsewhere = Some(dir.to_path_buf());
        }
    }
    Ok(Err(FoundingError {
        metadata_dir: settings.metadata_dir.clone(),
        log_dir: log_dir.to_path_buf(),
        cluster_id,
        elsewhere,
    }))
}

/// Whether a start with these settings would be refused because it would found another cluster.
pub fn check_founding(settings: &Settings) -> Result<(), String> {
    let looked = founding(settings).map_err(|e| e.to_string())?;
    looked.map(|_| ()).map_err(|e| e.to_string())
}
