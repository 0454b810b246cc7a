//! Every expression of production code that can end the process, with the reason why nothing from outside (a request, a
//! file, an object, a clock, a setting) reaches the case in which it does.
//!
//! Found by syntax, so by name: the macros, the methods of the standard library, of `bytes`, `tokio` and `rand` that
//! panic on a bad argument, index expressions, divisions by a variable, arithmetic on instants and durations, `RefCell`.
//! Not found: overflow of integers, which wraps in a release build; sizes of allocations, which have limits of their own;
//! recursion; a call that blocks inside of an async function, which is a question of the caller and not of any value. A
//! string literal as an index is a field of a JSON value, which is null where there is none. A lock that is poisoned is one kind for the whole house: a release aborts at the first panic, so no thread
//! is left that could see the poison ([`a_panic_ends_the_process_in_a_release`]).

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, ExprMethodCall, Lit, Macro, Type};

use crate::listing::{Found, Listing, Site};
use crate::source::{SourceFile, production, repository};
use crate::text::one_line;
use crate::walk::{Rule, line, walk};

const LISTING: Listing = Listing {
    file: "panics.tsv",
    head: "# Every expression in production code that can end the process, and why it never does. See panics.rs.\n\
           # crate, function, expression, reason. A reason says why no request, file, object, clock or setting gets there.\n",
    advice: "A new expression can end the process. Return an error (let-else, `get`, `checked_…`, `?`); only if nothing \
             from outside can reach the case, list the expression with that reason.",
    debt: 0,
};

const MACROS: &[&str] = &[
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "debug_assert_eq",
    "debug_assert_ne",
    "unreachable",
    "panic",
    "todo",
    "unimplemented",
];

/// Methods that panic for some receiver or argument, whatever the argument looks like.
const METHODS: &[&str] = &[
    "unwrap",
    "expect",
    "unwrap_err",
    "expect_err",
    "split_at",
    "split_at_mut",
    "copy_from_slice",
    "clone_from_slice",
    "copy_within",
    "split_to",
    "split_off",
    "advance",
    "swap_remove",
    "slice_ref",
    "copy_to_slice",
    "copy_to_bytes",
    "mul_f64",
    "mul_f32",
    "div_f64",
    "div_f32",
    "add_permits",
    "rotate_left",
    "rotate_right",
    "select_nth_unstable",
];

/// Methods and functions that panic for some number: a literal or a named constant is no danger.
const NUMBERS: &[&str] = &[
    "chunks",
    "chunks_exact",
    "rchunks",
    "windows",
    "step_by",
    "random_range",
    "from_secs_f64",
    "from_secs_f32",
    "rem_euclid",
    "div_euclid",
    "div_ceil",
    "next_multiple_of",
    "channel",
    "ilog2",
    "ilog10",
    "clamp",
    "interval",
    "worker_threads",
    "max_blocking_threads",
];

/// Methods that panic for a range outside of the receiver, or the wrong way round.
const RANGES: &[&str] = &["drain", "splice", "slice", "replace_range", "range"];

/// Names of an argument of `insert`, `remove` and `swap` that is a position in a vector, not a key of a map.
const POSITIONS: &[&str] = &[
    "i", "j", "n", "at", "index", "position", "place", "slot", "first", "last",
];

#[test]
fn nothing_from_outside_ends_the_process() {
    let files = production();
    let times = times(&files);
    let mut found = Vec::new();
    for file in &files {
        let mut rule = Panics {
            file,
            times: &times,
            found: &mut found,
        };
        walk(&file.tree, &mut rule);
    }
    assert!(found.len() > 50, "the walk found too little");
    LISTING.hold(&found);
}

#[test]
fn a_panic_ends_the_process_in_a_release() {
    let manifest = std::fs::read_to_string(repository().join("Cargo.toml")).expect("the manifest");
    let release = manifest
        .split("[profile.release]")
        .nth(1)
        .expect("a release profile");
    let release = release.split("\n[").next().unwrap_or_default();
    assert!(release.contains("panic = \"abort\""), "{release}");
}

struct Panics<'f> {
    file: &'f SourceFile,
    times: &'f Times,
    found: &'f mut Vec<Found>,
}

impl Panics<'_> {
    fn note(&mut self, tokens: TokenStream, at: usize, function: &str) {
        self.found.push(Found {
            site: Site {
                package: self.file.package.clone(),
                function: function.to_owned(),
                expression: one_line(tokens),
            },
            place: format!("{}:{at}", self.file.path),
        });
    }

    fn is_name_of_time(&self, name: &str) -> bool {
        let own = self.times.by_file.get(&self.file.path);
        self.times.everywhere.contains(name) || own.is_some_and(|own| own.contains(name))
    }

    fn is_time(&self, expression: &Expr) -> bool {
        let text = one_line(expression.to_token_stream());
        if text.contains("Instant::") || text.contains("Duration::") || text.ends_with(".elapsed()")
        {
            // The count of a length of time is a number.
            return !text.contains(".as_") && !text.contains(".subsec");
        }
        match expression {
            Expr::Path(path) => path
                .path
                .get_ident()
                .is_some_and(|i| self.is_name_of_time(&i.to_string())),
            Expr::Field(field) => self.is_name_of_time(&field.member.to_token_stream().to_string()),
            Expr::Unary(unary) => self.is_time(&unary.expr),
            Expr::Paren(paren) => self.is_time(&paren.expr),
            Expr::Binary(binary) => self.is_time(&binary.left) || self.is_time(&binary.right),
            _ => false,
        }
    }
}

impl Rule for Panics<'_> {
    fn expression(&mut self, expression: &Expr, function: &str) {
        let dangerous = match expression {
            Expr::Index(index) => !is_full_range(&index.index) && !is_field_of_json(&index.index),
            Expr::MethodCall(call) => method_panics(call),
            Expr::Call(call) => call_panics(call),
            Expr::Binary(binary) => match binary.op {
                BinOp::Div(_) | BinOp::Rem(_) | BinOp::DivAssign(_) | BinOp::RemAssign(_) => {
                    !never_zero(&binary.right) && !is_float(expression)
                }
                BinOp::Add(_) | BinOp::AddAssign(_) if is_short_time(&binary.right) => false,
                BinOp::Add(_)
                | BinOp::Sub(_)
                | BinOp::AddAssign(_)
                | BinOp::SubAssign(_)
                | BinOp::Mul(_)
                | BinOp::MulAssign(_) => self.is_time(&binary.left) || self.is_time(&binary.right),
                _ => false,
            },
            Expr::Path(path) => path.path.segments.iter().any(|s| s.ident == "RefCell"),
            _ => false,
        };
        if dangerous {
            self.note(expression.to_token_stream(), line(expression), function);
        }
    }

    fn macro_call(&mut self, call: &Macro, function: &str) {
        let name = call.path.segments.last().map(|s| s.ident.to_string());
        if name.is_some_and(|name| MACROS.contains(&name.as_str())) {
            self.note(call.to_token_stream(), line(call), function);
        }
    }

    fn method_in_macro(&mut self, before: &TokenStream, name: &str, at: Span, function: &str) {
        if METHODS.contains(&name) {
            let mut tokens = before.clone();
            tokens.extend(name.parse::<TokenStream>());
            self.note(tokens, at.start().line, function);
        }
    }
}

fn method_panics(call: &ExprMethodCall) -> bool {
    let name = call.method.to_string();
    let first = call.args.first();
    if is_poison(call) {
        return false;
    }
    if name == "split_off" && matches!(first, Some(Expr::Reference(_))) {
        // The index of a map, by key.
        return false;
    }
    if METHODS.contains(&name.as_str()) || reads_a_number(&name) {
        // Methods of that name without an argument are ours.
        return name != "advance" || call.args.len() == 1;
    }
    if NUMBERS.contains(&name.as_str()) && name != "channel" {
        return call.args.iter().any(|a| !is_constant(a));
    }
    if RANGES.contains(&name.as_str()) {
        let half_of_map = name == "range" && first.is_some_and(is_half_range);
        return call.args.len() == 1 && !half_of_map && first.is_some_and(|a| !is_full_range(a));
    }
    match name.as_str() {
        // The front of a vector is always there to insert at.
        "insert" => first.is_some_and(|at| is_position(at) && !matches!(at, Expr::Lit(_))),
        "remove" | "swap" => first.is_some_and(is_position),
        _ => false,
    }
}

fn call_panics(call: &syn::ExprCall) -> bool {
    let Expr::Path(path) = &*call.func else {
        return false;
    };
    let Some(last) = path.path.segments.last() else {
        return false;
    };
    let name = last.ident.to_string();
    let text = one_line(path.to_token_stream());
    let number = NUMBERS.contains(&name.as_str()) && !text.starts_with("watch::")
        || text.ends_with("Semaphore::new");
    (number && call.args.iter().any(|a| !is_constant(a)))
        || ["thread::spawn", "env::vars", "env::args"]
            .iter()
            .any(|end| text.ends_with(end))
}

/// `x.lock().expect("no holder panics")`
fn is_poison(call: &ExprMethodCall) -> bool {
    let locks = |e: &Expr| {
        matches!(e, Expr::MethodCall(inner)
            if inner.args.is_empty() && ["lock", "read", "write"].iter().any(|n| inner.method == n))
    };
    call.method == "expect" && locks(&call.receiver)
}

/// `get_u8`, `get_i64_le`: `bytes::Buf` panics where the bytes do not suffice.
fn reads_a_number(method: &str) -> bool {
    let Some(rest) = method.strip_prefix("get_") else {
        return false;
    };
    let rest = rest.trim_end_matches("_le").trim_end_matches("_ne");
    let digits = rest.trim_start_matches(['u', 'i', 'f']);
    digits.len() + 1 == rest.len() && digits.parse::<u32>().is_ok()
}

fn is_full_range(expression: &Expr) -> bool {
    matches!(expression, Expr::Range(range) if range.start.is_none() && range.end.is_none())
}

/// A range that has one end only: of a map's keys, never the wrong way round.
fn is_half_range(expression: &Expr) -> bool {
    matches!(expression, Expr::Range(range) if range.start.is_none() || range.end.is_none())
}

fn is_field_of_json(expression: &Expr) -> bool {
    matches!(expression, Expr::Lit(literal) if matches!(literal.lit, Lit::Str(_)))
}

/// A length of time that an instant of this machine's clock can never overflow with: a constant, or any 64 bits of
/// milliseconds.
fn is_short_time(expression: &Expr) -> bool {
    let text = one_line(expression.to_token_stream());
    let small = ["millis", "micros", "nanos"]
        .iter()
        .any(|unit| text.starts_with(&format!("Duration::from_{unit}(")));
    small || is_constant(expression)
}

fn is_position(expression: &Expr) -> bool {
    match expression {
        Expr::Lit(literal) => matches!(literal.lit, Lit::Int(_)),
        Expr::Path(path) => path
            .path
            .get_ident()
            .is_some_and(|i| POSITIONS.contains(&i.to_string().as_str())),
        Expr::Binary(_) => true,
        _ => false,
    }
}

/// A literal that is not zero, a named constant (`SIZE`, `Self::SIZE`), or what is made at least one.
fn never_zero(expression: &Expr) -> bool {
    match expression {
        Expr::Lit(literal) => !matches!(&literal.lit, Lit::Int(int) if int.base10_digits() == "0"),
        Expr::MethodCall(call) if call.method == "max" => call.args.iter().all(is_constant),
        Expr::Paren(paren) => never_zero(&paren.expr),
        Expr::Cast(cast) => never_zero(&cast.expr),
        other => is_constant(other),
    }
}

fn is_constant(expression: &Expr) -> bool {
    match expression {
        Expr::Lit(_) => true,
        Expr::Path(path) => path.path.segments.last().is_some_and(|last| {
            let name = last.ident.to_string();
            name.len() > 1
                && name
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        }),
        Expr::Cast(cast) => is_constant(&cast.expr),
        Expr::Unary(unary) => is_constant(&unary.expr),
        Expr::Paren(paren) => is_constant(&paren.expr),
        Expr::Binary(binary) => is_constant(&binary.left) && is_constant(&binary.right),
        Expr::Call(call) => {
            one_line(call.func.to_token_stream()).contains("Duration::from_")
                && call.args.iter().all(is_constant)
        }
        _ => false,
    }
}

fn is_float(expression: &Expr) -> bool {
    let text = one_line(expression.to_token_stream());
    let literal = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    text.contains("f64") || text.contains("f32") || text.contains("_secs_f") || {
        literal
            .filter(|part| part.len() > 2)
            .any(|part| part.parse::<f64>().is_ok() && part.trim_matches('.').contains('.'))
    }
}

/// The names of values of type `Instant`, `Duration` and `SystemTime`.
#[derive(Default)]
struct Times {
    /// Fields and constants of the house that are nothing else elsewhere.
    everywhere: BTreeSet<String>,
    /// Fields, parameters and bindings of one file.
    by_file: BTreeMap<String, BTreeSet<String>>,
}

fn times(files: &[SourceFile]) -> Times {
    let mut times = Times::default();
    let mut others = BTreeSet::new();
    for file in files {
        let mut names = Names::default();
        names.visit_file(&file.tree);
        times.everywhere.extend(names.shared);
        others.extend(names.others);
        times.by_file.insert(file.path.clone(), names.own);
    }
    times.everywhere.retain(|name| !others.contains(name));
    times
}

#[derive(Default)]
struct Names {
    shared: BTreeSet<String>,
    own: BTreeSet<String>,
    others: BTreeSet<String>,
}

impl Names {
    fn note(&mut self, name: String, type_: &Type, shared: bool) {
        let text = one_line(type_.to_token_stream());
        if ["Instant", "Duration", "SystemTime"]
            .iter()
            .any(|t| text.ends_with(t))
        {
            if shared {
                self.shared.insert(name.clone());
            }
            self.own.insert(name);
        } else {
            self.others.insert(name);
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(name) = &field.ident {
            self.note(name.to_string(), &field.ty, true);
        }
    }

    fn visit_pat_type(&mut self, typed: &'ast syn::PatType) {
        if let syn::Pat::Ident(name) = &*typed.pat {
            self.note(name.ident.to_string(), &typed.ty, false);
        }
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.note(item.ident.to_string(), &item.ty, true);
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        let value = local
            .init
            .as_ref()
            .map(|i| one_line(i.expr.to_token_stream()));
        let made = value.is_some_and(|v| {
            v.starts_with("Instant::")
                || v.contains("::Instant::now()")
                || v.starts_with("Duration::from_")
        });
        if let (syn::Pat::Ident(name), true) = (&local.pat, made) {
            self.own.insert(name.ident.to_string());
        }
        visit::visit_local(self, local);
    }
}
