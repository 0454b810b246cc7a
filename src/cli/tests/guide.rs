//! The guide's sections with our own tools on our own brokers: `tests/guide/run ours`, with the binary of this build.

use std::path::Path;
use std::process::Command;

#[test]
fn the_guide_works_with_our_own_tools() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(root.join("tests/guide/run"))
        .arg("ours")
        .env("STRANDLINE", env!("CARGO_BIN_EXE_strandline"))
        .output()
        .expect("bash is there");
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "see what it says above");
    assert!(told.contains(" passed, 0 failed"));
}

/// The files in `config/` are ones that a process starts with, but for names that are not here.
#[test]
fn the_configuration_files_are_legal() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    for name in ["dev", "server", "broker", "controller"] {
        let file = root.join(format!("{name}.properties"));
        let properties = strandline_broker::settings::Properties::load(Some(&file), [], &[]);
        let properties = properties.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(properties.warnings, Vec::<String>::new(), "{name}");
        strandline_broker::settings::Settings::resolve(&properties)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}
