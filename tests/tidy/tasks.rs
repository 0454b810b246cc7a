//! Queues without a limit, and tasks and threads: each has a reason, which says what bounds the queue, or who joins the
//! task and what ends it.

use quote::ToTokens;
use syn::Expr;

use crate::listing::{Found, Listing, Site};
use crate::source::{SourceFile, production};
use crate::text::one_line;
use crate::walk::{Rule, line, walk};

const LISTING: Listing = Listing {
    file: "tasks.tsv",
    head: "# Queues without a limit, and where tasks and threads begin. See tasks.rs.\n\
           # crate, function, expression, reason. A reason says what bounds the queue, or who joins the task.\n",
    advice: "A queue needs a limit, and a task an owner that joins it at shutdown; where neither is possible, say why.",
    debt: 0,
};

#[test]
fn each_queue_without_a_limit_and_each_task_has_a_reason() {
    let mut found = Vec::new();
    for file in &production() {
        walk(&file.tree, &mut Tasks(file, &mut found));
    }
    assert!(found.len() > 10, "the walk found too little");
    LISTING.hold(&found);
}

struct Tasks<'f>(&'f SourceFile, &'f mut Vec<Found>);

impl Rule for Tasks<'_> {
    fn expression(&mut self, expression: &Expr, function: &str) {
        let text = match expression {
            Expr::Call(call) => {
                let name = one_line(call.func.to_token_stream());
                let last = name.rsplit("::").next().unwrap_or_default();
                let last = last.split('<').next().unwrap_or_default();
                let unbounded = last.starts_with("unbounded")
                    || name.contains("unbounded_channel")
                    || (last == "channel" && call.args.is_empty() && !name.contains("oneshot"));
                if !unbounded && !["spawn", "spawn_blocking", "spawn_local"].contains(&last) {
                    return;
                }
                name
            }
            Expr::MethodCall(call) if call.method.to_string().starts_with("spawn") => {
                format!(
                    "{}.{}",
                    one_line(call.receiver.to_token_stream()),
                    call.method
                )
            }
            _ => return,
        };
        self.1.push(Found {
            site: Site {
                package: self.0.package.clone(),
                function: function.to_owned(),
                expression: text,
            },
            place: format!("{}:{}", self.0.path, line(expression)),
        });
    }
}
