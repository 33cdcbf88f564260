//! Requests to a server and its responses, independent of the SDK.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Map, Value};

/// Address of a server, with all secrets filled in.
#[derive(Debug, Clone)]
pub enum Server {
    /// A program that communicates over standard input and output.
    Stdio(Program),
    /// An address that speaks streamable HTTP.
    Http {
        /// Full URL.
        url: String,
        /// Credential sent with every request.
        credential: Option<Credential>,
    },
}

/// A program to start.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program and its arguments; may contain secrets.
    pub command: Vec<SecretString>,
    /// Variables in addition to the harmless ones of this process (`PATH`, `HOME` and similar).
    pub environment: Vec<(String, SecretString)>,
}

/// Credential of a client.
#[derive(Debug, Clone)]
pub enum Credential {
    /// `Authorization: Bearer …`.
    Bearer(SecretString),
    /// `X-API-Key: …`.
    ApiKey(SecretString),
}

/// A tool of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct McpTool {
    /// Name on the server.
    pub name: String,
    /// Description for the model.
    pub description: String,
    /// JSON Schema of the arguments.
    pub schema: Arc<Value>,
}

/// Current state of a server.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The last tool list; `None` before the first one.
    pub tools: Option<Arc<Vec<McpTool>>>,
    /// Reason for which the server is unavailable.
    pub trouble: Option<String>,
}

/// One call of a tool.
#[derive(Debug, Clone)]
pub struct McpCall<'a> {
    /// Name of the tool on the server.
    pub tool: &'a str,
    /// Validated arguments.
    pub arguments: Map<String, Value>,
    /// Metadata of the request (`_meta`).
    pub meta: Map<String, Value>,
    /// Timeout of the call.
    pub timeout: Duration,
}

/// Result of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpOutput {
    /// Text of at most [`crate::MAX_OUTPUT_BYTES`] and a note.
    pub text: String,
    /// The server reported an error.
    pub is_error: bool,
}

/// Reason for which a call has no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum McpError {
    /// Nothing was sent, or certainly nothing was done.
    #[error("{0}")]
    Unavailable(String),
    /// The call was sent, and its outcome is unknown.
    #[error("{0}")]
    Unknown(String),
}

/// Reason for which a server cannot be used, in words for people and models, without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(String);

impl From<String> for Unavailable {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}
