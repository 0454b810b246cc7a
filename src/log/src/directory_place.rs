//! A directory as it was when a process opened it: by device and inode, because a path may lead elsewhere later.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The place of a directory, for a comparison with what its path leads to now.
#[derive(Clone, Debug)]
pub struct DirectoryPlace {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl DirectoryPlace {
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            device_and_inode: device_and_inode(path)?,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error where the path leads to another directory than the one that was opened, or to none: its file system was
    /// unmounted, say. Records that are written through open files then are in nobody's reach.
    pub fn check(&self) -> io::Result<()> {
        if device_and_inode(&self.path)? == self.device_and_inode {
            Ok(())
        } else {
            let text = "another directory is in the place of the one that was opened";
            Err(io::Error::other(text))
        }
    }
}

fn device_and_inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_renamed_away_is_missed_also_when_another_has_its_name() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("log");
        fs::create_dir(&path).unwrap();
        let place = DirectoryPlace::of(&path).unwrap();
        assert!(place.check().is_ok());
        let aside = parent.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        assert_eq!(place.check().unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::create_dir(&path).unwrap();
        assert_eq!(place.check().unwrap_err().kind(), io::ErrorKind::Other);
        fs::remove_dir(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
        assert!(place.check().is_ok());
    }
}
