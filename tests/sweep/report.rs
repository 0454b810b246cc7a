//! The outcome of each pair, and whether every key's ends were among them.

use std::collections::{BTreeMap, BTreeSet};

use strandline_metadata::config::ConfigDef;

use crate::values::{Pair, ends};

/// The outcome of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The broker refused the value, with this reason.
    Refused(String),
    Served,
    /// Served, and nothing was copied in time: the setting slows copies down, or switches them off.
    NotCopied,
    /// The broker runs and serves no clients, as the setting says; nothing is lost by it.
    Closed(String),
    Failed(String),
}

#[derive(Default)]
pub struct Report {
    /// By phase and pair.
    tried: BTreeMap<&'static str, BTreeMap<Pair, Verdict>>,
}

impl Report {
    pub fn note(&mut self, phase: &'static str, pair: &Pair, verdict: Verdict) {
        if let Verdict::Failed(reason) = &verdict {
            println!("FAILED {phase}: {}: {reason}", pair.shown());
        }
        self.tried
            .entry(phase)
            .or_default()
            .insert(pair.clone(), verdict);
    }

    pub fn failed(&self) -> usize {
        let all = self.tried.values().flat_map(BTreeMap::values);
        all.filter(|v| matches!(v, Verdict::Failed(_))).count()
    }

    /// Ends of ranges that were not tried in a phase.
    pub fn untried<'a>(
        &self,
        phase: &str,
        defs: impl Iterator<Item = &'a ConfigDef>,
    ) -> Vec<String> {
        let tried = self.tried.get(phase);
        let ends = defs.flat_map(ends);
        ends.filter(|pair| tried.is_none_or(|tried| !tried.contains_key(pair)))
            .map(|pair| pair.shown())
            .collect()
    }

    pub fn print(&self) {
        let mut distinct = BTreeSet::new();
        for (phase, tried) in &self.tried {
            let count = |is: fn(&Verdict) -> bool| tried.values().filter(|v| is(v)).count();
            println!(
                "{phase}: {} pairs, {} refused, {} served, {} not copied in time, {} closed to clients, {} failed",
                tried.len(),
                count(|v| matches!(v, Verdict::Refused(_))),
                count(|v| *v == Verdict::Served),
                count(|v| *v == Verdict::NotCopied),
                count(|v| matches!(v, Verdict::Closed(_))),
                count(|v| matches!(v, Verdict::Failed(_))),
            );
            for (pair, verdict) in tried {
                distinct.insert(pair);
                match verdict {
                    Verdict::NotCopied => println!("  not copied in time: {}", pair.shown()),
                    Verdict::Closed(how) => {
                        println!("  closed to clients: {}: {how}", pair.shown());
                    }
                    _ => {}
                }
            }
        }
        let total: usize = self.tried.values().map(BTreeMap::len).sum();
        println!("{total} trials of {} pairs", distinct.len());
    }
}
