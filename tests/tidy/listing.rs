//! A list of exceptions: one line for each place in the code, with a reason. A place is named by crate, function and
//! expression, so that code may move between files without a change of the list.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use crate::source::repository;

/// The placeholder in a line that has no reason yet.
const TODO: &str = "TODO";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    pub package: String,
    pub function: String,
    pub expression: String,
}

/// A site and where it stands now.
pub struct Found {
    pub site: Site,
    pub place: String,
}

pub struct Listing {
    /// Below `tests/tidy`.
    pub file: &'static str,
    /// The first lines of the list, which explain it; each begins with `#`.
    pub head: &'static str,
    /// Advice about a site that is not listed.
    pub advice: &'static str,
    /// How many lines may still have the reason `TODO`.
    pub debt: usize,
}

type Reasons = BTreeMap<Site, String>;

impl Listing {
    fn path(&self) -> PathBuf {
        repository().join("tests/tidy").join(self.file)
    }

    fn read(&self) -> Reasons {
        let text = std::fs::read_to_string(self.path()).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let site = |line: &str| {
            let mut columns = line.split('\t').map(str::to_owned);
            let site = Site {
                package: columns.next()?,
                function: columns.next()?,
                expression: columns.next()?,
            };
            Some((site, columns.next().unwrap_or_default().trim().to_owned()))
        };
        lines.filter_map(site).collect()
    }

    /// Compares the findings with the list; with `UPDATE_TIDY` the list is written anew first.
    pub fn hold(&self, found: &[Found]) {
        let mut reasons = self.read();
        if std::env::var_os("UPDATE_TIDY").is_some() {
            reasons = renewed(found, &reasons);
            std::fs::write(self.path(), self.text(&reasons)).expect("tests/tidy can be written");
        }
        let unreasoned = reasons.values().filter(|r| r.as_str() == TODO).count();
        let mut complaints = complaints(found, &reasons);
        if unreasoned <= self.debt {
            complaints.retain(|line| !line.starts_with("without a reason"));
        }
        assert!(
            complaints.is_empty(),
            "tests/tidy/{}: {} lines do not fit the code.\n\n{}\n{}\n\n\
             Then: UPDATE_TIDY=1 cargo test -p strandline-tidy\n\
             (keeps the reasons, removes lines of code that is gone, gives new lines the reason TODO: replace TODO).\n",
            self.file,
            complaints.len(),
            complaints.join("\n"),
            self.advice,
        );
    }

    fn text(&self, reasons: &Reasons) -> String {
        let mut text = self.head.to_owned();
        for (site, reason) in reasons {
            let Site {
                package,
                function,
                expression,
            } = site;
            let _ = writeln!(text, "{package}\t{function}\t{expression}\t{reason}");
        }
        text
    }
}

/// The sites of the code with the reasons of before: of the same site, else of the same expression in another function
/// of the crate, else of the same expression and function in another crate.
fn renewed(found: &[Found], before: &Reasons) -> Reasons {
    let moved = |site: &Site| {
        let same = |b: &&Site| b.expression == site.expression;
        let in_crate = |b: &&Site| same(b) && b.package == site.package;
        let in_function = |b: &&Site| same(b) && b.function == site.function;
        let gone = || {
            before
                .keys()
                .filter(|b| !found.iter().any(|f| f.site == **b))
        };
        let key = only(gone().filter(in_crate));
        let key = key.or_else(|| only(gone().filter(in_function)))?;
        before.get(key)
    };
    found
        .iter()
        .map(|Found { site, .. }| {
            let reason = before.get(site).or_else(|| moved(site));
            (site.clone(), reason.map_or(TODO, String::as_str).to_owned())
        })
        .collect()
}

/// The one element; `None` if there are more, or none.
fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.next().is_none().then_some(first)
}

fn complaints(found: &[Found], reasons: &Reasons) -> Vec<String> {
    let mut complaints = Vec::new();
    for Found { site, place } in found {
        let shown = format!("{place}, fn {}: {}", site.function, site.expression);
        match reasons.get(site).map(String::as_str) {
            None => complaints.push(format!("not listed: {shown}")),
            Some("" | TODO) => complaints.push(format!("without a reason: {shown}")),
            Some(_) => {}
        }
    }
    for site in reasons.keys() {
        if !found.iter().any(|f| f.site == *site) {
            complaints.push(format!(
                "listed, but gone from the code: {}, fn {}: {}",
                site.package, site.function, site.expression
            ));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(function: &str, expression: &str) -> Site {
        Site {
            package: "log".into(),
            function: function.into(),
            expression: expression.into(),
        }
    }

    fn found(function: &str, expression: &str) -> Found {
        Found {
            site: site(function, expression),
            place: "src/log/src/x.rs:1".into(),
        }
    }

    #[test]
    fn a_new_a_gone_and_an_unreasoned_line_are_each_refused() {
        let listed: Reasons = [
            (site("read", "a[0]"), "never empty".to_owned()),
            (site("read", "b[0]"), TODO.to_owned()),
            (site("read", "c[0]"), "old".to_owned()),
        ]
        .into();
        let code = [
            found("read", "a[0]"),
            found("read", "b[0]"),
            found("read", "d[0]"),
        ];
        let complaints = complaints(&code, &listed);
        assert_eq!(complaints.len(), 3, "{complaints:?}");
        assert!(complaints[0].starts_with("without a reason") && complaints[0].contains("b[0]"));
        assert!(complaints[1].starts_with("not listed") && complaints[1].contains("d[0]"));
        assert!(complaints[2].starts_with("listed, but gone") && complaints[2].contains("c[0]"));
    }

    #[test]
    fn a_reason_follows_an_expression_that_moves_to_another_function() {
        let before: Reasons = [(site("read", "a[0]"), "never empty".to_owned())].into();
        let after = renewed(
            &[found("look_up", "a[0]"), found("look_up", "z[0]")],
            &before,
        );
        assert_eq!(after[&site("look_up", "a[0]")], "never empty");
        assert_eq!(after[&site("look_up", "z[0]")], TODO);
        assert_eq!(after.len(), 2);
    }
}
