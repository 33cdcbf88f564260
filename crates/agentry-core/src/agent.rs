//! Agents: validated specs. `agentry-config` builds them from files; nothing here reads one.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::money::NanoUsd;
use crate::retry::RetryPolicy;
use crate::schedule::ScheduleSpec;
use crate::topic::TopicPattern;
use crate::words::words;

/// The longest agent name, in bytes.
pub const MAX_AGENT_NAME_BYTES: usize = 64;

/// An agent's name: letters, digits, `-`, `_` and `.`, starting with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>", into = "Arc<str>")]
pub struct AgentName(Arc<str>);

/// A name that no agent can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot be an agent's name: use up to 64 letters, digits, `-`, `_` and `.`, starting with a letter or digit"
)]
pub struct InvalidName(pub String);

impl AgentName {
    /// Returns a validated name.
    ///
    /// # Errors
    /// Fails when it is empty, too long, or has other characters.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        Self::try_from(Arc::<str>::from(name))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Maps with names as keys are read by text: a name is equal to, and hashes as, its text.
impl std::borrow::Borrow<str> for AgentName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<Arc<str>> for AgentName {
    type Error = InvalidName;

    fn try_from(name: Arc<str>) -> Result<Self, InvalidName> {
        let ok = name.len() <= MAX_AGENT_NAME_BYTES
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if ok { Ok(Self(name)) } else { Err(InvalidName(name.chars().take(80).collect())) }
    }
}

impl From<AgentName> for Arc<str> {
    fn from(name: AgentName) -> Self {
        name.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

words! {
    /// The execution mode of an agent.
    #[derive(PartialOrd, Ord)]
    pub enum ExecutionMode: "mode" {
        /// Stateless worker pool.
        Autonomous = "autonomous",
        /// One message at a time per session.
        Continuous = "continuous",
        /// Plan, parallel steps by several agents, aggregate.
        Collaborative = "collaborative",
        /// As autonomous, started by slots of a schedule.
        Scheduled = "scheduled",
    }
}

/// A set of execution modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<ExecutionMode>", into = "Vec<ExecutionMode>")]
pub struct ModeSet(u8);

impl ModeSet {
    /// All four.
    pub const ALL: Self = Self(0b1111);
    /// None.
    pub const NONE: Self = Self(0);

    /// Returns whether `mode` is among them.
    #[must_use]
    pub fn contains(self, mode: ExecutionMode) -> bool {
        self.0 & (1 << mode as u8) != 0
    }

    /// Returns the set with `mode` added.
    #[must_use]
    pub fn with(self, mode: ExecutionMode) -> Self {
        Self(self.0 | (1 << mode as u8))
    }

    /// Returns the values in order.
    pub fn iter(self) -> impl Iterator<Item = ExecutionMode> {
        ExecutionMode::ALL.into_iter().filter(move |mode| self.contains(*mode))
    }
}

impl From<Vec<ExecutionMode>> for ModeSet {
    fn from(modes: Vec<ExecutionMode>) -> Self {
        modes.into_iter().fold(Self::NONE, Self::with)
    }
}

impl From<ModeSet> for Vec<ExecutionMode> {
    fn from(set: ModeSet) -> Self {
        set.iter().collect()
    }
}

/// A checked agent. `version` is a content hash: 12 hex digits of SHA-256 over what the file means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// Name, unique in the fleet.
    pub name: AgentName,
    /// Content hash.
    pub version: Box<str>,
    /// Execution mode.
    pub mode: ExecutionMode,
    /// Free-text category chosen by the user.
    pub agent_type: Option<Box<str>>,
    /// Description of the agent's purpose.
    pub description: Option<Box<str>>,
    /// False if the agent accepts no tasks.
    pub enabled: bool,
    /// Tags for searches.
    pub tags: Vec<Box<str>>,
    /// Arbitrary data of the user.
    pub metadata: Option<Box<Value>>,
    /// System prompt sent with every conversation.
    pub system_prompt: Box<str>,
    /// Instructions appended to the system prompt.
    pub instructions: Option<Box<str>>,
    /// Topics whose events start a task.
    pub subscriptions: Vec<TopicPattern>,
    /// The model and its settings.
    pub llm: LlmConfig,
    /// Tools that the agent may call.
    pub tools: Vec<ToolSpec>,
    /// Attempts with fresh context.
    pub retry: RetryPolicy,
    /// Conversations; continuous agents only.
    pub continuous: Option<Box<ContinuousConfig>>,
    /// Plans; collaborative agents only.
    pub collaborative: Option<Box<CollaborativeConfig>>,
    /// Schedule; scheduled agents only.
    pub schedule: Option<Box<ScheduleSpec>>,
    /// Spending limits.
    pub budget: BudgetConfig,
    /// JSON Schema that its answers must fit.
    pub output_schema: Option<Box<Value>>,
}

impl AgentSpec {
    /// Returns the system message: prompt, then instructions.
    #[must_use]
    pub fn system_text(&self) -> String {
        match &self.instructions {
            Some(instructions) => format!("{}\n\n{instructions}", self.system_prompt),
            None => self.system_prompt.to_string(),
        }
    }
}

words! {
    /// The wire protocol of a model provider.
    #[derive(PartialOrd, Ord)]
    pub enum ProviderKind: "provider" {
        /// OpenAI chat completions, and everything compatible through `base_url`.
        Openai = "openai",
        /// Anthropic messages.
        Anthropic = "anthropic",
        /// AWS Bedrock Converse.
        Bedrock = "bedrock",
        /// Ollama chat.
        Ollama = "ollama",
        /// Answers inside the process, deterministically, at no cost.
        Simulated = "simulated",
    }
}

impl ProviderKind {
    /// Returns the name in OpenTelemetry's conventions (`gen_ai.provider.name`).
    #[must_use]
    pub fn telemetry_name(self) -> &'static str {
        match self {
            Self::Bedrock => "aws.bedrock",
            other => other.as_str(),
        }
    }

    /// Returns whether calls leave the process, so that they can fail, cost money, and must be journaled before.
    #[must_use]
    pub fn leaves_process(self) -> bool {
        self != Self::Simulated
    }
}

impl ToolKind {
    /// Returns whether this is a server of tools instead of a single tool.
    #[must_use]
    pub fn is_server(&self) -> bool {
        matches!(self, Self::McpHttp { .. } | Self::McpStdio { .. })
    }
}

/// A model and its address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LlmTarget {
    /// The protocol.
    pub provider: ProviderKind,
    /// The exact model id.
    pub model: Arc<str>,
    /// Base URL, if not the provider's own.
    pub base_url: Option<Arc<str>>,
    /// AWS region (Bedrock).
    pub region: Option<Arc<str>>,
}

/// `llm_config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LlmConfig {
    /// The model to call first.
    pub target: LlmTarget,
    /// Models to call when the first one is unavailable, in order.
    pub fallback: Vec<LlmTarget>,
    /// Sampling and limits sent with every call.
    pub params: SamplingParams,
    /// Time for one call, in milliseconds.
    pub timeout_ms: u64,
    /// `response_format` as the provider takes it.
    pub response_format: Option<Box<Value>>,
}

words! {
    /// How hard a model thinks before it answers.
    #[derive(PartialOrd, Ord)]
    pub enum Effort: "effort" {
        /// Not at all.
        None = "none",
        /// As little as possible.
        Minimal = "minimal",
        /// A little.
        Low = "low",
        /// Some.
        Medium = "medium",
        /// Much.
        High = "high",
        /// Very much.
        Xhigh = "xhigh",
        /// As much as possible.
        Max = "max",
    }
}

words! {
    /// The length of an answer.
    pub enum Verbosity: "verbosity" {
        /// Short.
        Low = "low",
        /// In between.
        Medium = "medium",
        /// Long.
        High = "high",
    }
}

words! {
    /// Whether the model must call a tool.
    pub enum ToolChoice: "tool choice" {
        /// It decides.
        Auto = "auto",
        /// It may not.
        None = "none",
        /// It must.
        Required = "required",
    }
}

/// The time that a provider keeps the beginning of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheKeep {
    /// The provider's default.
    #[default]
    Auto,
    /// Nothing is kept that would have to be asked for.
    Off,
    /// An hour.
    #[serde(rename = "1h")]
    Hour,
}

/// What becomes of an answer that is cut at the limit of its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLength {
    /// The task fails with `output_truncated`.
    #[default]
    Fail,
    /// The model is asked to go on.
    Continue,
}

/// Parameters of a call; `None` is not sent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SamplingParams {
    /// Effort of reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Effort>,
    /// Length of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verbosity: Option<Verbosity>,
    /// Time that the provider keeps the beginning of a conversation.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cache: CacheKeep,
    /// Service tier, in the provider's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<Box<str>>,
    /// Whether the model must call a tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// False if the model may call one tool at a time only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// Size of the context, in tokens (Ollama).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_ctx: Option<u32>,
    /// Time that the model stays loaded (Ollama).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Box<str>>,
    /// True if a parameter that the model refuses is an error.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strict_parameters: bool,
    /// What becomes of an answer that is cut at the limit of its length.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_length: OnLength,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Maximum number of tokens in the answer.
    pub max_tokens: Option<u32>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Top-k sampling.
    pub top_k: Option<u32>,
    /// Texts that end the generation.
    pub stop_sequences: Vec<Box<str>>,
    /// OpenAI's frequency penalty.
    pub frequency_penalty: Option<f64>,
    /// OpenAI's presence penalty.
    pub presence_penalty: Option<f64>,
    /// Seed for repeatable sampling.
    pub seed: Option<i64>,
}

/// A tool of an agent, or a server of tools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Name that the model calls; prefix of the names of an MCP server's tools.
    pub name: Box<str>,
    /// Transport and address.
    pub kind: ToolKind,
    /// Description sent to the model.
    pub description: Option<Box<str>>,
    /// JSON Schema of the arguments; any object if absent. An MCP server defines the schemas of its tools itself.
    pub parameters: Option<Box<Value>>,
    /// Names of an MCP server's tools that are offered to the model; all of them if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_tools: Vec<Box<str>>,
    /// Credentials sent with each call.
    pub auth: Option<ToolAuth>,
    /// Time for one call, in milliseconds.
    pub timeout_ms: u64,
    /// Policy for a call whose outcome a crash left unknown.
    pub on_unknown: OnUnknown,
}

/// Transport and address of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolKind {
    /// An HTTP endpoint: arguments are posted as JSON.
    Http {
        /// Endpoint that receives the arguments.
        url: Box<str>,
    },
    /// An MCP server over streamable HTTP.
    McpHttp {
        /// Address of the server.
        url: Box<str>,
    },
    /// An MCP server over stdio. Texts are those of the file, with `${VAR}` unresolved: they are resolved when the
    /// server is started.
    McpStdio {
        /// Program and arguments.
        command: Vec<Box<str>>,
        /// Environment variables of the program.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        env: Vec<(Box<str>, Box<str>)>,
    },
}

/// Credentials of a tool. The token is the text of the file, for example `${CRM_TOKEN}`: it is read from the
/// environment at the moment of the call, so that a spec never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolAuth {
    /// Header that carries the token.
    pub kind: ToolAuthKind,
    /// The token, with `${VAR}` unresolved.
    pub token: Box<str>,
}

/// The header that carries a tool's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolAuthKind {
    /// `Authorization: Bearer …`.
    BearerToken,
    /// `X-API-Key: …`.
    ApiKey,
    /// `Authorization: Bearer …` with an access token.
    Oauth2,
}

/// The policy for a tool call that may or may not have been executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnknown {
    /// Call again (the call carries the same idempotency key).
    Retry,
    /// Ask a human.
    Ask,
    /// End the task.
    #[default]
    Fail,
}

/// `continuous_config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContinuousConfig {
    /// Time after which an idle session leaves memory, in milliseconds.
    pub idle_timeout_ms: u64,
    /// Accepted for older files; Agentry saves after every step.
    pub save_interval_ms: u64,
    /// Maximum number of messages sent with a turn.
    pub max_history: u32,
    /// Treatment of messages beyond `max_history`.
    pub pruning: Pruning,
}

impl Default for ContinuousConfig {
    fn default() -> Self {
        Self { idle_timeout_ms: 600_000, save_interval_ms: 180_000, max_history: 50, pruning: Pruning::SlidingWindow }
    }
}

/// The treatment of messages that leave the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pruning {
    /// They are no longer sent.
    #[default]
    SlidingWindow,
    /// The model summarises them first.
    Summarize,
}

/// `collaborative_config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollaborativeConfig {
    /// Agents that the planner may assign steps to; all others of the fleet if empty.
    pub preferred_collaborators: Vec<AgentName>,
    /// Another model for planning.
    pub planning_model: Option<Arc<str>>,
    /// Another temperature for planning.
    pub planning_temperature: Option<f64>,
    /// Maximum number of steps.
    pub max_plan_steps: u32,
    /// Minimum number of different agents in a plan.
    pub min_collaborators: u32,
    /// Maximum number of different agents in a plan.
    pub max_collaborators: u32,
    /// Strategy that the planner is instructed to follow.
    pub planning_strategy: PlanningStrategy,
    /// True if a step may ask a human.
    pub allow_clarification: bool,
    /// Time that a question stays open, in milliseconds.
    pub clarification_timeout_ms: u64,
    /// Answer assumed when no human answers in time.
    pub clarification_default: Option<Box<str>>,
    /// Time for one step, in milliseconds.
    pub step_timeout_ms: u64,
}

impl Default for CollaborativeConfig {
    fn default() -> Self {
        Self {
            preferred_collaborators: Vec::new(),
            planning_model: None,
            planning_temperature: None,
            max_plan_steps: 10,
            min_collaborators: 1,
            max_collaborators: 10,
            planning_strategy: PlanningStrategy::Hierarchical,
            allow_clarification: false,
            clarification_timeout_ms: 86_400_000,
            clarification_default: None,
            step_timeout_ms: 120_000,
        }
    }
}

/// The strategy by which the planner divides the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanningStrategy {
    /// Divide into steps, as parallel as their dependencies allow.
    #[default]
    Hierarchical,
    /// Several agents answer the same question; the aggregation weighs them.
    Consensus,
    /// One step after another.
    Sequential,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What becomes of calls of a model without a price when a limit in dollars is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unpriced {
    /// They are refused.
    #[default]
    Refuse,
    /// They are made, and cost nothing.
    Allow,
}

/// `budget`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BudgetConfig {
    /// Maximum cost of one task.
    pub per_task: Option<NanoUsd>,
    /// Maximum cost of all tasks of a UTC day.
    pub per_day: Option<NanoUsd>,
    /// Maximum number of model calls in one task.
    pub max_llm_calls: Option<u32>,
    /// Calls of models without a price.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unpriced: Unpriced,
}
