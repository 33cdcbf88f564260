//! An agent: a checked spec. Built by `agentry-config` from a file; nothing here reads one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::money::NanoUsd;
use crate::retry::RetryPolicy;
use crate::schedule::ScheduleSpec;
use crate::topic::TopicPattern;

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
    /// A checked name.
    ///
    /// # Errors
    /// When it is empty, too long, or has other characters.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        Self::try_from(Arc::<str>::from(name))
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
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

/// How an agent executes. The same word everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionMode {
    /// Stateless worker pool.
    Autonomous = 0,
    /// One message at a time per session.
    Continuous = 1,
    /// Plan, parallel steps by several agents, aggregate.
    Collaborative = 2,
    /// As autonomous, started by slots of a schedule.
    Scheduled = 3,
}

impl ExecutionMode {
    /// Every mode, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Autonomous, Self::Continuous, Self::Collaborative, Self::Scheduled];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Autonomous => "autonomous",
            Self::Continuous => "continuous",
            Self::Collaborative => "collaborative",
            Self::Scheduled => "scheduled",
        }
    }

    /// The mode with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for ExecutionMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ExecutionMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| "expected autonomous, continuous, collaborative or scheduled".to_owned())
    }
}

/// Some of the four modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<ExecutionMode>", into = "Vec<ExecutionMode>")]
pub struct ModeSet(u8);

impl ModeSet {
    /// All four.
    pub const ALL: Self = Self(0b1111);
    /// None.
    pub const NONE: Self = Self(0);

    /// Whether `mode` is among them.
    #[must_use]
    pub fn contains(self, mode: ExecutionMode) -> bool {
        self.0 & (1 << mode as u8) != 0
    }

    /// Those and `mode`.
    #[must_use]
    pub fn with(self, mode: ExecutionMode) -> Self {
        Self(self.0 | (1 << mode as u8))
    }

    /// Them, in order.
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
    /// Its name, unique in the fleet.
    pub name: AgentName,
    /// Content hash.
    pub version: Box<str>,
    /// How it executes.
    pub mode: ExecutionMode,
    /// What kind of agent its users call it; free text.
    pub agent_type: Option<Box<str>>,
    /// What it is for.
    pub description: Option<Box<str>>,
    /// Whether it takes tasks.
    pub enabled: bool,
    /// Words to find it by.
    pub tags: Vec<Box<str>>,
    /// Anything its users want to keep with it.
    pub metadata: Option<Box<Value>>,
    /// What the model is told it is.
    pub system_prompt: Box<str>,
    /// What the model is told to do, after the system prompt.
    pub instructions: Option<Box<str>>,
    /// Topics whose events start a task.
    pub subscriptions: Vec<TopicPattern>,
    /// The model and its settings.
    pub llm: LlmConfig,
    /// What it may call.
    pub tools: Vec<ToolSpec>,
    /// Attempts with fresh context.
    pub retry: RetryPolicy,
    /// Conversations; continuous agents only.
    pub continuous: Option<Box<ContinuousConfig>>,
    /// Plans; collaborative agents only.
    pub collaborative: Option<Box<CollaborativeConfig>>,
    /// When it runs by itself; scheduled agents only.
    pub schedule: Option<Box<ScheduleSpec>>,
    /// What it may spend.
    pub budget: BudgetConfig,
    /// JSON Schema that its answers must fit.
    pub output_schema: Option<Box<Value>>,
}

impl AgentSpec {
    /// The system message: prompt, then instructions.
    #[must_use]
    pub fn system_text(&self) -> String {
        match &self.instructions {
            Some(instructions) => format!("{}\n\n{instructions}", self.system_prompt),
            None => self.system_prompt.to_string(),
        }
    }
}

/// Which wire protocol a model is reached by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// OpenAI chat completions, and everything compatible through `base_url`.
    Openai,
    /// Anthropic messages.
    Anthropic,
    /// AWS Bedrock Converse.
    Bedrock,
    /// Ollama chat.
    Ollama,
    /// Answers inside the process, deterministically, at no cost.
    Simulated,
}

impl ProviderKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Openai, Self::Anthropic, Self::Bedrock, Self::Ollama, Self::Simulated];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Bedrock => "bedrock",
            Self::Ollama => "ollama",
            Self::Simulated => "simulated",
        }
    }

    /// Its name in OpenTelemetry's conventions (`gen_ai.provider.name`).
    #[must_use]
    pub fn telemetry_name(self) -> &'static str {
        match self {
            Self::Bedrock => "aws.bedrock",
            other => other.as_str(),
        }
    }

    /// Whether its calls leave the process, so that they can fail, cost, and must be journaled before.
    #[must_use]
    pub fn leaves_process(self) -> bool {
        self != Self::Simulated
    }
}

impl ToolKind {
    /// Whether it is a server of tools instead of one tool.
    #[must_use]
    pub fn is_server(&self) -> bool {
        matches!(self, Self::McpHttp { .. } | Self::McpStdio { .. })
    }
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A model to call: where and which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LlmTarget {
    /// The protocol.
    pub provider: ProviderKind,
    /// The exact model id.
    pub model: Arc<str>,
    /// Another host than the provider's own.
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

/// Sampling and limits; what is `None` is not sent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SamplingParams {
    /// Randomness.
    pub temperature: Option<f64>,
    /// Tokens to answer with at most.
    pub max_tokens: Option<u32>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Top-k sampling.
    pub top_k: Option<u32>,
    /// Where to stop.
    pub stop_sequences: Vec<Box<str>>,
    /// OpenAI's frequency penalty.
    pub frequency_penalty: Option<f64>,
    /// OpenAI's presence penalty.
    pub presence_penalty: Option<f64>,
    /// Seed for repeatable sampling.
    pub seed: Option<i64>,
}

/// A tool an agent may call, or a server of tools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// The name the model calls it by; the names of an MCP server's tools begin with it.
    pub name: Box<str>,
    /// How it is reached.
    pub kind: ToolKind,
    /// What the model is told it does.
    pub description: Option<Box<str>>,
    /// JSON Schema of its arguments; any object when absent. An MCP server tells the schemas of its tools itself.
    pub parameters: Option<Box<Value>>,
    /// The tools of an MCP server that the model is told of, by their names on the server; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_tools: Vec<Box<str>>,
    /// How it authenticates.
    pub auth: Option<ToolAuth>,
    /// Time for one call, in milliseconds.
    pub timeout_ms: u64,
    /// What to do when a crash leaves a call's outcome unknown.
    pub on_unknown: OnUnknown,
}

/// How a tool is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolKind {
    /// An HTTP endpoint: arguments are posted as JSON.
    Http {
        /// Where to.
        url: Box<str>,
    },
    /// An MCP server over streamable HTTP.
    McpHttp {
        /// Where to.
        url: Box<str>,
    },
    /// An MCP server over stdio. Texts are those of the file, with `${VAR}` unresolved: they are read from the
    /// environment when the server is started.
    McpStdio {
        /// Program and arguments.
        command: Vec<Box<str>>,
        /// Variables that the program gets.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        env: Vec<(Box<str>, Box<str>)>,
    },
}

/// How a tool authenticates. The token is the text of the file, for example `${CRM_TOKEN}`: it is read from the
/// environment at the moment of the call, so that a spec never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolAuth {
    /// In which header.
    pub kind: ToolAuthKind,
    /// The token, with `${VAR}` unresolved.
    pub token: Box<str>,
}

/// Where a tool's token goes.
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

/// What to do with a tool call that may or may not have happened.
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
    /// How long an idle session stays in memory, in milliseconds.
    pub idle_timeout_ms: u64,
    /// Kept for files that set it; Agentry saves after every step.
    pub save_interval_ms: u64,
    /// Messages sent with a turn at most.
    pub max_history: u32,
    /// What happens to older ones.
    pub pruning: Pruning,
}

impl Default for ContinuousConfig {
    fn default() -> Self {
        Self { idle_timeout_ms: 600_000, save_interval_ms: 180_000, max_history: 50, pruning: Pruning::SlidingWindow }
    }
}

/// What happens to messages that leave the window.
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
    /// Whom the planner may give steps to; everybody else in the fleet when empty.
    pub preferred_collaborators: Vec<AgentName>,
    /// Another model for planning.
    pub planning_model: Option<Arc<str>>,
    /// Another temperature for planning.
    pub planning_temperature: Option<f64>,
    /// Steps of a plan at most.
    pub max_plan_steps: u32,
    /// Different agents in a plan at least.
    pub min_collaborators: u32,
    /// Different agents in a plan at most.
    pub max_collaborators: u32,
    /// What the planner is told about how to divide the work.
    pub planning_strategy: PlanningStrategy,
    /// Whether a step may ask a human.
    pub allow_clarification: bool,
    /// How long a question stays open, in milliseconds.
    pub clarification_timeout_ms: u64,
    /// What is answered for a human who does not.
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

/// How the planner divides the work.
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

/// `budget`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BudgetConfig {
    /// The most one task may cost.
    pub per_task: Option<NanoUsd>,
    /// The most all tasks of a UTC day may cost.
    pub per_day: Option<NanoUsd>,
    /// Model calls in one task at most.
    pub max_llm_calls: Option<u32>,
}
