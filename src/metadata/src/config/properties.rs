//! Reads Java's properties format: `key=value`, `key: value` or `key value`, comments, continued lines, escapes.
//!
//! The bytes are ISO-8859-1, as for Kafka; UTF-8 where the file begins with the mark for that. A file that is no text (an archive, a key store, UTF-16) is refused with the
//! line of its first control character, so that no half of such a file is taken for settings.

use std::iter::Peekable;
use std::str::Chars;

use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub struct PropertiesError {
    /// The number of the line; the first is 1.
    pub line: usize,
    pub reason: String,
}

/// The pairs in the order of the file; a key may come again, and its last value counts.
pub fn parse_properties(bytes: &[u8]) -> Result<Vec<(String, String)>, PropertiesError> {
    let text = decode(bytes).map_err(|reason| PropertiesError { line: 1, reason })?;
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut pairs = Vec::new();
    let mut lines = text.split('\n').enumerate();
    while let Some((index, first)) = lines.next() {
        let line = index + 1;
        let failed = |line: usize| move |reason: String| PropertiesError { line, reason };
        check_text(first).map_err(failed(line))?;
        let mut logical = first.trim_start_matches(is_blank).to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while is_continued(&logical) {
            logical.pop();
            let Some((index, next)) = lines.next() else {
                break;
            };
            check_text(next).map_err(failed(index + 1))?;
            logical.push_str(next.trim_start_matches(is_blank));
        }
        pairs.push(pair(&logical).map_err(failed(line))?);
    }
    Ok(pairs)
}

fn decode(bytes: &[u8]) -> Result<String, String> {
    match bytes.strip_prefix(b"\xef\xbb\xbf") {
        None => Ok(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Some(marked) => match std::str::from_utf8(marked) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(format!("the file is marked as UTF-8 and is not: {error}")),
        },
    }
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\u{c}')
}

fn check_text(line: &str) -> Result<(), String> {
    match line.chars().find(|c| c.is_ascii_control() && !is_blank(*c)) {
        Some(c) => Err(format!(
            "this file is no text: it has a byte {:#04x}",
            c as u32
        )),
        None => Ok(()),
    }
}

/// An odd number of backslashes at the end of a line.
fn is_continued(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

fn pair(line: &str) -> Result<(String, String), String> {
    let mut rest = line.chars().peekable();
    let key = unescape(&mut rest, |c| is_blank(c) || matches!(c, '=' | ':'))?;
    let skip = |rest: &mut Peekable<Chars>| while rest.next_if(|c| is_blank(*c)).is_some() {};
    skip(&mut rest);
    if rest.next_if(|c| matches!(c, '=' | ':')).is_some() {
        skip(&mut rest);
    }
    let value = unescape(&mut rest, |_| false)?;
    Ok((key, value))
}

/// Up to a character that is no part of the word.
fn unescape(rest: &mut Peekable<Chars>, ends: impl Fn(char) -> bool) -> Result<String, String> {
    let mut out = String::new();
    while let Some(c) = rest.next_if(|c| !ends(*c)) {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => out.push(unicode(rest)?),
            Some(other) => out.push(other),
            None => {}
        }
    }
    Ok(out)
}

/// `\uXXXX`, or two of them for a character outside of the basic plane.
fn unicode(rest: &mut Peekable<Chars>) -> Result<char, String> {
    let unit = |rest: &mut Peekable<Chars>| -> Result<u16, String> {
        let digits: String = rest.take(4).collect();
        let all = digits.len() == 4 && digits.chars().all(|c| c.is_ascii_hexdigit());
        let value = u16::from_str_radix(&digits, 16).ok().filter(|_| all);
        value.ok_or_else(|| {
            format!("\\u{digits} is no character: \\u needs four hexadecimal digits")
        })
    };
    let first = unit(rest)?;
    let mut units = vec![first];
    if (0xd800..0xdc00).contains(&first) && rest.next_if_eq(&'\\').is_some() {
        rest.next_if_eq(&'u');
        units.push(unit(rest)?);
    }
    let decoded: Result<String, _> = char::decode_utf16(units).collect();
    let decoded = decoded.ok().and_then(|text| text.chars().next());
    decoded.ok_or_else(|| format!("\\u{first:04x} is half of a character"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse_properties(text.as_bytes()).unwrap()
    }

    #[test]
    fn lines_are_read_as_java_reads_them() {
        let cases = [
            ("a=b", "a", "b"),
            ("a = b c ", "a", "b c "),
            ("a:b", "a", "b"),
            ("a b", "a", "b"),
            ("  a\t=\t b", "a", "b"),
            ("a", "a", ""),
            ("a=", "a", ""),
            ("a==b", "a", "=b"),
            ("a=b=c", "a", "b=c"),
            ("a\\ b=c", "a b", "c"),
            ("a\\=b=c", "a=b", "c"),
            ("a=x\\\n   y", "a", "xy"),
            ("a=x\\\\", "a", "x\\"),
            ("a=x\\", "a", "x"),
            ("a=\\t\\n\\q", "a", "\t\nq"),
            ("a=\\u00e9\\ud83d\\ude00", "a", "é😀"),
            ("a=1\r", "a", "1"),
        ];
        for (text, key, value) in cases {
            assert_eq!(
                pairs(text),
                [(key.to_owned(), value.to_owned())],
                "{text:?}"
            );
        }
        assert_eq!(pairs("# a=b\n! c=d\n\n  # e=f\n"), []);
        assert_eq!(pairs("a=1\r\nb=2\rc=3\nd=4").len(), 4);
        let latin = parse_properties(b"# \xfcber\na=\xe9").unwrap();
        assert_eq!(latin, [("a".to_owned(), "é".to_owned())]);
        let marked = parse_properties("\u{feff}a=é".as_bytes()).unwrap();
        assert_eq!(marked, latin);
    }

    /// A few bytes that begin like a mark of UTF-8 or UTF-16 ended the process once.
    #[test]
    fn no_bytes_panic() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut byte = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        for first in 0..=u8::MAX {
            let _ = parse_properties(&[first]);
        }
        let syntax = b"\\u=:#! \n\rd8";
        for round in 0..50_000_usize {
            let bytes: Vec<u8> = (0..round % 40)
                .map(|_| match byte() {
                    b if b < 160 => syntax[usize::from(b) % syntax.len()],
                    b => b,
                })
                .collect();
            let _ = parse_properties(&bytes);
        }
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_line() {
        let cases: [(&[u8], usize); 6] = [
            (b"\xef\xbb\xbfa=\xe9", 1),
            (b"a=b\n\0\0", 2),
            (b"PK\x03\x04", 1),
            (b"\xff\xfea\0=\0b\0", 1),
            (b"a=\\u12", 1),
            (b"a=1\nb=\\ud800x", 2),
        ];
        for (bytes, line) in cases {
            let error = parse_properties(bytes).unwrap_err();
            assert_eq!(error.line, line, "{error}");
        }
    }
}
