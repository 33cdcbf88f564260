//! The transport over standard input and output of a process.
//!
//! It replaces the SDK's transport because of what servers do: results of any size are truncated while they are read,
//! and output that is not JSON-RPC (a banner, a stray print) is skipped up to a bound.

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
use crate::diagnostics::Diagnostics;
use crate::lines::{Line, Lines, too_long};
use crate::server::{Program, Unavailable};

const READ_BYTES: usize = 64 * 1024;
/// Time for output that a program wrote just before it ended.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);
/// Lines that are not JSON-RPC after which the server is given up.
const MAX_GARBAGE_LINES: u32 = 1_000;

pub(crate) struct Stdio {
    server: String,
    diagnostics: Arc<Diagnostics>,
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
    /// The program cannot be started.
    pub fn start(program: &Program, server: &str, diagnostics: Arc<Diagnostics>) -> Result<Self, Unavailable> {
        let (process, stdin, stdout) = child::start(program, server, &diagnostics)?;
        Ok(Self {
            server: server.to_owned(),
            diagnostics,
            stdin: Arc::new(Mutex::new(Some(stdin))),
            stdout: BufReader::with_capacity(READ_BYTES, stdout),
            lines: Lines::default(),
            garbage: 0,
            process,
        })
    }

    /// Returns the message of a complete line; `None` when it has none.
    fn message(&mut self, line: Line) -> Option<RxJsonRpcMessage<RoleClient>> {
        let message = match line {
            Line::TooLong(id) => {
                tracing::warn!(server = %self.server, "MCP server sent an oversized message, which was dropped");
                id.and_then(|id| serde_json::from_value(too_long(&id)).ok())
            }
            Line::Whole if self.lines.line().is_empty() => None,
            Line::Whole => {
                let parsed = serde_json::from_slice(self.lines.line());
                if let Err(error) = &parsed {
                    self.garbage += 1;
                    tracing::debug!(server = %self.server, %error, "MCP server wrote a line that is not JSON-RPC");
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

    /// Cancel safe: bytes are consumed only when they are added to the line.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let available = tokio::select! {
                biased;
                available = self.stdout.fill_buf() => available,
                // Children may keep the pipe open for ever; the program's own output has arrived by now.
                () = self.process.ended() => match timeout(OUTPUT_GRACE, self.stdout.fill_buf()).await {
                    Ok(available) => available,
                    Err(_) => Ok([].as_slice()),
                },
            };
            let (consumed, ended) = match available {
                Ok([]) => {
                    self.diagnostics.record_fault("the server ended or closed its standard output");
                    return None;
                }
                Ok(available) => self.lines.push(available),
                Err(error) => {
                    self.diagnostics.record_fault(&format!("its standard output cannot be read: {error}"));
                    return None;
                }
            };
            self.stdout.consume(consumed);
            if let Some(message) = ended.and_then(|line| self.message(line)) {
                return Some(message);
            }
            if self.garbage > MAX_GARBAGE_LINES {
                self.diagnostics.record_fault("it writes text that is no JSON-RPC to its standard output");
                return None;
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        // A blocked write holds the pipe; then the process is ended without closing it.
        if let Ok(mut stdin) = self.stdin.try_lock() {
            stdin.take();
        }
        self.process.end().await;
        Ok(())
    }
}
