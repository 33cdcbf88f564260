//! Redis: a cache, so nothing is written to disk.

use std::collections::BTreeMap;
use std::process::Command;

use super::{Server, ServerDir};
use crate::LabError;
use crate::program::{executable, find_executable};

pub(super) fn command(dir: &ServerDir, port: u16) -> Result<Command, LabError> {
    let server = executable("redis-server", &["/usr/sbin"], "redis-server")
        .or_else(|missing| find_executable("valkey-server", &[]).ok_or(missing))?;
    let mut command = dir.command(&server);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--daemonize", "no"]);
    command.args(["--save", "", "--appendonly", "no"]).arg("--dir").arg(&dir.path);
    Ok(command)
}

/// Commands to Redis. Another server does not understand them: there is no answer.
impl Server {
    /// Sends a command without spaces in its words; returns the line of the answer, or its text when it is a bulk
    /// string.
    pub async fn ask(&self, command: &str) -> Option<String> {
        crate::probe::ask_redis(self.port, command).await
    }

    /// Returns the numbers of a section of `INFO`.
    pub async fn info(&self, section: &str) -> BTreeMap<String, f64> {
        let text = self.ask(&format!("INFO {section}")).await.unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?))).collect()
    }
}
