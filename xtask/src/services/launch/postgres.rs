//! PostgreSQL: initdb, then the server itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::missing;
use crate::place::{executable, versions_in};
use crate::process::{self, Process, output_within};
use crate::services::ground::Ground;

/// initdb takes about 2 s; a busy disk makes it slow.
const INITDB: Duration = Duration::from_secs(120);
/// Tests run in parallel processes with a pool each; the default of 100 is too few.
const CONNECTIONS: u32 = 300;

pub fn start(ground: &Ground, port: u16, log: &Path) -> Result<Vec<Process>> {
    let folders: Vec<PathBuf> =
        versions_in("/usr/lib/postgresql", "").into_iter().map(|version| version.join("bin")).collect();
    let find = |name| executable(name, &folders).ok_or_else(|| missing(name, "/usr/lib/postgresql/*/bin"));
    let (initdb, server) = (find("initdb")?, find("postgres")?);
    let data = ground.dir.join("data");
    let mut prepare = ground.command(&initdb);
    prepare.arg("-D").arg(&data).args(["-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync"]);
    output_within(&mut prepare, INITDB).context("the database folder cannot be made")?;

    let mut command = ground.command(&server);
    command.arg("-D").arg(&data);
    // Durability stays on: tests and figures are of what is shipped.
    for setting in [
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        format!("port={port}"),
        format!("max_connections={CONNECTIONS}"),
    ] {
        command.args(["-c", &setting]);
    }
    Ok(vec![process::start(&mut command, log)?])
}
