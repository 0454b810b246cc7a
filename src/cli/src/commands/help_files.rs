//! Completions of shells and manual pages, made from the same definitions as the help.

use std::fs;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use strandline_tools::{TOOLS, command_of};

/// Prints the completions of this program and of every tool.
pub fn completions(mut own: Command, shell: Shell) {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut own, "strandline", &mut text);
    for tool in TOOLS {
        for name in [tool.to_owned(), format!("{tool}.sh")] {
            clap_complete::generate(shell, &mut command_of(tool), name, &mut text);
        }
    }
    print!("{}", String::from_utf8_lossy(&text));
}

/// Writes `strandline.1`, a page for each of its commands, and one for each tool.
pub fn man_pages(own: Command, directory: &Path) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", directory.display());
    fs::create_dir_all(directory).map_err(failed)?;
    for command in std::iter::once(own).chain(TOOLS.into_iter().map(command_of)) {
        clap_mangen::generate_to(command, directory).map_err(failed)?;
    }
    println!("the pages are in {}", directory.display());
    Ok(())
}
