//! What a person sees while it runs: on a terminal one line that is written over, else plain lines.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Characters of a terminal line that are cleared.
const WIDTH: usize = 100;

/// Says on standard error how far it is; standard output belongs to the result.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    quiet: bool,
    began: Instant,
    current: String,
}

impl Default for Progress {
    fn default() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { terminal, quiet: false, began: Instant::now(), current: String::new() }
    }
}

impl Progress {
    /// Says nothing.
    #[must_use]
    pub fn quiet() -> Self {
        Self { quiet: true, ..Self::default() }
    }

    /// A new part begins.
    pub fn begin(&mut self, what: &str) {
        what.clone_into(&mut self.current);
        self.began = Instant::now();
        if self.terminal {
            self.line(&format!("{what} …"));
        }
    }

    /// How it goes; only a terminal shows it.
    pub fn tick(&mut self, how: &str) {
        if self.terminal {
            self.line(&format!("{}  {how}  {:.0} s", self.current, self.began.elapsed().as_secs_f64()));
        }
    }

    /// The part has ended; this stays.
    pub fn end(&mut self, how: &str) {
        if self.terminal {
            self.line("");
        }
        let seconds = self.began.elapsed().as_secs_f64();
        self.write(&format!("{:<20}{how}  {seconds:.1} s\n", self.current));
    }

    /// A sentence that stays.
    pub fn say(&mut self, text: &str) {
        if self.terminal {
            self.line("");
        }
        self.write(&format!("{text}\n"));
    }

    fn line(&self, text: &str) {
        let cut: String = text.chars().take(WIDTH).collect();
        self.write(&format!("\r{cut:<WIDTH$}\r{cut}"));
    }

    fn write(&self, text: &str) {
        if !self.quiet {
            // There is nowhere to say that this failed.
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        }
    }
}
