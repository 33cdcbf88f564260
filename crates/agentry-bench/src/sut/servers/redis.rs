//! Redis: a cache, so nothing is written to disk.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Ground, STARTS, executable, free_port, loopback};
use crate::sut::SutError;
use crate::sut::child::{Child, until};

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// A Redis of the run's own.
pub struct Redis {
    ground: Ground,
    /// Its port.
    pub port: u16,
    /// Its process.
    pub process: Child,
}

impl Redis {
    /// Starts it, empty.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start(ground: Ground) -> Result<Self, SutError> {
        let port = free_port()?;
        let process = Child::start("Redis", &mut server(&ground, port)?, &ground.log())?;
        let mut redis = Self { ground, port, process };
        redis.answers().await?;
        Ok(redis)
    }

    /// Starts it again, with nothing in it.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_again(&mut self) -> Result<(), SutError> {
        self.process = Child::start("Redis", &mut server(&self.ground, self.port)?, &self.ground.log())?;
        self.answers().await
    }

    async fn answers(&mut self) -> Result<(), SutError> {
        let port = self.port;
        until("Redis to answer", STARTS, async || match self.process.must_run() {
            Ok(()) => ask(port, "PING").await.filter(|answer| answer == "+PONG").map(|_| Ok(())),
            Err(error) => Some(Err(error)),
        })
        .await?
    }

    /// Sends a command without spaces in its words; the answer's line, or its text when it is a bulk string.
    pub async fn ask(&self, command: &str) -> Option<String> {
        ask(self.port, command).await
    }

    /// The numbers of a section of `INFO`.
    pub async fn info(&self, section: &str) -> BTreeMap<String, f64> {
        let text = self.ask(&format!("INFO {section}")).await.unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?))).collect()
    }
}

async fn ask(port: u16, command: &str) -> Option<String> {
    let ask = async {
        let mut stream = TcpStream::connect(loopback(port)).await.ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).await.ok()?;
        let line = line.trim().to_owned();
        let Some(length) = line.strip_prefix('$') else { return Some(line) };
        let length = length.parse::<usize>().ok().filter(|length| *length <= MAX_ANSWER)?;
        let mut text = vec![0; length];
        reader.read_exact(&mut text).await.ok()?;
        String::from_utf8(text).ok()
    };
    timeout(ANSWER, ask).await.ok().flatten()
}

fn server(ground: &Ground, port: u16) -> Result<Command, SutError> {
    let mut command = ground.command(&executable("redis-server", &["/usr/sbin"], "redis-server")?);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--daemonize", "no"]);
    command.args(["--save", "", "--appendonly", "no"]).arg("--dir").arg(&ground.dir);
    Ok(command)
}
