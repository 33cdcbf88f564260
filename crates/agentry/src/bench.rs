//! `agentry bench`: hands over to the validation suite and says what it came to.

use agentry_bench::cli::{Bench, dispatch};

use crate::failure::Failure;
use crate::out;

/// Does what was asked of the suite.
///
/// # Errors
/// With the exit code of the verdict, or what could not be done.
pub fn bench(command: &Bench) -> Result<(), Failure> {
    match dispatch(command) {
        Ok(outcome) => {
            out::print(&outcome.text)?;
            if outcome.exit == 0 { Ok(()) } else { Err(Failure::Verdict(outcome.exit)) }
        }
        Err(error) => {
            let failure = if error.exit == 2 { Failure::usage(error.message) } else { Failure::new(error.message) };
            let failure = error.help.into_iter().fold(failure, |failure, help| failure.help(help));
            match error.exit {
                1 | 2 => Err(failure),
                code => {
                    out::complain(&failure.text(out::colour_err()).unwrap_or_default());
                    Err(Failure::Verdict(code))
                }
            }
        }
    }
}
