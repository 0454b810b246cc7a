//! Invariant 3: two replicas never hold different records at one offset below the high watermark.

use crate::world::{Mutant, World};
use crate::{run, seeds};

pub fn check_agreement(world: &World) {
    for (i, one) in world.nodes.iter().enumerate() {
        for other in &world.nodes[i + 1..] {
            let both = one.high_watermark.min(other.high_watermark) as usize;
            assert_eq!(one.log[..both], other.log[..both]);
        }
    }
}

#[test]
fn replicas_agree_below_the_high_watermark() {
    for seed in 0..seeds() {
        run(seed, Mutant::None, check_agreement).unwrap();
    }
}
