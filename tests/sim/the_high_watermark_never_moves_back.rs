//! Invariant 2: the high watermark never moves back for a client, and never advances below `min.insync.replicas`.

use std::collections::BTreeMap;

use crate::world::{Mutant, World};
use crate::{run, seeds};

/// The last high watermark of each epoch, with the node that led.
#[derive(Default)]
pub struct Shown {
    by_epoch: BTreeMap<i32, (usize, i64)>,
    pub advances: usize,
}

impl Shown {
    pub fn check(&mut self, world: &World) {
        for (at, node) in world.nodes.iter().enumerate() {
            let Some((epoch, isr, min)) = node.leads() else {
                continue;
            };
            let now = node.high_watermark;
            let before = self.by_epoch.insert(epoch, (at, now));
            let Some((leader, before)) = before else {
                continue;
            };
            let seed = world.seed;
            assert_eq!(leader, at, "seed {seed}: two lead in epoch {epoch}");
            assert!(
                now >= before,
                "seed {seed}: the high watermark went from {before} to {now} in epoch {epoch}"
            );
            if now > before {
                assert!(
                    isr >= min,
                    "seed {seed}: it advanced with {isr} of {min} replicas in sync"
                );
                self.advances += 1;
            }
        }
    }
}

#[test]
fn the_high_watermark_never_moves_back() {
    let mut advances = 0;
    for seed in 0..seeds() {
        let mut shown = Shown::default();
        run(seed, Mutant::None, |world| shown.check(world)).unwrap();
        advances += shown.advances;
    }
    println!("{} seeds, {advances} advances", seeds());
    assert!(advances as u64 > seeds());
}
