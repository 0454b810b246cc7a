//! No file has more than 600 lines; the few that have are a debt, which only shrinks.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::source::{packages, repository};

const LARGEST: usize = 600;
const FILE: &str = "tests/tidy/sizes.tsv";
const HEAD: &str =
    "# Files of more than 600 lines, with the size that they may not exceed. See sizes.rs.\n";

/// Every source file of the crates and of the tests, with its lines.
fn sizes() -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let root = repository();
    for (_, folder) in packages() {
        read(&folder.join("src"), &root, &mut found);
    }
    read(&root.join("tests"), &root, &mut found);
    assert!(found.len() > 200, "the files were not found");
    found
}

fn read(folder: &Path, root: &Path, found: &mut BTreeMap<String, usize>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository can be read") {
        let path = entry
            .expect("a folder of the repository can be read")
            .path();
        if path.is_dir() {
            read(&path, root, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let lines = std::fs::read_to_string(&path).map_or(0, |text| text.lines().count());
            let name = path.strip_prefix(root).unwrap_or(&path);
            found.insert(name.to_string_lossy().into_owned(), lines);
        }
    }
}

fn listed() -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(repository().join(FILE)).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (name, size) = line.split_once('\t')?;
            Some((name.to_owned(), size.parse().ok()?))
        })
        .collect()
}

/// The remaining debt: files that are over the limit now, never larger than before.
fn renewed(
    sizes: &BTreeMap<String, usize>,
    before: &BTreeMap<String, usize>,
) -> BTreeMap<String, usize> {
    let still = before.iter().filter_map(|(name, most)| {
        let now = *sizes.get(name)?;
        (now > LARGEST).then(|| (name.clone(), now.min(*most)))
    });
    still.collect()
}

fn complaints(sizes: &BTreeMap<String, usize>, listed: &BTreeMap<String, usize>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (name, lines) in sizes {
        match listed.get(name) {
            Some(most) if lines > most => {
                complaints.push(format!(
                    "{name}: {lines} lines, and {most} were too many already"
                ));
            }
            None if *lines > LARGEST => {
                complaints.push(format!(
                    "{name}: {lines} lines; the most is {LARGEST}: split the file by its nouns"
                ));
            }
            _ => {}
        }
    }
    for name in listed.keys() {
        if sizes.get(name).is_none_or(|lines| *lines <= LARGEST) {
            complaints.push(format!(
                "{name}: small or gone now; UPDATE_TIDY=1 takes the line from {FILE}"
            ));
        }
    }
    complaints
}

#[test]
fn no_file_grows_beyond_its_limit() {
    let sizes = sizes();
    let mut debt = listed();
    if std::env::var_os("UPDATE_TIDY").is_some() {
        debt = renewed(&sizes, &debt);
        let mut text = HEAD.to_owned();
        debt.iter().for_each(|(name, most)| {
            let _ = writeln!(text, "{name}\t{most}");
        });
        std::fs::write(repository().join(FILE), text).expect("tests/tidy can be written");
    }
    let complaints = complaints(&sizes, &debt);
    assert!(
        complaints.is_empty(),
        "files are too large:\n{}",
        complaints.join("\n")
    );
}

#[test]
fn a_debt_shrinks_and_a_new_one_is_refused() {
    let map =
        |entries: &[(&str, usize)]| entries.iter().map(|(n, s)| ((*n).to_owned(), *s)).collect();
    let sizes: BTreeMap<String, usize> = map(&[("a", 700), ("b", 650), ("c", 100), ("d", 601)]);
    let debt: BTreeMap<String, usize> = map(&[("a", 800), ("b", 640), ("c", 900)]);
    let complaints = complaints(&sizes, &debt);
    let about: Vec<&str> = complaints.iter().map(|c| &c[..1]).collect();
    assert_eq!(about, ["b", "d", "c"]);
    assert_eq!(renewed(&sizes, &debt), map(&[("a", 700), ("b", 640)]));
}
