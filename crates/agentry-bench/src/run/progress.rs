//! Progress of a run: on a terminal one line that is written over, else plain lines.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Width of a terminal line that is cleared, in characters.
const WIDTH: usize = 100;

/// Reports progress on standard error; standard output belongs to the result.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    began: Instant,
    current: String,
}

impl Default for Progress {
    fn default() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { terminal, began: Instant::now(), current: String::new() }
    }
}

impl Progress {
    /// Starts a part.
    pub fn begin(&mut self, what: &str) {
        what.clone_into(&mut self.current);
        self.began = Instant::now();
        if self.terminal {
            self.line(&format!("{what} …"));
        }
    }

    /// Shows progress within the part; only on a terminal.
    pub fn tick(&mut self, how: &str) {
        if self.terminal {
            self.line(&format!("{}  {how}  {:.0} s", self.current, self.began.elapsed().as_secs_f64()));
        }
    }

    /// Ends the part with a line that stays.
    pub fn end(&mut self, how: &str) {
        if self.terminal {
            self.line("");
        }
        let seconds = self.began.elapsed().as_secs_f64();
        self.write(&format!("{:<20}{how}  {seconds:.1} s\n", self.current));
    }

    /// Prints a line that stays.
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
        // There is nowhere to say that this failed.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}
