//! Walks production code and tells the name of the function around each expression, inside of macros as well.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Block, Expr, File, ImplItemFn, Item, ItemConst, ItemFn, ItemStatic, Macro, Stmt};
use syn::{Token, TraitItemFn};

use crate::source::is_test;

/// The view of a rule: an expression or a macro, and the function around it.
pub trait Rule {
    fn expression(&mut self, _expression: &Expr, _function: &str) {}
    fn macro_call(&mut self, _call: &Macro, _function: &str) {}
    /// A name of a method that is called inside of a macro whose syntax is its own, such as `select!`.
    fn method_in_macro(&mut self, _before: &TokenStream, _name: &str, _at: Span, _function: &str) {}
}

pub fn walk(file: &File, rule: &mut dyn Rule) {
    let mut walker = Walker {
        rule,
        function: "-".into(),
    };
    walker.visit_file(file);
}

struct Walker<'r> {
    rule: &'r mut dyn Rule,
    function: String,
}

impl Walker<'_> {
    fn inside(&mut self, name: String, visit: impl FnOnce(&mut Self)) {
        let around = std::mem::replace(&mut self.function, name);
        visit(self);
        self.function = around;
    }

    /// The arguments of a macro: expressions, statements, or groups of them in a syntax of the macro's own.
    fn tokens(&mut self, tokens: TokenStream) {
        if let Ok(list) = Punctuated::<Expr, Token![,]>::parse_terminated.parse2(tokens.clone()) {
            list.iter().for_each(|e| self.visit_expr(e));
            return;
        }
        if let Ok(statements) = Block::parse_within.parse2(tokens.clone()) {
            statements.iter().for_each(|s: &Stmt| self.visit_stmt(s));
            return;
        }
        self.foreign_syntax(tokens);
    }

    fn foreign_syntax(&mut self, tokens: TokenStream) {
        let mut part = TokenStream::new();
        let mut after_dot = false;
        for tree in tokens {
            match &tree {
                TokenTree::Ident(name) if after_dot => {
                    let name = name.to_string();
                    let function = self.function.clone();
                    self.rule
                        .method_in_macro(&part, &name, tree.span(), &function);
                }
                TokenTree::Group(group) => self.group(group),
                _ => {}
            }
            after_dot = matches!(&tree, TokenTree::Punct(p) if p.as_char() == '.');
            let ends =
                matches!(&tree, TokenTree::Punct(p) if matches!(p.as_char(), ',' | ';' | '='));
            if ends {
                part = TokenStream::new();
            } else {
                part.extend([tree]);
            }
        }
    }

    fn group(&mut self, group: &Group) {
        if group.delimiter() == Delimiter::Brace {
            let whole: TokenStream = [TokenTree::Group(group.clone())].into_iter().collect();
            if let Ok(block) = syn::parse2::<Block>(whole) {
                self.visit_block(&block);
                return;
            }
        }
        self.tokens(group.stream());
    }
}

impl<'ast> Visit<'ast> for Walker<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Fn(i) => &i.attrs,
            Item::Impl(i) => &i.attrs,
            Item::Mod(i) => &i.attrs,
            Item::Struct(i) => &i.attrs,
            Item::Use(i) => &i.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_test(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.inside(item.sig.ident.to_string(), |w| {
            visit::visit_item_fn(w, item);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if is_test(&item.attrs) {
            return;
        }
        self.inside(item.sig.ident.to_string(), |w| {
            visit::visit_impl_item_fn(w, item);
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        self.inside(item.sig.ident.to_string(), |w| {
            visit::visit_trait_item_fn(w, item);
        });
    }

    fn visit_item_static(&mut self, item: &'ast ItemStatic) {
        self.inside(item.ident.to_string(), |w| {
            visit::visit_item_static(w, item);
        });
    }

    /// The compiler evaluates a constant: a panic there is an error of the build.
    fn visit_item_const(&mut self, _: &'ast ItemConst) {}

    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}

    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}

    fn visit_type_array(&mut self, _: &'ast syn::TypeArray) {}

    fn visit_expr_repeat(&mut self, repeat: &'ast syn::ExprRepeat) {
        self.visit_expr(&repeat.expr);
    }

    fn visit_expr(&mut self, expression: &'ast Expr) {
        let function = self.function.clone();
        self.rule.expression(expression, &function);
        visit::visit_expr(self, expression);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        let function = self.function.clone();
        self.rule.macro_call(call, &function);
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

/// The line on which something begins.
pub fn line(spanned: &impl Spanned) -> usize {
    spanned.span().start().line
}
