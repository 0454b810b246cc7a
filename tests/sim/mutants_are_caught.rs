//! The simulation finds defects: each defect, put in on purpose, breaks an invariant within a bounded number of seeds.

use std::panic::catch_unwind;

use crate::acknowledged_records_are_never_lost::check_acknowledged;
use crate::replicas_agree_below_the_high_watermark::check_agreement;
use crate::run;
use crate::world::Mutant;

const MOST_SEEDS: u64 = 5000;

fn is_caught(seed: u64, mutant: Mutant) -> bool {
    match run(seed, mutant, check_agreement) {
        Err(_) => true,
        Ok(world) => {
            let world = std::panic::AssertUnwindSafe(world);
            catch_unwind(move || check_acknowledged(&world)).is_err()
        }
    }
}

#[test]
fn mutants_are_caught() {
    // Each catch is a panic: hide the messages, which would flood the output.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let caught: Vec<(Mutant, Option<u64>)> = [
        Mutant::AcknowledgeBeforeIsr,
        Mutant::TruncateToHighWatermark,
        Mutant::NeverTruncate,
        Mutant::VouchUnflushed,
        Mutant::CommitAtLogEnd,
    ]
    .into_iter()
    .map(|mutant| {
        (
            mutant,
            (0..MOST_SEEDS).find(|seed| is_caught(*seed, mutant)),
        )
    })
    .collect();
    std::panic::set_hook(hook);
    println!("caught at seed: {caught:?}");
    for (mutant, seed) in caught {
        assert!(
            seed.is_some(),
            "{mutant:?} was not caught in {MOST_SEEDS} seeds"
        );
    }
}
