//! Code as one line of text that survives a change of layout.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The longest text of an expression in a list, in characters.
const LONGEST: usize = 110;

/// The tokens without their layout, at most [`LONGEST`] characters: the end of a longer expression.
pub fn one_line(tokens: TokenStream) -> String {
    let mut out = String::new();
    write(tokens, &mut out);
    let out = out.replace(", )", ")");
    let count = out.chars().count();
    if count <= LONGEST {
        return out.trim().to_owned();
    }
    let kept: String = out.chars().skip(count - LONGEST).collect();
    format!("…{}", kept.trim())
}

fn write(tokens: TokenStream, out: &mut String) {
    for tree in tokens {
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                out.push_str(open);
                write(group.stream(), out);
                out.push_str(close);
            }
            TokenTree::Punct(punct) => {
                out.push(punct.as_char());
                if matches!(punct.as_char(), ',' | ';') {
                    out.push(' ');
                }
            }
            TokenTree::Ident(ident) => word(&ident.to_string(), out),
            TokenTree::Literal(literal) => {
                let text = literal.to_string();
                let words: Vec<&str> = text.split_whitespace().collect();
                word(&words.join(" "), out);
            }
        }
    }
}

/// A word, set apart from a word before.
fn word(text: &str, out: &mut String) {
    let touches = out
        .chars()
        .next_back()
        .is_some_and(|last| last.is_alphanumeric() || matches!(last, '_' | '"'));
    if touches {
        out.push(' ');
    }
    out.push_str(text);
}
