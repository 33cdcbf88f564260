//! Redis: a cache, so nothing is written to disk.

use std::path::Path;

use anyhow::Result;

use super::missing;
use crate::place::executable;
use crate::process::{self, Process};
use crate::services::ground::Ground;

pub fn start(ground: &Ground, port: u16, log: &Path) -> Result<Vec<Process>> {
    let server = executable("redis-server", &["/usr/sbin".into()])
        .or_else(|| executable("valkey-server", &[]))
        .ok_or_else(|| missing("redis-server", "/usr/sbin"))?;
    let mut command = ground.command(&server);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--daemonize", "no"]);
    command.args(["--save", "", "--appendonly", "no"]).arg("--dir").arg(&ground.dir);
    Ok(vec![process::start(&mut command, log)?])
}
