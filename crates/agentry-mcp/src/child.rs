//! The process of a server over stdio: its environment, its standard error, and its end.
//!
//! The process leads a process group of its own, and the whole group is ended: servers are often started by a launcher
//! (npx, uv, a shell), and killing the launcher alone would leave the server behind.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::ExposeSecret;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::diagnostics::Diagnostics;
use crate::server::{Program, Unavailable};

/// Variables of this process that a server gets. Others, such as provider keys, are withheld.
const INHERITED_VARIABLES: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];
/// Time for a server to end after its standard input is closed, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// Longest line of standard error that is logged, in bytes.
const MAX_LINE_BYTES: usize = 1024;
/// Logged lines of standard error per connection; further ones are read and dropped.
const MAX_LOGGED_LINES: u32 = 500;

/// A running server; dropping it kills its process group.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    group: Option<Pid>,
    stderr: Option<JoinHandle<()>>,
}

/// Starts the program and returns its pipes as well.
///
/// # Errors
/// The program cannot be started.
pub(crate) fn start(
    program: &Program,
    server: &str,
    diagnostics: &Arc<Diagnostics>,
) -> Result<(Process, ChildStdin, ChildStdout), Unavailable> {
    let mut words = program.command.iter().map(ExposeSecret::expose_secret);
    let name = words.next().ok_or_else(|| Unavailable::from("its command is empty".to_owned()))?;
    let mut command = Command::new(name);
    command.args(words).env_clear().process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(INHERITED_VARIABLES.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
    command.envs(program.environment.iter().map(|(name, value)| (name, value.expose_secret())));
    let mut child = command.spawn().map_err(|error| {
        let hint = if error.kind() == std::io::ErrorKind::NotFound { "; is it installed and on the PATH?" } else { "" };
        Unavailable::from(diagnostics.mask(&format!("cannot start `{name}`: {error}{hint}")))
    })?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).unwrap_or(0)));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let stderr = stderr.map(|stderr| tokio::spawn(listen(stderr, server.to_owned(), Arc::clone(diagnostics))));
    let process = Process { child, group, stderr };
    match (stdin, stdout) {
        (Some(stdin), Some(stdout)) => Ok((process, stdin, stdout)),
        _ => Err("its standard input and output cannot be used".to_owned().into()),
    }
}

impl Process {
    /// Waits until the program has ended. Its children may live on and keep its pipes open.
    pub async fn ended(&mut self) {
        // An error means that the child no longer exists.
        let _ = self.child.wait().await;
    }

    /// Ends the program after its standard input was closed: waits, then sends SIGTERM, then kills it.
    pub async fn end(&mut self) {
        if timeout(GRACE, self.child.wait()).await.is_err() {
            self.signal(Signal::TERM);
            // It is killed below in any case.
            let _ = timeout(GRACE, self.child.wait()).await;
        }
        self.kill();
        let _ = self.child.wait().await;
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // A missing group has already ended.
            let _ = kill_process_group(group, signal);
        }
    }

    fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.group = None;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if let Some(stderr) = self.stderr.take() {
            stderr.abort();
        }
    }
}

/// Reads standard error to its end, so that the server never blocks on it; logs and stores lines within bounds.
async fn listen(mut stderr: ChildStderr, server: String, diagnostics: Arc<Diagnostics>) {
    let mut chunk = [0_u8; 4096];
    let mut line = Vec::with_capacity(MAX_LINE_BYTES);
    let mut logged = 0;
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        for &byte in &chunk[..read] {
            if byte == b'\n' {
                log_line(&server, &diagnostics, &line, &mut logged);
                line.clear();
            } else if line.len() < MAX_LINE_BYTES {
                line.push(byte);
            }
        }
    }
    log_line(&server, &diagnostics, &line, &mut logged);
}

fn log_line(server: &str, diagnostics: &Diagnostics, line: &[u8], logged: &mut u32) {
    let text = String::from_utf8_lossy(line);
    let text: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.is_empty() {
        return;
    }
    let line = diagnostics.record_line(&text);
    if *logged < MAX_LOGGED_LINES {
        tracing::debug!(%server, %line, "MCP server stderr");
    } else if *logged == MAX_LOGGED_LINES {
        tracing::debug!(%server, "MCP server stderr is no longer logged because there is too much of it");
    }
    *logged = logged.saturating_add(1);
}
