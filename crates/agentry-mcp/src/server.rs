//! What is asked of a server and what it says, in words of ours.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Map, Value};

/// Where a server is, with every secret in place.
#[derive(Debug, Clone)]
pub enum Server {
    /// A program that speaks on its standard input and output.
    Stdio(Program),
    /// An address that speaks streamable HTTP.
    Http {
        /// Its address.
        url: String,
        /// What is sent along with every request.
        credential: Option<Credential>,
    },
}

/// A program to start.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program and its arguments; may hold secrets.
    pub command: Vec<SecretString>,
    /// Variables it gets on top of the harmless ones of this process (`PATH`, `HOME` and their like).
    pub environment: Vec<(String, SecretString)>,
}

/// How a client says who it is.
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
    /// Its name on the server.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its arguments.
    pub schema: Arc<Value>,
}

/// What is known of a server now.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Its tools when it last told them; `None`: it never did.
    pub tools: Option<Arc<Vec<McpTool>>>,
    /// Why it cannot be used, when that is so.
    pub trouble: Option<String>,
}

/// One call of a tool.
#[derive(Debug, Clone)]
pub struct McpCall<'a> {
    /// The tool's name on the server.
    pub tool: &'a str,
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// Sent as metadata of the request (`_meta`).
    pub meta: Map<String, Value>,
    /// Time for the answer.
    pub timeout: Duration,
}

/// What a tool returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpOutput {
    /// As text, at most [`crate::MAX_OUTPUT_BYTES`] and a note.
    pub text: String,
    /// Whether the server called it an error.
    pub is_error: bool,
}

/// Why a call has no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum McpError {
    /// Nothing was sent, or nothing was done for sure.
    #[error("{0}")]
    Unavailable(String),
    /// It was sent, and nobody knows what came of it.
    #[error("{0}")]
    Unknown(String),
}
