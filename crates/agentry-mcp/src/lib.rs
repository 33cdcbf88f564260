//! Servers of the Model Context Protocol (MCP), revision 2025-11-25: supervised connections over stdio and streamable
//! HTTP.
//!
//! The official SDK compiles longer than any other crate, so it has a crate of its own with a small interface:
//! [`McpServer`] is one server, which is connected on first use, and again, with backoff, after it was lost. Everything
//! is bounded: the time to start and to answer, the size of output, the number of tools.

mod child;
mod connection;
mod diagnostics;
mod http;
mod lines;
mod output;
mod server;
mod stdio;
mod supervisor;
mod truncate;

pub use output::MAX_OUTPUT_BYTES;
pub use server::{Credential, McpCall, McpError, McpOutput, McpTool, Program, Server, Snapshot, Unavailable};
pub use supervisor::{McpServer, ServerSource};
