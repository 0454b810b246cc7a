//! `strandline tools`: Kafka's tools by their own names.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use strandline_tools::TOOLS;

/// Links every name of every tool in `directory` to this binary. Links that are there already are made anew; a file that
/// is no link is left alone and named.
pub fn install(directory: &Path) -> Result<(), String> {
    let failed = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    fs::create_dir_all(directory).map_err(|e| failed(directory, e))?;
    let binary = std::env::current_exe().map_err(|e| format!("where this binary is: {e}"))?;
    for tool in TOOLS {
        for name in [tool.to_owned(), format!("{tool}.sh")] {
            let path = directory.join(name);
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_symlink() => {
                    fs::remove_file(&path).map_err(|e| failed(&path, e))?;
                }
                Ok(_) => return Err(format!("{} is there and is no link", path.display())),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(failed(&path, e)),
            }
            symlink(&binary, &path).map_err(|e| failed(&path, e))?;
        }
    }
    println!(
        "{} tools, each with and without .sh, in {}",
        TOOLS.len(),
        directory.display()
    );
    Ok(())
}

pub fn list() {
    for tool in TOOLS {
        println!("{tool}");
    }
}
