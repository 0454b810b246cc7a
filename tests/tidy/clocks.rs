//! The wall clock is read in few files, each with a reason: durations are measured on the monotonic clock (ADR 26).

use std::collections::BTreeSet;

use syn::visit::{self, Visit};
use syn::{ExprPath, ImplItemFn, ItemFn, ItemMod};

use crate::source::{is_test, production};

/// Files that read the wall clock, and what for.
const READERS: &[(&str, &str)] = &[
    (
        "src/broker/src/clock.rs",
        "a broker's only reading; callers write records or compare with what is in records",
    ),
    (
        "src/broker/src/tier/sweeping.rs",
        "compared with the times that the store gives to objects",
    ),
    (
        "src/cli/src/commands/demo.rs",
        "names and timestamps of the demonstration's records",
    ),
    (
        "src/cli/src/commands/tier_status.rs",
        "shows how far away the time of the next attempt is",
    ),
    (
        "src/log/src/segment.rs",
        "a file without a time of its own counts as written now",
    ),
    (
        "src/tools/src/time.rs",
        "timestamps of records, and dates that tools are given or print",
    ),
    (
        "tiering/src/credentials.rs",
        "turns an expiry into a moment of the monotonic clock, once",
    ),
];

/// Whether production code reads the wall clock.
#[derive(Default)]
struct Reading(bool);

impl<'ast> Visit<'ast> for Reading {
    fn visit_expr_path(&mut self, path: &'ast ExprPath) {
        let names: Vec<_> = path.path.segments.iter().rev().take(2).collect();
        if let [last, before] = names.as_slice()
            && last.ident == "now"
            && ["SystemTime", "Utc", "Local"]
                .iter()
                .any(|c| before.ident == c)
        {
            self.0 = true;
        }
        visit::visit_expr_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }
}

fn reads(file: &syn::File) -> bool {
    let mut reading = Reading::default();
    reading.visit_file(file);
    reading.0
}

#[test]
fn the_wall_clock_is_read_where_a_reason_is_listed_and_nowhere_else() {
    let found: BTreeSet<String> = production()
        .into_iter()
        .filter(|file| reads(&file.tree))
        .map(|file| file.path)
        .collect();
    let listed: BTreeSet<String> = READERS.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(found, listed, "found on the left, listed on the right");
}

#[test]
fn a_reading_is_found_in_production_code_only() {
    for (source, expected) in [
        ("fn f() { let t = std::time::SystemTime::now(); }", true),
        ("fn f() { g(SystemTime::now) }", true),
        ("fn f() { let t = Instant::now(); }", false),
        (
            "#[cfg(test)] mod tests { fn f() { SystemTime::now(); } }",
            false,
        ),
    ] {
        let file = syn::parse_file(source).expect("it is Rust");
        assert_eq!(reads(&file), expected, "{source}");
    }
}
