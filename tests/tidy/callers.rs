//! A public function has a caller in production: a rule that only tests call does not hold. The compiler reports
//! private functions without a caller; a public function of a library may have its caller anywhere, so names are
//! compared.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{ImplItemFn, Item, ItemFn, ItemImpl, Visibility};

use crate::listing::{Found, Listing, Site};
use crate::source::{SourceFile, is_test, production};
use crate::walk::line;

const LISTING: Listing = Listing {
    file: "callers.tsv",
    head: "# Public functions that production code does not call, and what they are for. See callers.rs.\n\
           # crate, type, function, reason.\n",
    advice: "A public function that nothing in production calls: give the function its caller, or remove the function; \
             list only what exists for tests of other crates.",
    debt: 0,
};

#[test]
fn a_public_function_has_a_caller_in_production() {
    let files = production();
    let mut defined = Vec::new();
    let mut used: BTreeMap<String, usize> = BTreeMap::new();
    for file in &files {
        let mut definitions = Definitions {
            file,
            type_: "-".into(),
            found: &mut defined,
        };
        definitions.visit_file(&file.tree);
        for item in file
            .tree
            .items
            .iter()
            .filter(|item| !is_test(attributes(item)))
        {
            let mut inside = BTreeSet::new();
            count(item.to_token_stream(), &mut inside, &mut used);
        }
    }
    assert!(defined.len() > 300, "the walk found too little");
    defined.retain(|found| !used.contains_key(&found.site.expression));
    LISTING.hold(&defined);
}

fn attributes(item: &Item) -> &[syn::Attribute] {
    match item {
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

/// Counts the names in `tokens`, but not those of imports, of definitions, and of a function within itself.
fn count(tokens: TokenStream, inside: &mut BTreeSet<String>, used: &mut BTreeMap<String, usize>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    let mut own: Option<String> = None;
    while let Some(tree) = trees.get(at) {
        at += 1;
        match tree {
            TokenTree::Ident(word) if *word == "use" => {
                while trees
                    .get(at)
                    .is_some_and(|t| !matches!(t, TokenTree::Punct(p) if p.as_char() == ';'))
                {
                    at += 1;
                }
            }
            TokenTree::Ident(word) if *word == "fn" => {
                if let Some(TokenTree::Ident(name)) = trees.get(at) {
                    own = Some(name.to_string());
                    at += 1;
                }
            }
            TokenTree::Ident(word) => {
                let name = word.to_string();
                if !inside.contains(&name) {
                    *used.entry(name).or_default() += 1;
                }
            }
            TokenTree::Group(group) => {
                // The first brace after `fn name` is the function's body.
                let body = group.delimiter() == proc_macro2::Delimiter::Brace;
                let name = if body { own.take() } else { None };
                let new = name.filter(|name| inside.insert(name.clone()));
                count(group.stream(), inside, used);
                if let Some(name) = new {
                    inside.remove(&name);
                }
            }
            _ => {}
        }
    }
}

struct Definitions<'f> {
    file: &'f SourceFile,
    type_: String,
    found: &'f mut Vec<Found>,
}

impl Definitions<'_> {
    fn note(&mut self, visibility: &Visibility, name: &syn::Ident) {
        if matches!(visibility, Visibility::Public(_)) {
            self.found.push(Found {
                site: Site {
                    package: self.file.package.clone(),
                    function: self.type_.clone(),
                    expression: name.to_string(),
                },
                place: format!("{}:{}", self.file.path, line(name)),
            });
        }
    }
}

impl<'ast> Visit<'ast> for Definitions<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if item.trait_.is_none() && !is_test(&item.attrs) {
            self.type_ = item.self_ty.to_token_stream().to_string().replace(' ', "");
            visit::visit_item_impl(self, item);
            self.type_ = "-".into();
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_test(&item.attrs) {
            self.note(&item.vis, &item.sig.ident);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !is_test(&item.attrs) {
            self.note(&item.vis, &item.sig.ident);
        }
    }
}
