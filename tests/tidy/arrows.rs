//! Which crate may need which (`docs/ARCHITECTURE.md`, "Arrows point one way"), read from the manifests.

use std::collections::BTreeSet;

use crate::source::packages;

/// Each crate, with the crates of this repository that it may need.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("wire", &["types"]),
    ("replication", &["types"]),
    ("coordinator", &["types", "wire"]),
    ("metadata", &["types"]),
    ("log", &["types", "wire"]),
    ("tiering", &["types"]),
    ("security", &["types"]),
    ("quorum", &["types", "metadata"]),
    ("client", &["types", "wire"]),
    ("tools", &["types", "wire", "client", "metadata"]),
    (
        "broker",
        &[
            "types",
            "wire",
            "replication",
            "coordinator",
            "metadata",
            "log",
            "quorum",
            "security",
            "tiering",
            "client",
        ],
    ),
    (
        "cli",
        &[
            "types", "wire", "broker", "client", "metadata", "tiering", "tools",
        ],
    ),
];

/// Crates that decide and cannot act: no threads, files, sockets, stores and no randomness of their own.
const PURE: &[&str] = &["types", "wire", "replication", "coordinator", "metadata"];

/// Crates that give I/O, a clock or randomness.
const IMPURE: &[&str] = &[
    "tokio",
    "tokio-util",
    "futures",
    "object_store",
    "rand",
    "rustix",
    "reqwest",
    "axum",
    "openraft",
    "moka",
    "tempfile",
    "chrono",
    "tracing",
    "tracing-subscriber",
];

/// `[dependencies]`, in any way to write a table of them; tests may need more.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut in_table = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(head) = line.strip_prefix('[') {
            let head = head.trim_end_matches(']');
            in_table = head == "dependencies";
            found.extend(head.strip_prefix("dependencies.").map(str::to_owned));
        } else if in_table && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if !name.is_empty() {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

#[test]
fn crates_need_only_what_lies_below_them() {
    let mut wrong = Vec::new();
    for (package, folder) in packages() {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package) else {
            wrong.push(format!("{package}: a crate that ARROWS does not name"));
            continue;
        };
        let needs = dependencies(&manifest);
        assert!(!needs.is_empty(), "{package}: no dependencies were read");
        for need in &needs {
            if let Some(own) = need.strip_prefix("strandline-")
                && !allowed.contains(&own)
            {
                wrong.push(format!("{package} must not need {own}"));
            }
            if PURE.contains(&package.as_str()) && IMPURE.contains(&need.as_str()) {
                wrong.push(format!("{package} is pure and must not need {need}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "tests/tidy/arrows.rs and docs/ARCHITECTURE.md allow less:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn both_ways_to_write_a_dependency_are_read() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\nb = \"1\"\n\n[dependencies.c]\n\
                    workspace = true\n[dev-dependencies]\nd = \"1\"\n";
    let wanted = ["a", "b", "c"].map(str::to_owned);
    assert_eq!(dependencies(manifest), BTreeSet::from(wanted));
}
