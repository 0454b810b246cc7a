//! Invariant 1: an acknowledged record is never lost while one replica that acknowledged it survives, power loss of every
//! broker included.

use std::collections::BTreeMap;

use crate::world::{Mutant, World};
use crate::{run, seeds};

/// After healing, every replica has every acknowledged record at the acknowledged offset.
pub fn check_acknowledged(world: &World) {
    for (value, offset) in &world.acknowledged {
        for node in &world.nodes {
            let found = node.log.get(*offset as usize).map(|r| r.value);
            let seed = world.seed;
            assert_eq!(found, Some(*value), "seed {seed}, offset {offset}");
        }
    }
}

#[test]
fn acknowledged_records_are_never_lost() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut acknowledged = 0;
    for seed in 0..seeds() {
        let world = run(seed, Mutant::None, |_| {}).unwrap();
        check_acknowledged(&world);
        acknowledged += world.acknowledged.len();
        for (what, count) in world.seen {
            *seen.entry(what).or_default() += count;
        }
    }
    println!(
        "{} seeds, {acknowledged} records acknowledged: {seen:?}",
        seeds()
    );
    // Seeds that reach none of this would prove nothing.
    for what in [
        "appends",
        "crashes",
        "fencings",
        "ISR changes",
        "leaders",
        "lost messages",
        "truncations",
    ] {
        assert!(
            seen.get(what).copied().unwrap_or(0) as u64 > seeds() / 10,
            "{what}: {seen:?}"
        );
    }
    assert!(acknowledged as u64 > seeds());
}
