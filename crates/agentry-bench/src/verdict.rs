//! From figures to verdicts, and from verdicts to tables, one sentence and an exit code. Pure functions.

mod banner;
mod exit;
mod gates;
mod judge;
mod observation;
mod open;
mod tables;

pub use banner::banner;
pub use exit::{NOT_STARTED, exit_code};
pub use gates::{
    LoadKind, fault_proof, floor, harness_cpu, late_sends, negative_latency, sampler_gap, schedule_lag, steal,
};
pub use judge::judge_all;
#[cfg(test)]
pub use judge::{Context, judge, not_run};
pub use observation::{Observation, live_gates};
pub use open::not_proven;
pub use tables::{badness, tiers};

use crate::model::Report;

/// Fills in what follows from the criteria: tables, advice, what stays open, the exit code.
pub fn finish(report: &mut Report, has_started: bool) {
    report.tiers = tiers(report);
    report.advice = crate::advice::advise(report);
    report.not_proven = not_proven(report);
    report.run.exit = exit_code(report, has_started);
}
