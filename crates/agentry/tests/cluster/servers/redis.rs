//! Redis: a cache, so nothing is written to disk.

use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Ground, STARTS, free_port, loopback};
use crate::process::{Process, executable, until};

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

pub struct Redis {
    ground: Ground,
    pub port: u16,
    pub process: Process,
}

impl Redis {
    pub async fn start(ground: Ground) -> Self {
        let port = free_port();
        let process = Process::start(&mut server(&ground, port), &ground.log());
        let mut redis = Self { ground, port, process };
        redis.answers().await;
        redis
    }

    /// Starts it again, with nothing in it.
    pub async fn start_again(&mut self) {
        self.process = Process::start(&mut server(&self.ground, self.port), &self.ground.log());
        self.answers().await;
    }

    /// Sends a command without spaces in its words; the first line of the answer.
    pub async fn ask(&self, command: &str) -> Option<String> {
        let ask = async {
            let mut stream = TcpStream::connect(loopback(self.port)).await.ok()?;
            stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).await.ok()?;
            Some(line.trim().to_owned())
        };
        timeout(ANSWER, ask).await.ok().flatten()
    }

    async fn answers(&mut self) {
        until("Redis to answer", STARTS, async || {
            if let Some(status) = self.process.ended() {
                panic!("Redis ended by itself ({status}):\n{}", self.process.tail());
            }
            self.ask("PING").await.filter(|answer| answer == "+PONG")
        })
        .await;
    }
}

fn server(ground: &Ground, port: u16) -> Command {
    let mut command = ground.command(&executable("redis-server", &["/usr/sbin"], "redis-server"));
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--daemonize", "no"]);
    command.args(["--save", "", "--appendonly", "no"]).arg("--dir").arg(&ground.dir);
    command
}
