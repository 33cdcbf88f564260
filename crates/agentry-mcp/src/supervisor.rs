//! The supervisor of a server: it connects on first use, reconnects with backoff after failures, and remembers the
//! tools meanwhile.
//!
//! There is no background task: an unused server costs nothing, and callers of a used one maintain it, one at a time.
//! The delays are computed by hand: a retry loop of a crate would need a task that waits, while here the next call
//! checks whether the delay has passed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::Connection;
use crate::server::{McpCall, McpError, McpOutput, McpTool, Server, Snapshot, Unavailable};

/// First delay before a failed server is tried again; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Connection lifetime after which the next failure counts as the first.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// Returns the address of a server at the time of connecting, when credentials are read.
pub type ServerSource = Box<dyn Fn() -> Result<Server, Unavailable> + Send + Sync>;

/// One server, shared by all agents that name it.
pub struct McpServer {
    name: String,
    patience: Duration,
    source: ServerSource,
    /// Held by the caller that connects or lists tools; the others wait for its result.
    connect_lock: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<Arc<Connection>>,
    tools: Option<Arc<Vec<McpTool>>>,
    trouble: Option<String>,
    failures: u32,
    not_before: Option<Instant>,
}

impl fmt::Debug for McpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpServer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl McpServer {
    /// Creates a server without a connection. `name` is its name in logs; `patience` is the timeout for starting and
    /// the handshake.
    #[must_use]
    pub fn new(name: &str, patience: Duration, source: ServerSource) -> Self {
        Self {
            name: name.to_owned(),
            patience,
            source,
            connect_lock: tokio::sync::Mutex::default(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the known state without a request.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        Snapshot { tools: state.tools.clone(), trouble: state.trouble.clone() }
    }

    /// Returns the state after a request where needed: connects when there is no connection and no backoff, and lists
    /// the tools when they have changed.
    pub async fn tools(&self) -> Snapshot {
        if let Ok(connection) = self.connected().await
            && connection.take_stale()
        {
            let _turn = self.connect_lock.lock().await;
            match connection.list().await {
                Ok(tools) => self.state().tools = Some(Arc::new(tools)),
                Err(reason) => {
                    tracing::warn!(server = %self.name, %reason, "MCP server: cannot list the changed tools");
                    self.failed(&connection, reason.to_string());
                }
            }
        }
        self.snapshot()
    }

    /// Calls a tool once, connecting first where needed. Dropping the future cancels the call on the server.
    ///
    /// # Errors
    /// See [`McpError`].
    pub async fn call(&self, call: McpCall<'_>) -> Result<McpOutput, McpError> {
        let connection = self.connected().await.map_err(|reason| McpError::Unavailable(reason.to_string()))?;
        let result = connection.call(call).await;
        match &result {
            Err(McpError::Unavailable(reason)) => self.failed(&connection, reason.clone()),
            Err(McpError::Unknown(reason)) if connection.is_closed() => self.failed(&connection, reason.clone()),
            _ => {}
        }
        result
    }

    /// Closes the connection, if there is one; the next use opens a new one.
    pub async fn close(&self) {
        let live = self.state().live.take();
        if let Some(connection) = live.and_then(Arc::into_inner) {
            connection.close().await;
        }
    }

    async fn connected(&self) -> Result<Arc<Connection>, Unavailable> {
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        let _turn = self.connect_lock.lock().await;
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        if let Some(reason) = self.waiting() {
            return Err(reason.into());
        }
        match self.connect().await {
            Ok((connection, tools)) => {
                tracing::info!(server = %self.name, tools = tools.len(), "MCP server connected");
                let connection = Arc::new(connection);
                let mut state = self.state();
                state.live = Some(Arc::clone(&connection));
                state.tools = Some(Arc::new(tools));
                (state.trouble, state.not_before) = (None, None);
                Ok(connection)
            }
            Err(reason) => {
                tracing::warn!(server = %self.name, %reason, "MCP server unavailable");
                self.note_failure(&mut self.state(), reason.to_string());
                Err(reason)
            }
        }
    }

    async fn connect(&self) -> Result<(Connection, Vec<McpTool>), Unavailable> {
        let connection = Connection::open(&self.name, &(self.source)()?, self.patience).await?;
        let tools = connection.list().await?;
        connection.take_stale();
        Ok((connection, tools))
    }

    fn live(&self) -> Option<Arc<Connection>> {
        let connection = self.state().live.clone()?;
        if !connection.is_closed() {
            return Some(connection);
        }
        self.failed(&connection, connection.explain("the connection was lost"));
        None
    }

    /// Returns the reason for not connecting now.
    fn waiting(&self) -> Option<String> {
        let state = self.state();
        let wait = state.not_before?.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero())?;
        let reason = state.trouble.as_deref().unwrap_or("it failed");
        Some(format!("{reason} (tried again in {} s at the earliest)", wait.as_secs() + 1))
    }

    /// Records that this connection failed. Further reports about it change nothing.
    fn failed(&self, connection: &Arc<Connection>, reason: String) {
        let mut state = self.state();
        if !state.live.as_ref().is_some_and(|live| Arc::ptr_eq(live, connection)) {
            return;
        }
        state.live = None;
        if connection.since.elapsed() >= STABLE_AFTER {
            // It lasted long, so it is tried again at once.
            (state.failures, state.not_before) = (0, None);
            state.trouble = Some(reason);
            return;
        }
        self.note_failure(&mut state, reason);
    }

    fn note_failure(&self, state: &mut State, reason: String) {
        let wait = FIRST_WAIT.saturating_mul(1 << state.failures.min(6)).min(MAX_WAIT);
        state.failures = state.failures.saturating_add(1);
        state.not_before = Some(Instant::now() + wait);
        state.trouble = Some(reason);
    }
}
