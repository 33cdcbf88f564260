//! Tools: what agents may call. HTTP endpoints now; everything is bounded in time and size.

mod arguments;
mod environment;
mod http;
mod port;
mod registry;

pub use environment::Lookup;
pub use port::{Invocation, ToolBox, ToolError, ToolOutput};
pub use registry::Tools;
