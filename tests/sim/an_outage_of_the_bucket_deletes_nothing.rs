//! Invariant 10: an outage of the object store never fails a produce, and never lets data be deleted that is not there.

use crate::nothing_leaves_the_local_log_before_it_is_in_the_bucket::World;
use crate::seeds;

#[test]
fn an_outage_of_the_bucket_deletes_nothing() {
    let (mut appended, mut caught_up) = (0, 0);
    for seed in 0..seeds() {
        let mut world = World::new(seed);
        for round in 0..6 {
            world.store_is_down = round % 2 == 0;
            let (before, copied) = (world.end, world.copied);
            for _ in 0..50 {
                world.step();
                world.check(seed);
            }
            if world.store_is_down {
                assert_eq!(world.copied, copied, "seed {seed}: it was down");
                appended += world.end - before;
            } else {
                caught_up += world.copied - copied;
            }
        }
    }
    println!(
        "{} seeds: {appended} records while it was down, {caught_up} copies afterwards",
        seeds()
    );
    assert!(appended as u64 > seeds() && caught_up as u64 > seeds() / 10);
}
