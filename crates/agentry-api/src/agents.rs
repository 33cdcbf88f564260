//! `/v1/agents`: agents of the deployment, and validation of agent files.

use agentry_core::agent::{AgentName, ExecutionMode};
use agentry_core::fleet::AgentState;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::overview::Activity;

/// An agent of the deployment.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Agent)]
pub struct AgentView {
    /// Name of the agent.
    #[schema(value_type = String)]
    pub name: AgentName,
    /// Status: `starting`, `healthy`, `restarting`, `failed`, `invalid` or `disabled`.
    #[schema(value_type = String)]
    pub status: AgentState,
    /// Execution mode; absent if no valid version of its file was ever loaded.
    #[schema(value_type = Option<String>)]
    pub mode: Option<ExecutionMode>,
    /// Active version: 12 hex digits of a content hash.
    pub version: Option<String>,
    /// File of the agent.
    pub file: String,
    /// Type of the agent, as defined by its users.
    pub agent_type: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Primary model, as `provider/model`.
    pub model: Option<String>,
    /// Topic patterns of the events that start a task.
    pub subscriptions: Vec<String>,
    /// Error of the newest version of its file; `version` stays active.
    pub error: Option<String>,
    /// Reason for an unhealthy status, as reported by workers.
    pub reason: Option<String>,
    /// Warnings of the file.
    pub warnings: Vec<String>,
    /// Counters of the agent.
    pub counters: AgentCounters,
    /// Activity within the window of `/v1/overview`.
    pub activity: Activity,
    /// Budget per UTC day, in US dollars.
    pub budget_usd_day: Option<String>,
}

/// Counters of an agent; `today` is the current UTC day.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct AgentCounters {
    /// Restarts since it was last healthy.
    pub restarts: u32,
    /// Provider calls today.
    pub llm_calls_today: u64,
    /// Failed provider calls today.
    pub failed_calls_today: u64,
    /// Input tokens today.
    pub input_tokens_today: u64,
    /// Output tokens today.
    pub output_tokens_today: u64,
    /// Cost of the priced calls of today in US dollars, as an exact decimal number.
    pub cost_usd_today: String,
}

/// An agent with its details.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AgentDetail {
    /// The agent, as in lists.
    #[serde(flatten)]
    pub agent: AgentView,
    /// Metadata, as defined by its users.
    pub metadata: Option<Value>,
    /// Names of its tools.
    pub tools: Vec<String>,
    /// Its file on each live worker and scheduler.
    pub processes: Vec<ProcessFile>,
}

/// The query of a list of agents.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AgentQuery {
    /// Only agents whose name contains this text.
    pub q: Option<String>,
    /// Only agents with this status.
    pub status: Option<String>,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// Rows of the page, 1 to 1,000. Default: all.
    pub limit: Option<usize>,
}

/// The file of an agent on one process.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProcessFile {
    /// Host name and process id.
    pub host: String,
    /// Version of the file; absent if there is no valid file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Error of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// True if the file has the active version.
    pub current: bool,
}

/// A version to activate.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivateRequest {
    /// Version: 12 hex digits of a content hash, as in `GET /v1/agents/{name}` and in tasks. Default: the last version of a
    /// removed agent.
    #[serde(default)]
    pub version: Option<String>,
}

/// The active version of an agent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ActivateReply {
    /// Name of the agent.
    #[schema(value_type = String)]
    pub name: AgentName,
    /// Active version.
    pub version: String,
}

/// An agent file to validate.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidateRequest {
    /// Text of the file (YAML).
    pub text: String,
    /// File name in messages. Default: `agent.yml`.
    pub file: Option<String>,
}

/// The result of a validation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ValidateReply {
    /// True if the file has no errors; warnings are allowed.
    pub valid: bool,
    /// Errors and warnings, errors first.
    pub problems: Vec<FileProblemView>,
}

/// An error or warning in a file.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = FileProblem)]
pub struct FileProblemView {
    /// Severity: `error` or `warning`.
    pub severity: String,
    /// Line, from 1; 0 if it has no position.
    pub line: u32,
    /// Column in characters, from 1; 0 if it has no position.
    pub column: u32,
    /// Message.
    pub message: String,
    /// Advice.
    pub help: Option<String>,
    /// The whole text, as printed by `agentry validate`.
    pub text: String,
}
