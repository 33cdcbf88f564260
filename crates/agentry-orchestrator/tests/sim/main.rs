//! The orchestrator under a seed: faults in store, bus, model and clock, kill -9 in between, invariants checked after.
//!
//! Each seed is a short history. The orchestrator runs on a runtime of its own with paused time; dropping the runtime
//! is kill -9: nothing is given back, nothing is written. Between lives the store stays. At the end the faults stop,
//! and everything that was accepted must reach exactly one end. A failure prints its seed: run it again with
//! `AGENTRY_SIM_SEED=<seed>`; `AGENTRY_SIM_SEEDS=<n>` runs more of them.

mod checks;
mod fleet;
mod roles;
mod schedules;
mod warnings;
mod world;

use world::World;

/// Histories in one run of the tests.
const SEEDS: u64 = 100;

#[test]
fn accepted_work_survives_everything() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds: Vec<u64> = match number("AGENTRY_SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("AGENTRY_SIM_SEEDS").unwrap_or(SEEDS)).collect(),
    };
    let mut bitten = world::Bites::default();
    for seed in seeds.iter().copied() {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.live();
            world.heal();
            checks::all(&world);
            world.bites()
        });
        match outcome {
            Ok(bites) => bitten.add(&bites),
            Err(panic) => {
                let why = panic.downcast_ref::<String>().cloned();
                let why = why.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                panic!("seed {seed}: {}", why.unwrap_or_default());
            }
        }
    }
    if seeds.len() > 10 {
        bitten.assert_all_bit();
    }
}
