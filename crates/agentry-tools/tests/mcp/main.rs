//! MCP tools as agents use them: against a misbehaving server, over stdio and HTTP, and against the reference servers
//! of the protocol's authors.
#![allow(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

mod hostile;
mod http;
mod real;
mod support;
