//! The invariants, checked against the store after a history. A failure begins with the name of its invariant.

mod calls;
mod deliveries;
mod ledger;
mod sessions;
mod tasks;
mod tools;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::records::Records;
use crate::stage::{Stage, runtime};

/// Checks all invariants, even after one that does not hold. Returns the records.
pub fn all(stage: &Stage) -> Records {
    let records = runtime().block_on(Records::read(stage));
    let known = &records;
    let checks: [&dyn Fn(); 12] = [
        &|| tasks::every_accepted_task_ended_once(stage, known),
        &|| tasks::journals_have_no_gaps(known),
        &|| calls::no_turn_was_bought_twice(stage, known),
        &|| runtime().block_on(sessions::are_linear(stage, known)),
        &|| runtime().block_on(deliveries::slots_fired_once(stage, known)),
        &|| deliveries::callbacks_arrived(stage, known),
        &|| deliveries::events_started_one_task_each(known),
        &|| ledger::rows_are_the_calls_of_the_provider(stage, known),
        &|| runtime().block_on(ledger::sums_equal_rows(stage, known)),
        &|| tools::keys_name_one_call(stage),
        &|| tools::calls_are_bounded_and_intended(stage, known),
        &|| tools::models_are_told_the_truth(stage, known),
    ];
    for check in checks {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(check)) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let text = text.unwrap_or_else(|| "[other] a check panicked".to_owned());
            // An `assert_eq` prints its own text before the name of the invariant.
            let named = text.find('[').map_or(text.as_str(), |from| &text[from..]);
            stage.violation(named.to_owned());
        }
    }
    records
}
