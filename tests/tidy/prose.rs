//! No sentence of a comment or a document begins with "what", "who", "it", "that" or "those": the reader would have to
//! guess the noun. `docs/STATUS.md` and the decisions in `docs/adr` are history and stay as they were written.

use std::collections::BTreeMap;
use std::path::Path;

use crate::source::{packages, repository};

/// Words that stand for a noun which the sentence should name.
const WORDS: [&str; 8] = [
    "Who", "Whose", "Whoever", "What", "Whatever", "It", "That", "Those",
];

/// The text of the comment in a line of Rust, if there is one.
fn comment(line: &str) -> Option<&str> {
    let trimmed = line.trim_start();
    if let Some(text) = trimmed.strip_prefix("//") {
        return Some(text.trim_start_matches(['/', '!']));
    }
    let (code, text) = line.rsplit_once(" // ")?;
    let in_a_literal = !code.matches('"').count().is_multiple_of(2);
    (!in_a_literal).then_some(text)
}

/// The first of [`WORDS`] with which a sentence of `text` begins. A capital at the start of a line begins a sentence.
fn nameless(text: &str) -> Option<&'static str> {
    let mut begins = true;
    for token in text.split_whitespace() {
        let word = token.trim_start_matches(['(', '"', '*', '#', '|', '>', '-']);
        if word.is_empty() {
            // A mark of a list, a heading or a table.
            begins = true;
            continue;
        }
        let word = word.split(|c: char| !c.is_alphanumeric()).next();
        let found = WORDS.iter().find(|w| Some(**w) == word);
        if begins && found.is_some() {
            return found.copied();
        }
        let end = token.trim_end_matches(['*', ')', '"', '`']);
        begins = end.ends_with(['.', ':', ';', '?', '!', '|']);
    }
    None
}

/// Every Rust file of the crates and of the tests, and every document: path and text.
fn texts() -> BTreeMap<String, String> {
    let root = repository();
    let mut found = BTreeMap::new();
    for (_, folder) in packages() {
        read(&folder.join("src"), "rs", &root, &mut found);
    }
    read(&root.join("tests"), "rs", &root, &mut found);
    assert!(found.len() > 200, "the files were not found");
    read(&root.join("docs"), "md", &root, &mut found);
    found.retain(|path, _| path != "docs/STATUS.md" && !path.starts_with("docs/adr/"));
    found
}

fn read(folder: &Path, extension: &str, root: &Path, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository can be read") {
        let path = entry
            .expect("a folder of the repository can be read")
            .path();
        if path.is_dir() {
            read(&path, extension, root, found);
        } else if path.extension().is_some_and(|e| e == extension) {
            let text = std::fs::read_to_string(&path).expect("a file of the repository is text");
            let name = path.strip_prefix(root).unwrap_or(&path);
            found.insert(name.to_string_lossy().into_owned(), text);
        }
    }
}

#[test]
fn no_sentence_begins_with_a_word_that_hides_its_noun() {
    let mut complaints = Vec::new();
    for (path, text) in texts() {
        let is_code = path.ends_with(".rs");
        for (number, line) in text.lines().enumerate() {
            let prose = if is_code { comment(line) } else { Some(line) };
            if let Some(word) = prose.and_then(nameless) {
                complaints.push(format!("{path}:{}: \"{word}\"", number + 1));
            }
        }
    }
    assert!(
        complaints.is_empty(),
        "sentences begin with a word that hides its noun; name the noun instead:\n{}",
        complaints.join("\n")
    );
}

#[test]
fn a_sentence_without_its_noun_is_found_in_comments_only() {
    let literal = format!("f({0} // It{0})", '"');
    for (line, expected) in [
        ("/// What a sweep found.", Some("What")),
        ("    // Whoever asked may have gone away.", Some("Whoever")),
        ("//! Closed by the peer. It may come back.", Some("It")),
        ("/// Two parts: That of the leader,", Some("That")),
        ("/// * Those that wait.", Some("Those")),
        ("/// (It was there before.) Nothing.", Some("It")),
        ("let a = b; // It is new.", Some("It")),
        ("/// The findings of a sweep: what it found.", None),
        ("/// If it is new, that is noted. Items stay.", None),
        (&literal, None),
        ("let it = What::That;", None),
    ] {
        assert_eq!(comment(line).and_then(nameless), expected, "{line}");
    }
}
