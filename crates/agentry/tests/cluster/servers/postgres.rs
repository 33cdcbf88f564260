//! PostgreSQL: initdb, then the server itself; durability stays on.

use std::process::Command;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::{ENDS, Ground, STARTS, free_port, loopback};
use crate::process::{Process, executable, signal, until};

/// Several pools of eight, and connections of ours.
const CONNECTIONS: u32 = 200;

pub struct Postgres {
    ground: Ground,
    pub port: u16,
    pub process: Process,
}

impl Postgres {
    pub async fn start(ground: Ground) -> Self {
        let initdb = binary("initdb");
        let data = ground.dir.join("data");
        let mut prepare = ground.command(&initdb);
        prepare.arg("-D").arg(&data).args(["-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync"]);
        let mut prepare = Process::start(&mut prepare, &ground.log());
        let status = prepare.end(STARTS).await;
        assert!(status.success(), "initdb: {status}\n{}", prepare.tail());
        let port = free_port();
        let process = Process::start(&mut server(&ground, port), &ground.log());
        let mut postgres = Self { ground, port, process };
        postgres.answers().await;
        postgres
    }

    async fn answers(&mut self) {
        until("PostgreSQL to answer", STARTS, async || {
            if let Some(status) = self.process.ended() {
                panic!("PostgreSQL ended by itself ({status}):\n{}", self.process.tail());
            }
            connect(self.port).await.ok()
        })
        .await;
    }

    /// Shuts it down with a signal (INT: fast, QUIT: immediate) and starts it on the same data.
    pub async fn restart(&mut self, signal: &str) {
        self.process.signal(signal);
        self.process.end(ENDS).await;
        self.process = Process::start(&mut server(&self.ground, self.port), &self.ground.log());
        self.answers().await;
    }

    /// Stops the server and all its processes where they are, until the answer is dropped. Connections stay open, and
    /// nobody is told.
    pub fn freeze(&self) -> Frozen {
        self.process.signal("STOP");
        // The postmaster starts no more of them.
        let mut stopped = self.process.children();
        stopped.retain(|child| signal("STOP", *child));
        stopped.push(self.process.id());
        Frozen(stopped)
    }

    /// Rows of a question, as text. On a connection of its own, which no fault of another can have broken.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        let client = connect(self.port).await.unwrap_or_else(|error| panic!("{error}; it was asked: {sql}"));
        let messages = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|row| (0..row.len()).map(|at| row.get(at).unwrap_or_default().to_owned()).collect()).collect()
    }

    /// The number that a question has for an answer.
    pub async fn number(&self, sql: &str) -> i64 {
        let rows = self.rows(sql).await;
        rows[0][0].parse().unwrap_or_else(|_| panic!("no number: {rows:?} for {sql}"))
    }
}

/// Processes that go on when this is dropped, also when a test fails meanwhile: a stopped one would outlive it.
pub struct Frozen(Vec<u32>);

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &self.0 {
            signal("CONT", *process);
        }
    }
}

async fn connect(port: u16) -> Result<Client, tokio_postgres::Error> {
    let address = loopback(port);
    let url = format!("postgres://postgres@{address}/postgres?application_name=observer&connect_timeout=5");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    // Ends with the client.
    tokio::spawn(connection);
    Ok(client)
}

fn binary(name: &str) -> std::path::PathBuf {
    executable(name, &["/usr/lib/postgresql/*/bin"], "postgresql")
}

fn server(ground: &Ground, port: u16) -> Command {
    let mut command = ground.command(&binary("postgres"));
    command.arg("-D").arg(ground.dir.join("data"));
    for setting in [
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".to_owned(),
        format!("port={port}"),
        format!("max_connections={CONNECTIONS}"),
    ] {
        command.args(["-c", &setting]);
    }
    command
}
