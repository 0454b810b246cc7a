//! A disk of a node's own: ext4 on a loop device, so that it can die, become read-only, fill up and be unmounted under a
//! running broker.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::run;

const SIZE: u64 = 160 << 20;

/// A fault of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// Every read and write that reaches the device fails; what was on it is lost.
    Dies,
    ReadOnly,
    Full,
    /// Nobody can reach it by its path; files that are open can still be written.
    Unmounted,
    /// Flushes fail, of the metadata log's directory too.
    Flush,
}

impl DiskFault {
    pub const ALL: [Self; 5] = [
        Self::Dies,
        Self::ReadOnly,
        Self::Full,
        Self::Unmounted,
        Self::Flush,
    ];

    /// Whether only a new process takes the disk again.
    pub fn lasts_until_restart(self) -> bool {
        self != Self::Full
    }
}

pub struct Disk {
    image: PathBuf,
    /// A mount of its own, which is shared: processes in network namespaces have mounts of their own, and an unmount is
    /// to reach them.
    place: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// Makes an empty disk under `node` and mounts it.
    pub fn create(node: &Path) -> Result<Self, String> {
        let place = node.join("disks");
        let disk = Self {
            image: node.join("disk.img"),
            mount: place.join("disk"),
            place,
        };
        fs::create_dir_all(&disk.place).map_err(|e| e.to_string())?;
        let place = disk.place.display();
        run(&format!("mount --bind {place} {place}"))?;
        run(&format!("mount --make-shared {place}"))?;
        fs::create_dir_all(&disk.mount).map_err(|e| e.to_string())?;
        disk.format()?;
        disk.mount()?;
        Ok(disk)
    }

    pub fn path(&self) -> &Path {
        &self.mount
    }

    fn format(&self) -> Result<(), String> {
        let _ = fs::remove_file(&self.image);
        let file = File::create(&self.image).map_err(|e| e.to_string())?;
        file.set_len(SIZE).map_err(|e| e.to_string())?;
        run(&format!("mkfs.ext4 -q -F -m 0 {}", self.image.display()))
    }

    fn mount(&self) -> Result<(), String> {
        let (image, mount) = (self.image.display(), self.mount.display());
        run(&format!("mount -o loop {image} {mount}"))
    }

    /// A file system whose journal was aborted stays read-only until it is checked.
    fn check(&self) -> Result<(), String> {
        let checking = Command::new("e2fsck").arg("-fy").arg(&self.image).output();
        let output = checking.map_err(|e| format!("e2fsck: {e}"))?;
        match output.status.code() {
            // 1: faults were found and mended.
            Some(0 | 1) => Ok(()),
            _ => Err(String::from_utf8_lossy(&output.stdout).into_owned()),
        }
    }

    fn device(&self) -> Result<String, String> {
        let mut asking = Command::new("losetup");
        asking.args(["--noheadings", "--output", "NAME", "--associated"]);
        let asked = asking.arg(&self.image).output();
        let output = asked.map_err(|e| format!("losetup: {e}"))?;
        let names = String::from_utf8_lossy(&output.stdout);
        let name = names.split_whitespace().next();
        name.map(str::to_owned)
            .ok_or_else(|| format!("{}: no loop device", self.image.display()))
    }

    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }

    pub fn strike(&self, fault: DiskFault) -> Result<(), String> {
        let mount = self.mount.display();
        match fault {
            DiskFault::Dies => {
                let image = File::options().write(true).open(&self.image);
                image
                    .and_then(|file| file.set_len(0))
                    .map_err(|e| e.to_string())?;
                // A device that only lost its file would take writes and read zeros.
                run(&format!("losetup -c {}", self.device()?))?;
                // The page cache would hide the loss from readers.
                fs::write("/proc/sys/vm/drop_caches", "1").map_err(|e| e.to_string())
            }
            DiskFault::ReadOnly => run(&format!("mount -o remount,abort {mount}")),
            DiskFault::Full => fill(&self.filler()),
            DiskFault::Unmounted => run(&format!("umount -l {mount}")),
            DiskFault::Flush => Ok(()),
        }
    }

    /// Gives the node a disk that is well. No process uses it meanwhile, unless it was only full.
    pub fn heal(&self, fault: DiskFault) -> Result<(), String> {
        let mount = self.mount.display();
        match fault {
            DiskFault::Full => fs::remove_file(self.filler()).map_err(|e| e.to_string()),
            DiskFault::Dies => {
                run(&format!("umount -l {mount}"))?;
                self.format()?;
                self.mount()
            }
            DiskFault::ReadOnly => {
                run(&format!("umount {mount}"))?;
                self.check()?;
                self.mount()
            }
            DiskFault::Unmounted => self.mount(),
            DiskFault::Flush => Ok(()),
        }
    }

    /// Copies what is left for whoever looks at a history that failed.
    pub fn keep(&self, to: &Path) {
        let _ = run(&format!("cp -r {} {}", self.mount.display(), to.display()));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The disk may be unmounted already.
        let _ = run(&format!("umount -l {}", self.mount.display()));
        let _ = run(&format!("umount -l {}", self.place.display()));
        let _ = fs::remove_file(&self.image);
    }
}

/// Leaves no byte of free space.
pub fn fill(path: &Path) -> Result<(), String> {
    let mut file = File::create(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let chunk = vec![0; 64 << 10];
    // Until the file system says that it is full.
    while std::io::Write::write_all(&mut file, &chunk).is_ok() {}
    Ok(())
}
