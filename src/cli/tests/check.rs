//! `strandline check` refuses what a start would refuse.

use std::path::Path;
use std::process::Command;

/// What `strandline check` answers for these properties.
fn checked(properties: &str, directory: &Path) -> Result<String, String> {
    let file = directory.join("server.properties");
    std::fs::write(&file, properties).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_strandline"))
        .arg("check")
        .arg(&file)
        .output()
        .unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    if output.status.success() {
        Ok(told)
    } else {
        Err(told)
    }
}

#[test]
fn a_cache_directory_with_a_foreign_file_is_refused_before_a_start() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display();
    let cache = directory.path().join("cache");
    let properties = format!(
        "node.id=1\nprocess.roles=broker,controller\nlisteners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0\n\
         controller.listener.names=CONTROLLER\ncontroller.quorum.voters=1@127.0.0.1:9093\n\
         log.dirs={at}/logs\nremote.log.storage.system.enable=true\nstrandline.remote.store.url=file://{at}/store\n\
         strandline.remote.cache.dir={at}/cache\n"
    );
    std::fs::create_dir(directory.path().join("store")).unwrap();
    checked(&properties, directory.path()).unwrap();
    let photo = cache.join("photos/1.jpg");
    std::fs::create_dir_all(photo.parent().unwrap()).unwrap();
    std::fs::write(&photo, b"not ours").unwrap();
    let told = checked(&properties, directory.path()).unwrap_err();
    assert!(told.contains("strandline.remote.cache.dir"), "{told}");
    assert!(told.contains("photos"), "{told}");
    assert_eq!(std::fs::read(&photo).unwrap(), b"not ours");
    let off = format!("{properties}strandline.remote.cache.bytes=0\n");
    checked(&off, directory.path()).unwrap();
}
