//! `agentry bench`: prints what a verb of the validation suite came to, and ends with its exit code.

use agentry_bench::cli::{Bench, BenchError, Outcome, dispatch};

use crate::failure::Failure;
use crate::out;

/// Runs a verb of the suite.
pub fn bench(command: &Bench) -> Result<(), Failure> {
    ended(dispatch(command))
}

/// Says what a verb came to.
pub fn ended(result: Result<Outcome, BenchError>) -> Result<(), Failure> {
    match result {
        Ok(outcome) => {
            out::print(&outcome.text)?;
            if outcome.exit == 0 { Ok(()) } else { Err(Failure::Ended(outcome.exit)) }
        }
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: BenchError) -> Failure {
    let failure = if error.exit == 2 { Failure::usage(error.message) } else { Failure::new(error.message) };
    let failure = match error.help {
        Some(help) => failure.help(help),
        None => failure,
    };
    if matches!(error.exit, 1 | 2) {
        return failure;
    }
    out::eprint(&failure.text(out::colour_err()).unwrap_or_default());
    Failure::Ended(error.exit)
}
