//! Standard output and standard error: the only place that writes to them.

use std::io::{self, IsTerminal, Write};

use crate::failure::Failure;

/// Writes text to standard output at once.
///
/// # Errors
/// [`Failure::ClosedPipe`] when nobody reads it any more.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Writes a line to standard output at once.
///
/// # Errors
/// [`Failure::ClosedPipe`] when nobody reads it any more.
pub fn line(text: &str) -> Result<(), Failure> {
    print(&format!("{text}\n"))
}

/// Writes text to standard error, ignoring errors.
pub fn eprint(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Returns whether standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Returns whether standard output may be coloured.
pub fn colour_out() -> bool {
    is_terminal() && colour_wanted()
}

/// Returns whether standard error may be coloured.
pub fn colour_err() -> bool {
    io::stderr().is_terminal() && colour_wanted()
}

/// <https://no-color.org>: set and not empty means no.
fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
