//! A name that is part of a format on a disk or in a bucket is written once: others use the owner's functions. Otherwise
//! two places must be found when a format grows, and one of them is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use quote::ToTokens;
use syn::LitStr;
use syn::visit::{self, Visit};

use crate::source::{is_test, production};

/// Where a name may stand: the owners, one file in each crate.
struct Format {
    /// The whole string; with `…` before, its end.
    name: &'static str,
    crates: &'static [&'static str],
}

const fn of_log(name: &'static str) -> Format {
    Format {
        name,
        crates: &["log"],
    }
}

const FORMATS: &[Format] = &[
    // A log directory.
    Format {
        name: "meta.properties",
        // kafka-metadata-quorum reads the file of a controller that is to be added, and needs no log crate for that.
        crates: &["log", "tools"],
    },
    of_log("partition.metadata"),
    of_log(".kafka_cleanshutdown"),
    of_log(".lock"),
    of_log("recovery-point-offset-checkpoint"),
    of_log("replication-offset-checkpoint"),
    of_log("log-start-offset-checkpoint"),
    of_log("-delete"),
    of_log("-stray"),
    of_log("-future"),
    of_log("replaces-another-directory"),
    // A partition's directory.
    of_log("leader-epoch-checkpoint"),
    of_log("log-start-offset"),
    of_log("timeindex"),
    of_log("txnindex"),
    // The quorum's directory, and the topic of that name.
    Format {
        name: "__cluster_metadata",
        crates: &["metadata"],
    },
    Format {
        name: "member-id",
        crates: &["quorum"],
    },
    Format {
        name: "vote",
        crates: &["quorum"],
    },
    // Topics of the broker's own.
    Format {
        name: "__consumer_offsets",
        crates: &["types"],
    },
    // The bucket.
    Format {
        name: "segments",
        crates: &["tiering"],
    },
    Format {
        name: "side",
        crates: &["tiering"],
    },
    // The disk cache.
    Format {
        name: "….chunk",
        crates: &["tiering"],
    },
];

impl Format {
    fn is_in(&self, literal: &str) -> bool {
        match self.name.strip_prefix('…') {
            Some(end) => literal.ends_with(end),
            None => literal == self.name,
        }
    }
}

/// The strings of a file's production code with their lines.
#[derive(Default)]
struct Literals(Vec<(String, usize)>);

impl<'ast> Visit<'ast> for Literals {
    fn visit_lit_str(&mut self, literal: &'ast LitStr) {
        self.0.push((literal.value(), literal.span().start().line));
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
    }
}

impl Literals {
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        for tree in tokens {
            if let proc_macro2::TokenTree::Group(group) = &tree {
                self.tokens(group.stream());
            } else if let Ok(literal) = syn::parse2::<LitStr>(tree.to_token_stream()) {
                self.visit_lit_str(&literal);
            }
        }
    }
}

#[test]
fn a_name_of_a_format_is_written_by_its_owner_only() {
    let mut places: BTreeMap<(&str, String), BTreeSet<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for file in &production() {
        let mut literals = Literals::default();
        literals.visit_file(&file.tree);
        for (literal, line) in literals.0 {
            for format in FORMATS.iter().filter(|f| f.is_in(&literal)) {
                let place = format!("{}:{line}", file.path);
                if !format.crates.contains(&file.package.as_str()) {
                    wrong.push(format!(
                        "{place}: \"{}\" belongs to {:?}",
                        format.name, format.crates
                    ));
                }
                let of_crate = places.entry((format.name, file.package.clone()));
                of_crate.or_default().insert(file.path.clone());
            }
        }
    }
    for ((name, package), files) in &places {
        if files.len() > 1 {
            wrong.push(format!(
                "\"{name}\" stands in {} files of {package}: {files:?}",
                files.len()
            ));
        }
    }
    for format in FORMATS {
        for package in format.crates {
            if !places.contains_key(&(format.name, (*package).to_owned())) {
                wrong.push(format!(
                    "\"{}\" is not written in {package}: correct FORMATS",
                    format.name
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "a name of a format is a constant of its owner (docs/FORMATS.md; tests/tidy/formats.rs):\n{}",
        wrong.join("\n")
    );
}
