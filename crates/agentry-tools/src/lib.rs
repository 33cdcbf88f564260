//! Tools that agents may call: HTTP endpoints and the tools of MCP servers. Everything is bounded in time and size.

mod arguments;
mod environment;
mod http;
mod names;
mod port;
mod registry;
mod replay;
mod servers;

pub use arguments::Schemas;
pub use environment::Lookup;
pub use port::{Invocation, ToolBox, ToolError, ToolOutput};
pub use registry::Tools;
pub use replay::{RecordingTools, ReplayTools};
