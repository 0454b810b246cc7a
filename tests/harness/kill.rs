//! A process that is killed at one moment, as far as its files can tell: they are copied, the process stops, and the copy
//! takes their place. What the kernel holds of a killed process's writes is kept, as after a real `kill -9`.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A directory as it was at one moment.
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

    /// Puts everything back. Whoever wrote there has ended.
    pub fn restore(self) {
        std::fs::remove_dir_all(&self.directory).expect("files can be removed");
        copy_tree(self.copy.path(), &self.directory).expect("files can be copied");
    }
}

/// Copies what is there; files that go away meanwhile were about to.
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
