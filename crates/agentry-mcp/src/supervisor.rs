//! Keeps a server usable: connects when it is first needed, again when it was lost, less and less often while it does
//! not answer, and remembers its tools meanwhile.
//!
//! There is no task that watches: a server that nobody needs costs nothing, and one that is needed is looked after by
//! those who need it, one at a time.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::connection::Connection;
use crate::server::{McpCall, McpError, McpOutput, McpTool, Server, Snapshot};

/// The first wait before a server that failed is tried again; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// A connection that lasted this long counts as well: the next failure is a first one.
const LASTED: Duration = Duration::from_secs(30);

/// Says where a server is, at the moment it is connected: credentials are read then.
pub type Where = Box<dyn Fn() -> Result<Server, String> + Send + Sync>;

/// One server, shared by all agents that name it.
pub struct McpServer {
    name: String,
    patience: Duration,
    at: Where,
    /// Held by the one who connects or asks for tools; the others wait for what comes of it.
    working: tokio::sync::Mutex<()>,
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
    /// A server; nothing is connected yet. `name` is what it is called in logs; `patience` is how long it may take to
    /// start and to shake hands.
    #[must_use]
    pub fn new(name: &str, patience: Duration, at: Where) -> Self {
        Self { name: name.to_owned(), patience, at, working: tokio::sync::Mutex::default(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of it, without asking it.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let state = self.state();
        Snapshot { tools: state.tools.clone(), trouble: state.trouble.clone() }
    }

    /// What is known of it after asking it where needed: connects when it is not connected (and not waiting before the
    /// next try), and asks for its tools when they are others now.
    pub async fn tools(&self) -> Snapshot {
        if let Ok(connection) = self.connected().await
            && connection.take_stale()
        {
            let _turn = self.working.lock().await;
            match connection.list().await {
                Ok(tools) => self.state().tools = Some(Arc::new(tools)),
                Err(reason) => {
                    tracing::warn!(server = %self.name, %reason, "the tools of an MCP server could not be read again");
                    self.failed(&connection, reason);
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
        let connection = self.connected().await.map_err(McpError::Unavailable)?;
        let result = connection.call(call).await;
        match &result {
            Err(McpError::Unavailable(reason)) => self.failed(&connection, reason.clone()),
            Err(McpError::Unknown(reason)) if connection.is_closed() => self.failed(&connection, reason.clone()),
            _ => {}
        }
        result
    }

    /// Ends the connection, if there is one; the next need makes a new one.
    pub async fn close(&self) {
        let live = self.state().live.take();
        if let Some(connection) = live.and_then(Arc::into_inner) {
            connection.close().await;
        }
    }

    async fn connected(&self) -> Result<Arc<Connection>, String> {
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        let _turn = self.working.lock().await;
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        if let Some(reason) = self.waiting() {
            return Err(reason);
        }
        match self.connect().await {
            Ok((connection, tools)) => {
                tracing::info!(server = %self.name, tools = tools.len(), "an MCP server is connected");
                let connection = Arc::new(connection);
                let mut state = self.state();
                state.live = Some(Arc::clone(&connection));
                state.tools = Some(Arc::new(tools));
                (state.trouble, state.not_before) = (None, None);
                Ok(connection)
            }
            Err(reason) => {
                tracing::warn!(server = %self.name, %reason, "an MCP server is not available");
                self.note_failure(&mut self.state(), reason.clone());
                Err(reason)
            }
        }
    }

    async fn connect(&self) -> Result<(Connection, Vec<McpTool>), String> {
        let connection = Connection::open(&self.name, &(self.at)()?, self.patience).await?;
        let tools = connection.list().await?;
        connection.take_stale();
        Ok((connection, tools))
    }

    /// The connection, when it is good. One that has ended since is put away.
    fn live(&self) -> Option<Arc<Connection>> {
        let connection = self.state().live.clone()?;
        if !connection.is_closed() {
            return Some(connection);
        }
        self.failed(&connection, connection.explain("the connection was lost"));
        None
    }

    /// Why it is not tried now.
    fn waiting(&self) -> Option<String> {
        let state = self.state();
        let wait = state.not_before?.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero())?;
        let reason = state.trouble.as_deref().unwrap_or("it failed");
        Some(format!("{reason} (tried again in {} s at the earliest)", wait.as_secs() + 1))
    }

    /// This connection is of no use any more. Later words about it change nothing.
    fn failed(&self, connection: &Arc<Connection>, reason: String) {
        let mut state = self.state();
        if !state.live.as_ref().is_some_and(|live| Arc::ptr_eq(live, connection)) {
            return;
        }
        state.live = None;
        if connection.since.elapsed() >= LASTED {
            // It was well for long: it is tried again at once.
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
