//! A simulator as a process that ends with its test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A running simulator; killed when dropped.
pub struct Simulator {
    child: Child,
    /// Where it listens.
    pub url: String,
}

impl Simulator {
    /// Starts it on a free port and waits until it listens.
    pub fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentry"));
        command.args(args).args(["--listen", "127.0.0.1:0"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("no address: {line:?}"));
        Self { url: url.to_owned(), child }
    }

    /// Ends it by this signal and waits for its end.
    pub fn end(mut self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "kill {signal} failed");
        self.child.wait().unwrap();
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
