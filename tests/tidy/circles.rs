//! The rooms of the broker do not need each other in a circle: a room can be read, changed and tested with the rooms below
//! it alone. A room is a folder or a file at the top of `src/broker/src`.
//!
//! A room needs another one where its production code has a path into it: `crate::other`, or `super::other` at the top.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::Item;

use crate::source::{SourceFile, is_test, production};

const CRATE: &str = "broker";
const ROOT: &str = "src/broker/src/";

/// Rooms whose own needs do not count, with the reason.
const HOLDERS: &[(&str, &str)] = &[(
    "context",
    "holds the state of every room of a running broker, and a room takes the context as an argument",
)];

/// For each room the rooms that it needs, with a file in which it does.
type Arrows<'f> = BTreeMap<&'f str, BTreeMap<String, &'f str>>;

/// The room of a file, and how deep its module lies below the crate's root.
fn room_of(path: &str) -> Option<(&str, usize)> {
    let inside = path.strip_prefix(ROOT)?.strip_suffix(".rs")?;
    let module = inside.strip_suffix("/mod").unwrap_or(inside);
    let room = module.split('/').next()?;
    (room != "lib").then(|| (room, module.split('/').count()))
}

fn arrows(files: &[SourceFile]) -> Arrows<'_> {
    let mut arrows = Arrows::new();
    let rooms: BTreeSet<&str> = files
        .iter()
        .filter_map(|f| Some(room_of(&f.path)?.0))
        .collect();
    for file in files.iter().filter(|file| file.package == CRATE) {
        let Some((room, depth)) = room_of(&file.path) else {
            continue;
        };
        let mut needs = BTreeSet::new();
        for item in file.tree.items.iter().filter(|item| !is_for_tests(item)) {
            paths_from_root(item.to_token_stream(), depth, &mut needs);
        }
        needs.retain(|need| need != room && rooms.contains(need.as_str()));
        let known = arrows.entry(room).or_default();
        for need in needs {
            known.entry(need).or_insert(&file.path);
        }
    }
    arrows
}

fn is_for_tests(item: &Item) -> bool {
    match item {
        Item::Mod(item) => is_test(&item.attrs),
        Item::Use(item) => is_test(&item.attrs),
        Item::Fn(item) => is_test(&item.attrs),
        Item::Impl(item) => is_test(&item.attrs),
        _ => false,
    }
}

/// Collects the first names of paths that begin at the crate's root, which lies `depth` modules above.
fn paths_from_root(tokens: TokenStream, depth: usize, found: &mut BTreeSet<String>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let is = |at: usize, word: &str| trees.get(at).is_some_and(|t| t.to_string() == word);
    let colons = |at: usize| is(at, ":") && is(at + 1, ":");
    let mut at = 0;
    let mut supers = 0;
    while let Some(tree) = trees.get(at) {
        at += 1;
        if let TokenTree::Group(group) = tree {
            paths_from_root(group.stream(), depth, found);
        }
        let root = match tree {
            TokenTree::Ident(word) if *word == "crate" => true,
            TokenTree::Ident(word) if *word == "super" => {
                supers += 1;
                supers == depth
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => continue,
            _ => false,
        };
        if root && colons(at) {
            match trees.get(at + 2) {
                Some(TokenTree::Ident(name)) => {
                    found.insert(name.to_string());
                }
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    first_names(group.stream(), found);
                }
                _ => {}
            }
        }
        if !matches!(tree, TokenTree::Ident(word) if *word == "super") {
            supers = 0;
        }
    }
}

/// The names behind the commas of `{a::b, c, d::{e, f}}`.
fn first_names(list: TokenStream, found: &mut BTreeSet<String>) {
    let mut begins = true;
    for tree in list {
        match tree {
            TokenTree::Ident(name) if begins => {
                found.insert(name.to_string());
                begins = false;
            }
            TokenTree::Punct(punct) if punct.as_char() == ',' => begins = true,
            _ => {}
        }
    }
}

/// The rooms that are reached from `room`.
fn reached<'a>(arrows: &'a Arrows<'_>, room: &'a str, holders: &[&str]) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut ahead = vec![room];
    while let Some(room) = ahead.pop() {
        if holders.contains(&room) {
            continue;
        }
        let needs = arrows.get(room).into_iter().flat_map(BTreeMap::keys);
        ahead.extend(
            needs
                .map(String::as_str)
                .filter(|need| reached.insert(*need)),
        );
    }
    reached
}

/// The arrows that close a circle, in which a holder's own arrows are left out.
fn circles(arrows: &Arrows<'_>, holders: &[&str]) -> Vec<String> {
    let reach: BTreeMap<&str, BTreeSet<&str>> = arrows
        .keys()
        .map(|room| (*room, reached(arrows, room, holders)))
        .collect();
    let meets = |a: &str, b: &str| reach.get(a).is_some_and(|reached| reached.contains(b));
    let mut complaints = Vec::new();
    for (room, needs) in arrows.iter().filter(|(room, _)| !holders.contains(room)) {
        for (need, file) in needs {
            if meets(need, room) {
                complaints.push(format!("{room} needs {need} ({file}), which needs {room}"));
            }
        }
    }
    complaints
}

#[test]
fn rooms_of_the_broker_stand_in_no_circle() {
    let files = production();
    let arrows = arrows(&files);
    assert!(arrows.len() > 30, "the rooms were not found");
    let holders: Vec<&str> = HOLDERS.iter().map(|(room, _)| *room).collect();
    let complaints = circles(&arrows, &holders);
    assert!(
        complaints.is_empty(),
        "rooms of the broker need each other: move what they share to the room where it belongs, or to one below both.\n{}",
        complaints.join("\n")
    );
    for (holder, reason) in HOLDERS {
        let others: Vec<&str> = holders.iter().copied().filter(|h| h != holder).collect();
        assert!(
            !reason.is_empty() && !circles(&arrows, &others).is_empty(),
            "{holder} is in no circle any more: take it from HOLDERS"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> SourceFile {
        SourceFile {
            package: CRATE.into(),
            path: format!("{ROOT}{path}"),
            tree: syn::parse_file(text).expect("Rust"),
        }
    }

    fn complaints(files: &[SourceFile], holders: &[&str]) -> Vec<String> {
        circles(&arrows(files), holders)
    }

    #[test]
    fn a_circle_of_three_rooms_is_found_by_each_of_its_arrows() {
        let files = [
            file("a/x.rs", "use crate::b::B;"),
            file("b.rs", "use std::io;\nuse crate::{z::Z, c};"),
            file("c/mod.rs", "fn f() { let _ = vec![crate::a::x::g()]; }"),
            file("z.rs", "struct Z;"),
        ];
        let found = complaints(&files, &[]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("a needs b (src/broker/src/a/x.rs)"));
        assert_eq!(complaints(&files, &["b"]), [""; 0]);
    }

    #[test]
    fn paths_that_climb_to_the_root_are_read() {
        let files = [
            file("a/x/y.rs", "use super::super::super::b::B;"),
            file("b/mod.rs", "use super::a; use self::a::Own;"),
        ];
        assert_eq!(complaints(&files, &[]).len(), 2);
    }

    #[test]
    fn paths_within_a_room_and_those_of_tests_do_not_count() {
        let files = [
            file("a/x.rs", "use super::b::B; use crate::a::c;"),
            file(
                "b.rs",
                "use crate::a::x;\n#[cfg(test)] mod tests { use crate::c; }",
            ),
            file("c.rs", "use crate::b;"),
        ];
        assert_eq!(complaints(&files, &[]), [""; 0]);
    }
}
