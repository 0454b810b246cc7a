//! The places of log directories, metadata and the disk cache. No two of them may share a directory, because each
//! deletes files that it does not know.

use std::path::{Path, PathBuf};

use super::{SettingsError, invalid};

/// `log.dirs`: at least one, none twice and none within another.
pub(super) fn log_dirs(text: &str) -> Result<Vec<PathBuf>, SettingsError> {
    let named = text.split(',').map(str::trim).filter(|d| !d.is_empty());
    let dirs: Vec<PathBuf> = named.map(PathBuf::from).collect();
    if dirs.is_empty() {
        return Err(invalid("log.dirs", "names no directory"));
    }
    for (count, dir) in dirs.iter().enumerate() {
        if let Some(other) = dirs.iter().take(count).find(|other| overlap(other, dir)) {
            let reason = format!("{} and {} overlap", other.display(), dir.display());
            return Err(invalid("log.dirs", reason));
        }
    }
    Ok(dirs)
}

/// Beside the first log directory, where none is named.
pub(super) fn cache_dir(named: Option<String>, first: &Path) -> PathBuf {
    named.map_or_else(
        || {
            let name = first.file_name().and_then(|n| n.to_str());
            first.with_file_name(format!("{}-remote-cache", name.unwrap_or("log")))
        },
        PathBuf::from,
    )
}

/// `place`, which `property` names, must not lie in a directory of the logs or of the metadata, nor hold one.
pub(super) fn set_apart(
    property: &str,
    place: &Path,
    log_dirs: &[PathBuf],
    metadata_dir: &Path,
) -> Result<(), SettingsError> {
    let mut others = log_dirs.iter().map(PathBuf::as_path).chain([metadata_dir]);
    match others.find(|other| overlap(other, place)) {
        Some(other) => {
            let reason = format!("{} and {} overlap", place.display(), other.display());
            Err(invalid(property, reason))
        }
        None => Ok(()),
    }
}

fn overlap(a: &Path, b: &Path) -> bool {
    let (a, b) = (normal(a), normal(b));
    a.starts_with(&b) || b.starts_with(&a)
}

/// Absolute, without `.` and `..`, and without symbolic links as far as the path exists.
fn normal(path: &Path) -> PathBuf {
    let plain = plain(path);
    for existing in plain.ancestors() {
        if let (Ok(real), Ok(rest)) = (existing.canonicalize(), plain.strip_prefix(existing)) {
            return real.join(rest);
        }
    }
    plain
}

fn plain(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut normal = PathBuf::new();
    for part in absolute.components() {
        if part == std::path::Component::ParentDir {
            normal.pop();
        } else {
            normal.push(part);
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbolic_link_hides_no_overlap() {
        let directory = tempfile::tempdir().unwrap();
        let (logs, link) = (directory.path().join("logs"), directory.path().join("link"));
        std::fs::create_dir(&logs).unwrap();
        std::os::unix::fs::symlink(&logs, &link).unwrap();
        assert!(overlap(&logs, &link.join("cache")));
        assert!(overlap(&link.join("not").join("yet"), &logs));
        assert!(!overlap(&logs, &directory.path().join("logs-remote-cache")));
    }
}
