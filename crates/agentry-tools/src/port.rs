//! The port.

use agentry_core::agent::{AgentSpec, ToolSpec};
use agentry_core::chat::{ToolCall, ToolDefinition};
use agentry_core::id::TaskId;
use agentry_core::trace::Place;
use async_trait::async_trait;

use crate::names::owner;

/// One call of a tool.
#[derive(Debug, Clone)]
pub struct Invocation<'a> {
    /// The tool, from the agent's file.
    pub tool: &'a ToolSpec,
    /// What the model asked for.
    pub call: &'a ToolCall,
    /// The task it is made for.
    pub task: TaskId,
    /// The same for every try of this call: sent as `Idempotency-Key`.
    pub idempotency_key: String,
    /// The call in its trace.
    pub place: Place,
}

/// What a tool returned: the model sees it either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutput {
    /// The output, as text, cut to a bound.
    pub text: String,
    /// Whether the tool called it an error.
    pub is_error: bool,
    /// Whether it tells only that this try was turned away (overload, a gateway's error, credentials): then it says
    /// nothing of an earlier try whose outcome is unknown.
    pub is_refusal: bool,
}

/// Why a call has no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// The arguments do not fit the tool's schema: nothing was sent; the model is told.
    #[error("the arguments of `{tool}` do not fit: {problem}")]
    Arguments {
        /// The tool.
        tool: String,
        /// What does not fit.
        problem: String,
    },
    /// The tool cannot be reached or did nothing for sure (refused connection, unset credential): the model is told.
    #[error("`{tool}` is unavailable: {reason}")]
    Unavailable {
        /// The tool.
        tool: String,
        /// Why.
        reason: String,
    },
    /// It may or may not have happened (timeout, connection lost after sending): the tool's `on_unknown` decides.
    #[error("the outcome of `{tool}` is unknown: {reason}")]
    Unknown {
        /// The tool.
        tool: String,
        /// Why.
        reason: String,
    },
}

/// All tools of a process.
#[async_trait]
pub trait ToolBox: Send + Sync + 'static {
    /// The agent's tools that can be called now, as its model is told of them. Servers of tools are connected when they
    /// are first asked for; one that does not answer is told of by one tool that says so.
    async fn definitions(&self, spec: &AgentSpec) -> Vec<ToolDefinition>;

    /// The tool of the agent's file that a call by this name goes to. By the name alone: it is the same while a server is
    /// away and after a restart.
    fn owner<'s>(&self, spec: &'s AgentSpec, name: &str) -> Option<&'s ToolSpec> {
        owner(spec, name)
    }

    /// What keeps some of the agent's tools from being called now, as far as it is known without asking anybody.
    fn trouble(&self, spec: &AgentSpec) -> Option<String>;

    /// Calls a tool once. Dropping the future ends the call.
    ///
    /// # Errors
    /// See [`ToolError`].
    async fn invoke(&self, invocation: Invocation<'_>) -> Result<ToolOutput, ToolError>;
}
