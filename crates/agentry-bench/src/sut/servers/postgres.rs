//! PostgreSQL: initdb, then the server itself; durability stays on.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::{ENDS, Ground, STARTS, executable, free_port, loopback};
use crate::sut::SutError;
use crate::sut::child::{Child, until};

/// Several pools of eight, and connections of ours.
const CONNECTIONS: u32 = 200;
/// How long a connection may take: the server is on this machine.
const CONNECT: Duration = Duration::from_secs(5);

/// A PostgreSQL of the run's own.
pub struct Postgres {
    ground: Ground,
    /// Its port.
    pub port: u16,
    /// Its first process.
    pub process: Child,
}

impl Postgres {
    /// Makes its data and starts it.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start(ground: Ground) -> Result<Self, SutError> {
        let initdb = binary("initdb")?;
        let data = ground.dir.join("data");
        let mut prepare = ground.command(&initdb);
        prepare.arg("-D").arg(&data).args(["-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync"]);
        let mut prepare = Child::start("initdb", &mut prepare, &ground.log())?;
        let ended = prepare.wait(STARTS).await.ok_or_else(|| prepare.not_ready("does not end"))?;
        if !ended.status.success() {
            return Err(prepare.not_ready(&format!("failed ({})", ended.status)));
        }
        let port = free_port()?;
        let process = Child::start("PostgreSQL", &mut server(&ground, port)?, &ground.log())?;
        let mut postgres = Self { ground, port, process };
        postgres.answers().await?;
        Ok(postgres)
    }

    async fn answers(&mut self) -> Result<(), SutError> {
        let port = self.port;
        until("PostgreSQL to answer", STARTS, async || match self.process.must_run() {
            Ok(()) => connect(port).await.ok().map(|_| Ok(())),
            Err(error) => Some(Err(error)),
        })
        .await?
    }

    /// Ends it with a signal: INT is its fast shutdown, QUIT the immediate one, KILL a crash.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&mut self, signal: Signal) -> Result<(), SutError> {
        self.process.signal(signal)?;
        self.process.wait(ENDS).await.map(|_| ()).ok_or_else(|| self.process.not_ready("does not end"))
    }

    /// Starts it again on its data.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_again(&mut self) -> Result<(), SutError> {
        self.process = Child::start("PostgreSQL", &mut server(&self.ground, self.port)?, &self.ground.log())?;
        self.answers().await
    }

    /// A connection for questions of ours.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connect(&self) -> Result<Client, SutError> {
        connect(self.port).await.map_err(|error| SutError::Server(format!("PostgreSQL: {error}")))
    }

    /// Rows of a question, as text.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>, SutError> {
        rows(&self.connect().await?, sql).await
    }
}

/// Rows of a question on a connection, as text.
///
/// # Errors
/// When it does not answer.
pub async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<String>>, SutError> {
    let failed = |error| SutError::Server(format!("PostgreSQL: {error} in {sql}"));
    let messages = client.simple_query(sql).await.map_err(failed)?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(rows.map(|row| (0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect()).collect())
}

async fn connect(port: u16) -> Result<Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    let address = loopback(port);
    config.hostaddr(address.ip()).port(port).user("postgres").dbname("postgres");
    config.application_name("agentry bench").connect_timeout(CONNECT);
    let (client, connection) = config.connect(NoTls).await?;
    // Ends with the client.
    tokio::spawn(connection);
    Ok(client)
}

fn binary(name: &str) -> Result<std::path::PathBuf, SutError> {
    executable(name, &["/usr/lib/postgresql/*/bin"], "postgresql")
}

fn server(ground: &Ground, port: u16) -> Result<Command, SutError> {
    let mut command = ground.command(&binary("postgres")?);
    command.arg("-D").arg(ground.dir.join("data"));
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
