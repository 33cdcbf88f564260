//! `agentry-mutant`: the program with one promise of the platform broken. `MUTANT` names the promise; without it the
//! program is unchanged.
//!
//! A checker that has never failed is no evidence. The tests of this crate run the validation suite with each mutant
//! and require that the scenario which should notice it does. The shipped binary contains none of this.

mod broken;
mod interval;
mod mutant;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use mutant::Mutant;

/// Exit code of a usage error, the same as the program's.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match Mutant::of_environment() {
        Ok(None) => {}
        Ok(Some(_)) => agentry::set_store_layer(|inner| match Mutant::of_environment() {
            Ok(Some(mutant)) => Arc::new(broken::Store::new(inner, mutant)),
            _ => inner,
        }),
        Err(error) => {
            // There is no other place to report it.
            let _ = writeln!(std::io::stderr().lock(), "error: {error}");
            return ExitCode::from(USAGE);
        }
    }
    agentry::main()
}
