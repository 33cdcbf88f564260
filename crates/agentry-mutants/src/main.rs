//! `agentry-mutant`: the program with one promise of the platform broken, which `MUTANT` names; without it nothing is.
//!
//! A checker that has never failed is no evidence. The tests of this crate run the validation suite with each mutant and
//! demand that the scenario which should notice does. The shipped binary knows nothing of this.

mod broken;
mod interval;
mod mutant;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use mutant::Mutant;

/// Exit code of wrong use, as the program itself has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match Mutant::of_environment() {
        Ok(None) => {}
        Ok(Some(_)) => agentry::set_store_layer(|inner| match Mutant::of_environment() {
            Ok(Some(mutant)) => Arc::new(broken::Store::new(inner, mutant)),
            _ => inner,
        }),
        Err(error) => {
            // There is nowhere else to say it.
            let _ = writeln!(std::io::stderr().lock(), "error: {error}");
            return ExitCode::from(USAGE);
        }
    }
    agentry::main()
}
