//! Kills a process at one moment, as far as its files can tell: the files are copied, the process stops, and the copy
//! takes their place. Writes that the kernel has accepted are kept, as after a real `kill -9`.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The contents of a directory at one moment.
pub(crate) struct Moment {
    directory: PathBuf,
    copy: TempDir,
}

impl Moment {
    pub fn take(directory: &Path) -> Self {
        let copy = TempDir::new().expect("a directory");
        copy_tree(directory, copy.path()).expect("files can be copied");
        Self {
            directory: directory.to_path_buf(),
            copy,
        }
    }

    /// Puts everything back. The process that wrote to the directory must have ended.
    pub fn restore(self) {
        std::fs::remove_dir_all(&self.directory).expect("files can be removed");
        copy_tree(self.copy.path(), &self.directory).expect("files can be copied");
    }
}

/// Copies a directory. Ignores files that disappear meanwhile: they were about to be deleted.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let copied = if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)
        } else {
            std::fs::copy(entry.path(), target).map(|_| ())
        };
        match copied {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
