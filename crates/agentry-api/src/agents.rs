//! `/v1/agents`: the fleet of the deployment, and files that may join it.

use agentry_core::agent::{AgentName, ExecutionMode};
use agentry_core::fleet::AgentState;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::overview::Activity;

/// An agent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Agent)]
pub struct AgentView {
    /// Its name.
    #[schema(value_type = String)]
    pub name: AgentName,
    /// `starting`, `healthy`, `restarting`, `failed`, `invalid` or `disabled`.
    #[schema(value_type = String)]
    pub status: AgentState,
    /// How it executes; absent when its file never was good.
    #[schema(value_type = Option<String>)]
    pub mode: Option<ExecutionMode>,
    /// The version that takes tasks: 12 hex digits of a content hash.
    pub version: Option<String>,
    /// The file it comes from.
    pub file: String,
    /// What kind of agent its users call it.
    pub agent_type: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// `provider/model` that it calls first.
    pub model: Option<String>,
    /// Topics whose events start a task.
    pub subscriptions: Vec<String>,
    /// Why the newest version of its file is not live; the version above goes on taking tasks.
    pub error: Option<String>,
    /// Why it is not healthy, as the workers see it.
    pub reason: Option<String>,
    /// What could not be checked from the file alone.
    pub warnings: Vec<String>,
    /// What it did.
    pub counters: AgentCounters,
    /// What happened within the window of `/v1/overview`.
    pub activity: Activity,
    /// The most all its tasks of a UTC day may cost, in US dollars.
    pub budget_usd_day: Option<String>,
}

/// What an agent did; `today` is the UTC day.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct AgentCounters {
    /// Restarts since it was last healthy.
    pub restarts: u32,
    /// Provider calls today.
    pub llm_calls_today: u64,
    /// Those that failed.
    pub failed_calls_today: u64,
    /// Tokens sent today.
    pub input_tokens_today: u64,
    /// Tokens received today.
    pub output_tokens_today: u64,
    /// What the priced calls of today cost, in US dollars: an exact decimal number.
    pub cost_usd_today: String,
}

/// All agents of the fleet.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AgentList {
    /// The agents, by name.
    pub items: Vec<AgentView>,
    /// Pass it as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// An agent with everything about it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AgentDetail {
    /// What lists show.
    #[serde(flatten)]
    pub agent: AgentView,
    /// What its users keep with it.
    pub metadata: Option<Value>,
    /// Names of the tools it may call.
    pub tools: Vec<String>,
    /// Its file on each worker and scheduler that lives.
    pub processes: Vec<ProcessFile>,
}

/// Which agents to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AgentQuery {
    /// Agents whose name has this in it.
    pub q: Option<String>,
    /// Agents in this state.
    pub status: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows, 1 to 1,000; all when absent.
    pub limit: Option<usize>,
}

/// The file of an agent on one process.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ProcessFile {
    /// Host and process id.
    pub host: String,
    /// The version of its file; absent when it has no file, or none that can be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why the file cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the file is what the deployment runs.
    pub current: bool,
}

/// A version to run.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivateRequest {
    /// The version: 12 hex digits of a content hash, as `GET /v1/agents/{name}` and the tasks that ran on it show it.
    /// Default: the last version of an agent that was removed.
    #[serde(default)]
    pub version: Option<String>,
}

/// What the deployment runs of an agent.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ActivateReply {
    /// The agent.
    #[schema(value_type = String)]
    pub name: AgentName,
    /// The version.
    pub version: String,
}

/// An agent file to check.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidateRequest {
    /// The text of the file (YAML).
    pub text: String,
    /// What it is called in messages; `agent.yml` when absent.
    pub file: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ValidateReply {
    /// Whether the file can be used; warnings do not count.
    pub valid: bool,
    /// Everything that is wrong, errors first.
    pub problems: Vec<FileProblemView>,
}

/// A mistake in a file.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = FileProblem)]
pub struct FileProblemView {
    /// `error` or `warning`.
    pub severity: String,
    /// Line, from 1; 0 when it has no place in the text.
    pub line: u32,
    /// Column in characters, from 1; 0 when it has no place in the text.
    pub column: u32,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// The same as `agentry validate` prints it.
    pub text: String,
}
