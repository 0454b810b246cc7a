//! Invariants 6 and 11: after unclean elections, lost disks and power losses, a leader's log begins or ends as its cold
//! tier requires, or the tier ends where the two histories diverge. No offset that the tier holds is assigned again,
//! and the records that clients read over both tiers are one log.

use crate::seeds;
use crate::tiered::Rule;
use crate::tiered::cluster::{Cluster, Repairs};

const STEPS: usize = 400;

fn run(seed: u64, rule: Rule) -> Result<Repairs, String> {
    let mut cluster = Cluster::new(seed, rule);
    for step in 0..STEPS {
        cluster.step();
        let checked = cluster.check();
        checked.map_err(|error| format!("seed {seed}, step {step}: {error}"))?;
    }
    cluster.heal();
    let checked = cluster.check().and_then(|()| cluster.check_agreement());
    checked.map_err(|error| format!("seed {seed}, at the end: {error}"))?;
    Ok(cluster.repaired)
}

#[test]
fn no_offset_is_given_to_two_records() {
    let mut all = Repairs::default();
    for seed in 0..seeds() {
        let seen = run(seed, Rule::Epochs).unwrap_or_else(|error| panic!("{error}"));
        all.behind_tier += seen.behind_tier;
        all.cut += seen.cut;
        all.gaps += seen.gaps;
        all.copies += seen.copies;
        all.retained += seen.retained;
    }
    println!("{} seeds: {all:?}", seeds());
    // A run in which nothing parted shows nothing.
    assert!(
        all.copies > seeds() && all.behind_tier > seeds() / 20,
        "{all:?}"
    );
    assert!(
        all.cut > seeds() / 200 && all.retained > seeds() / 20,
        "{all:?}"
    );
}

#[test]
fn offsets_alone_mix_two_histories() {
    let caught = (0..100).find_map(|seed| run(seed, Rule::Offsets).err());
    println!("{caught:?}");
    assert!(
        caught.is_some(),
        "bare offsets were not caught in 100 seeds"
    );
}
