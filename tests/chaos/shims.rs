//! Libraries that are preloaded into the brokers: flushes that are slow or fail, and a wall clock that can be set while a
//! process runs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

const SHIMS: [&str; 2] = ["flush_shim", "clock_shim"];
const CLOCK: &str = "clock-offset";

pub struct Shims {
    preloaded: String,
}

impl Shims {
    /// Compiles the libraries into `directory`.
    pub fn build(directory: &Path) -> Result<Self, String> {
        let mut built = Vec::new();
        for name in SHIMS {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("chaos/{name}.c"));
            let library = directory.join(format!("{name}.so"));
            super::cluster::run(&format!(
                "gcc -shared -fPIC -O1 -o {} {} -ldl",
                library.display(),
                source.display()
            ))?;
            built.push(library.display().to_string());
        }
        Ok(Self {
            preloaded: built.join(":"),
        })
    }

    /// Has a broker with its files under `node` start with the libraries.
    pub fn preload<'a>(&self, command: &'a mut Command, node: &Path) -> &'a mut Command {
        command
            .env("LD_PRELOAD", &self.preloaded)
            .env("FLUSH_SLOW", node.join("flush-slow"))
            .env("FLUSH_FAILS", node.join("flush-fails"))
            .env("CLOCK_OFFSET", node.join(CLOCK))
    }
}

/// Switches slow (`flush-slow`) or failing (`flush-fails`) flushes of a node on or off.
pub fn disturb_flushes(node: &Path, how: &str, on: bool) {
    let file = node.join(how);
    let _ = if on {
        fs::write(&file, "")
    } else {
        fs::remove_file(&file)
    };
}

/// Sets a node's wall clock ahead of the machine's by `offset_ms` from now on. The node maps the file, so the file must
/// never become shorter.
pub fn set_clock(node: &Path, offset_ms: i64) -> Result<(), String> {
    let path = node.join(CLOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    file.and_then(|f| f.write_all_at(&offset_ms.to_ne_bytes(), 0))
        .map_err(|e| format!("{}: {e}", path.display()))
}
