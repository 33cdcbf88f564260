//! Servers of the Model Context Protocol (MCP), revision 2025-11-25: connections over stdio and streamable HTTP,
//! supervised.
//!
//! The official SDK compiles longer than any other crate, so it has a room of its own with a small door: [`McpServer`]
//! is one server, connected when it is first needed, and again, with backoff, when it is needed after it was lost.
//! Nothing a server does costs more than a bound: how long it takes to start or to answer, how much it says, how many
//! tools it has.

mod child;
mod connection;
mod cut;
mod http;
mod lines;
mod notes;
mod output;
mod server;
mod stdio;
mod supervisor;

pub use output::MAX_OUTPUT_BYTES;
pub use server::{Credential, McpCall, McpError, McpOutput, McpTool, Program, Server, Snapshot};
pub use supervisor::{McpServer, Where};
