//! Seeded simulation of the pure crates. Each invariant of the design has a file; a seed that fails is named and can be
//! run again. `STRANDLINE_SIM_SEEDS` says how many seeds each test runs (default: few, for every build).

mod a_coordinator_acts_on_what_is_committed;
mod acknowledged_records_are_never_lost;
mod an_outage_of_the_bucket_deletes_nothing;
mod directories_belong_to_their_topics;
mod mutants_are_caught;
mod no_bytes_make_a_decoder_panic;
mod no_offset_is_given_to_two_records;
mod nothing_leaves_the_local_log_before_it_is_in_the_bucket;
mod producers_are_recognised;
mod replicas_agree_below_the_high_watermark;
mod the_high_watermark_never_moves_back;
mod tiered;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Mutant, World};

const STEPS: usize = 400;

fn seeds() -> u64 {
    let asked = std::env::var("STRANDLINE_SIM_SEEDS").ok();
    asked.and_then(|s| s.parse().ok()).unwrap_or(1500)
}

/// Runs one seed; the error says what does not hold.
fn run(seed: u64, mutant: Mutant, mut check: impl FnMut(&World)) -> Result<World, String> {
    let running = AssertUnwindSafe(|| {
        let mut world = World::new(seed, mutant);
        for _ in 0..STEPS {
            world.step();
            check(&world);
        }
        world.heal();
        check(&world);
        world
    });
    catch_unwind(running).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        format!("seed {seed}: {}", text.unwrap_or_default())
    })
}
