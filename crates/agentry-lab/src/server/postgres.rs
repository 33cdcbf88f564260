//! PostgreSQL: initdb, then the server itself; durability stays on.

use std::process::Command;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::{STARTS, Server, ServerDir};
use crate::program::executable;
use crate::{LabError, Process};

/// Tests run in parallel processes with a pool each; the default of 100 is too few.
const CONNECTIONS: u32 = 300;

/// Makes its data.
pub(super) async fn prepare(dir: &ServerDir) -> Result<(), LabError> {
    let mut command = dir.command(&binary("initdb")?);
    command.arg("-D").arg(dir.path.join("data"));
    command.args(["-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync"]);
    let mut initdb = Process::start("initdb", &mut command, &dir.log())?;
    let exit = initdb.wait(STARTS).await.ok_or_else(|| initdb.not_ready("does not end"))?;
    if exit.status.success() { Ok(()) } else { Err(initdb.not_ready(&format!("failed ({})", exit.status))) }
}

pub(super) fn command(dir: &ServerDir, port: u16) -> Result<Command, LabError> {
    let mut command = dir.command(&binary("postgres")?);
    command.arg("-D").arg(dir.path.join("data"));
    for setting in [
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        format!("port={port}"),
        format!("max_connections={CONNECTIONS}"),
    ] {
        command.args(["-c", &setting]);
    }
    Ok(command)
}

fn binary(name: &str) -> Result<std::path::PathBuf, LabError> {
    executable(name, &["/usr/lib/postgresql/*/bin"], "postgresql")
}

/// Queries to PostgreSQL. Another server does not understand them, which is an error.
impl Server {
    /// Returns a connection beside those of the platform.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn connect(&self) -> Result<Client, LabError> {
        let url = format!("{}?application_name=observer&connect_timeout=5", self.url());
        let connected = tokio_postgres::connect(&url, NoTls).await;
        let (client, connection) = connected.map_err(|error| LabError::Server(format!("PostgreSQL: {error}")))?;
        // Ends with the client.
        tokio::spawn(connection);
        Ok(client)
    }

    /// Returns the rows of a query, as text, over a connection of its own, which no earlier fault can have broken.
    ///
    /// # Errors
    /// It does not answer, or the query fails.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>, LabError> {
        let messages = self.connect().await?.simple_query(sql).await;
        let messages = messages.map_err(|error| LabError::Server(format!("PostgreSQL: {error} in {sql}")))?;
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows.map(|row| (0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect()).collect())
    }
}
