//! A simulator as a process that ends with its test.

use std::process::{Command, Stdio};

use crate::support::{Server, agentry};

/// Starts a simulator on a free port and waits until it listens.
pub fn start(args: &[&str]) -> Server {
    let mut command = agentry(&std::env::temp_dir());
    Server::spawn(command.args(args).args(["--listen", "127.0.0.1:0"]).stderr(Stdio::inherit()))
}

/// Ends it by this signal and waits for its end.
pub fn end(simulator: Server, signal: &str) {
    let sent = Command::new("kill").args([signal, &simulator.pid()]).status().unwrap();
    assert!(sent.success(), "kill {signal} failed");
    simulator.wait();
}
