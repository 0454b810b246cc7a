//! `docs/LIMITS.md` names a test, or the file of one, for each bound; the test must be there.

use std::collections::BTreeSet;
use std::path::Path;

use crate::source::repository;

/// Names of all functions under `folder`.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository can be read") {
        let path = entry
            .expect("a folder of the repository can be read")
            .path();
        if path.is_dir() && !path.ends_with("target") {
            functions(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let names = text.split("fn ").skip(1).filter_map(|rest| {
                let end = rest.find(['(', '<'])?;
                rest.get(..end).map(str::to_owned)
            });
            found.extend(names);
        }
    }
}

/// The tests in the last cells of the page's tables, by bound.
fn bounds(page: &str) -> Vec<(String, Vec<String>)> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let rows = rows.map(|line| line.trim_matches('|').split(" | ").collect::<Vec<_>>());
    rows.filter_map(|cells| {
        let (bound, tests) = (cells.first()?, cells.last()?);
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned);
        (bound.trim() != "what").then(|| (bound.trim().to_owned(), tests.collect()))
    })
    .collect()
}

#[test]
fn each_bound_has_a_test_that_exists() {
    let root = repository();
    let page = std::fs::read_to_string(root.join("docs/LIMITS.md")).expect("the page");
    let mut known = BTreeSet::new();
    for folder in ["src", "tiering", "tests"] {
        functions(&root.join(folder), &mut known);
    }
    let bounds = bounds(&page);
    assert!(bounds.len() > 20, "the tables were not read");
    let mut wrong = Vec::new();
    for (bound, tests) in bounds {
        if tests.is_empty() {
            wrong.push(format!("{bound}: no test"));
        }
        for test in tests {
            let is_there = known.contains(&test) || test.contains('/') && root.join(&test).exists();
            if !is_there {
                wrong.push(format!("{bound}: {test} does not exist"));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/LIMITS.md:\n{}", wrong.join("\n"));
}

#[test]
fn the_tests_of_a_row_are_read() {
    let page = "| what | bound | at | test |\n|---|---|---|---|\n| a | *`x`* | | `t`, `u` |\n| b | c | d | |\n";
    let found = bounds(page);
    let tests = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        found,
        [
            ("a".to_owned(), tests(&["t", "u"])),
            ("b".to_owned(), Vec::new())
        ]
    );
}
