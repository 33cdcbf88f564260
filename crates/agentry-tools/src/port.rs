//! The port: a tool box that resolves and calls the tools of agents.

use agentry_core::agent::{AgentSpec, ToolSpec};
use agentry_core::chat::{ToolCall, ToolDefinition};
use agentry_core::id::TaskId;
use agentry_core::trace::SpanContext;
use async_trait::async_trait;

use crate::names::owner;

/// One call of a tool.
#[derive(Debug, Clone)]
pub struct Invocation<'a> {
    /// Tool of the agent file.
    pub tool: &'a ToolSpec,
    /// The model's tool call.
    pub call: &'a ToolCall,
    /// Task that makes the call.
    pub task: TaskId,
    /// Key of this call in all attempts, sent as `Idempotency-Key`.
    pub idempotency_key: String,
    /// Span context of the call.
    pub place: SpanContext,
}

/// Result of a tool, which the model sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolOutput {
    /// The output, as text, cut to a bound.
    pub text: String,
    /// The tool reported an error.
    pub is_error: bool,
    /// Only this attempt was refused (overload, a gateway's error, credentials), so the outcome of an earlier attempt
    /// stays unknown.
    pub is_refusal: bool,
}

/// Reason for which a call has no output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// The arguments violate the tool's schema: nothing was sent, and the model is told.
    #[error("the arguments of `{tool}` do not fit: {problem}")]
    Arguments {
        /// Name of the tool.
        tool: String,
        /// Description of the violation.
        problem: String,
    },
    /// The tool is unreachable or certainly did nothing (refused connection, unset credential): the model is told.
    #[error("`{tool}` is unavailable: {reason}")]
    Unavailable {
        /// Name of the tool.
        tool: String,
        /// Reason, in words for the model.
        reason: String,
    },
    /// The call may or may not have happened (timeout, connection lost after sending): the tool's `on_unknown` decides.
    #[error("the outcome of `{tool}` is unknown: {reason}")]
    Unknown {
        /// Name of the tool.
        tool: String,
        /// Reason, in words for the model.
        reason: String,
    },
}

/// All tools of a process.
#[async_trait]
pub trait ToolBox: Send + Sync + 'static {
    /// Returns the agent's available tools as its model sees them. Tool servers are connected on first use; one that
    /// does not answer is replaced by a tool that reports this.
    async fn definitions(&self, spec: &AgentSpec) -> Vec<ToolDefinition>;

    /// Returns the tool of the agent file that a name belongs to. It depends on the name alone: it is the same while a
    /// server is unavailable and after a restart.
    fn owner<'s>(&self, spec: &'s AgentSpec, name: &str) -> Option<&'s ToolSpec> {
        owner(spec, name)
    }

    /// Returns the reason for which some of the agent's tools are unavailable, as far as it is known without a request.
    fn trouble(&self, spec: &AgentSpec) -> Option<String>;

    /// Calls a tool once. Dropping the future ends the call.
    ///
    /// # Errors
    /// See [`ToolError`].
    async fn invoke(&self, invocation: Invocation<'_>) -> Result<ToolOutput, ToolError>;
}
