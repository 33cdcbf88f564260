//! From figures to verdicts, and from verdicts to tables, one sentence and an exit code. Pure functions.

mod banner;
mod exit;
mod gates;
mod judge;
mod open;
mod tables;

pub use banner::{Banner, banner};
pub use exit::{Exit, FailOn, Policy, exit_code};
pub use gates::{fault_proof, floor, harness_cpu, late_sends, negative_latency, sampler_gap, schedule_lag, steal};
pub use judge::{Context, NEEDS_LIVE, Observation, judge, not_run};
pub use open::not_proven;
pub use tables::tiers;

use crate::model::Report;

/// Fills in what follows from the criteria: tables, advice, what stays open, the exit code.
pub fn finish(report: &mut Report, policy: &Policy) {
    report.tiers = tiers(report);
    report.advice = crate::advice::advise(report);
    report.not_proven = not_proven(report);
    report.run.exit = exit_code(report, policy).code();
}
