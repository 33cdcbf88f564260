//! The transport over the standard input and output of a process.
//!
//! Ours instead of the SDK's because of what servers do: a result of any size is cut while it is read, and what is no
//! JSON-RPC on standard output (a banner, a stray print) is passed over up to a bound.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::child::{self, Process};
use crate::lines::{Line, Lines, too_long};
use crate::notes::Notes;
use crate::server::Program;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// How long is waited for what a program wrote just before it ended.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Lines that are no JSON-RPC before the server is given up.
const MAX_GARBAGE_LINES: u32 = 1_000;

/// A server's process and its pipes.
pub(crate) struct Stdio {
    server: String,
    notes: Arc<Notes>,
    stdin: Arc<Mutex<Option<ChildStdin>>>,
    stdout: BufReader<ChildStdout>,
    lines: Lines,
    garbage: u32,
    process: Process,
}

impl Stdio {
    /// Starts the program.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn start(program: &Program, server: &str, notes: Arc<Notes>) -> Result<Self, String> {
        let (process, stdin, stdout) = child::start(program, server, &notes)?;
        Ok(Self {
            server: server.to_owned(),
            notes,
            stdin: Arc::new(Mutex::new(Some(stdin))),
            stdout: BufReader::with_capacity(READ_BYTES, stdout),
            lines: Lines::default(),
            garbage: 0,
            process,
        })
    }

    /// The message of a line that has ended; `None` when there is none in it.
    fn message(&mut self, line: Line) -> Option<RxJsonRpcMessage<RoleClient>> {
        let message = match line {
            Line::TooLong(id) => {
                tracing::warn!(server = %self.server, "an MCP server sent a message that is too long; it was dropped");
                id.and_then(|id| serde_json::from_value(too_long(&id)).ok())
            }
            Line::Whole if self.lines.line().is_empty() => None,
            Line::Whole => {
                let parsed = serde_json::from_slice(self.lines.line());
                if let Err(error) = &parsed {
                    self.garbage += 1;
                    tracing::debug!(server = %self.server, %error, "a line of an MCP server is no message of the protocol");
                }
                parsed.ok()
            }
        };
        self.lines.next();
        message
    }
}

impl Transport<RoleClient> for Stdio {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let stdin = Arc::clone(&self.stdin);
        let line = serde_json::to_vec(&item);
        async move {
            let mut line = line?;
            line.push(b'\n');
            let mut stdin = stdin.lock().await;
            let pipe = stdin.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
            pipe.write_all(&line).await?;
            pipe.flush().await
        }
    }

    /// Safe to be dropped and called again: bytes are consumed only together with their way into the line.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let available = tokio::select! {
                biased;
                available = self.stdout.fill_buf() => available,
                // What it started may keep its pipe open for ever; what it said itself is there by now.
                () = self.process.ended() => match timeout(LAST_WORDS, self.stdout.fill_buf()).await {
                    Ok(available) => available,
                    Err(_) => Ok([].as_slice()),
                },
            };
            let (consumed, ended) = match available {
                Ok([]) => {
                    self.notes.fault("the server ended or closed its standard output");
                    return None;
                }
                Ok(available) => self.lines.push(available),
                Err(error) => {
                    self.notes.fault(&format!("its standard output cannot be read: {error}"));
                    return None;
                }
            };
            self.stdout.consume(consumed);
            if let Some(message) = ended.and_then(|line| self.message(line)) {
                return Some(message);
            }
            if self.garbage > MAX_GARBAGE_LINES {
                self.notes.fault("it writes text that is no JSON-RPC to its standard output");
                return None;
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        // A write that hangs keeps the pipe; then the process is asked to end without it.
        if let Ok(mut stdin) = self.stdin.try_lock() {
            stdin.take();
        }
        self.process.end().await;
        Ok(())
    }
}
