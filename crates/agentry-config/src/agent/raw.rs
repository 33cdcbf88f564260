//! The keys of an agent file (INTERFACES §3).

use agentry_core::agent::{
    CacheKeep, Effort, ExecutionMode, OnLength, OnUnknown, PlanningStrategy, ProviderKind, Pruning, ToolAuthKind,
    ToolChoice, Unpriced, Verbosity,
};
use agentry_core::schedule::Overlap;
use serde_json::Value;

use super::leaf::{Choice, Command, Seconds, Usd, Variables, Words};
use super::read::At;
use super::record::record;

/// The kinds of tool that a file can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToolType {
    Mcp,
    Http,
}

/// The kinds of schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScheduleType {
    Cron,
    Interval,
}

macro_rules! words {
    ($($ty:ty : $name:literal { $($word:literal => $value:expr),* $(,)? })*) => {$(
        impl Words for $ty {
            const NAME: &'static str = $name;
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $value)),*];
        }
    )*};
}

words! {
    ExecutionMode: "ExecutionMode" {
        "autonomous" => Self::Autonomous,
        "continuous" => Self::Continuous,
        "collaborative" => Self::Collaborative,
        "scheduled" => Self::Scheduled,
    }
    ProviderKind: "Provider" {
        "openai" => Self::Openai,
        "anthropic" => Self::Anthropic,
        "bedrock" => Self::Bedrock,
        "aws_bedrock" => Self::Bedrock,
        "ollama" => Self::Ollama,
        "simulated" => Self::Simulated,
    }
    ToolType: "ToolType" { "mcp" => Self::Mcp, "http" => Self::Http, "function" => Self::Http, "api" => Self::Http }
    ToolAuthKind: "AuthType" {
        "bearer_token" => Self::BearerToken,
        "api_key" => Self::ApiKey,
        "oauth2" => Self::Oauth2,
    }
    OnUnknown: "OnUnknown" { "retry" => Self::Retry, "ask" => Self::Ask, "fail" => Self::Fail }
    Pruning: "Pruning" { "sliding_window" => Self::SlidingWindow, "summarize" => Self::Summarize }
    PlanningStrategy: "PlanningStrategy" {
        "hierarchical" => Self::Hierarchical,
        "consensus" => Self::Consensus,
        "sequential" => Self::Sequential,
    }
    Effort: "Effort" {
        "none" => Self::None,
        "minimal" => Self::Minimal,
        "low" => Self::Low,
        "medium" => Self::Medium,
        "high" => Self::High,
        "xhigh" => Self::Xhigh,
        "max" => Self::Max,
    }
    Verbosity: "Verbosity" { "low" => Self::Low, "medium" => Self::Medium, "high" => Self::High }
    CacheKeep: "CacheKeep" { "auto" => Self::Auto, "off" => Self::Off, "1h" => Self::Hour }
    ToolChoice: "ToolChoice" { "auto" => Self::Auto, "none" => Self::None, "required" => Self::Required }
    OnLength: "OnLength" { "fail" => Self::Fail, "continue" => Self::Continue }
    Unpriced: "Unpriced" { "refuse" => Self::Refuse, "allow" => Self::Allow }
    ScheduleType: "ScheduleType" { "cron" => Self::Cron, "interval" => Self::Interval }
    Overlap: "Overlap" { "skip" => Self::Skip, "buffer_one" => Self::BufferOne, "allow_all" => Self::AllowAll }
}

record! {
    /// An agent of an Agentry fleet.
    pub(crate) struct Agent = "an agent" {
        /// Name, unique in the fleet: letters, digits, `-`, `_` and `.`.
        required name: At<Box<str>>,
        /// Execution mode: each task by itself, one message at a time per session, by a plan over several agents, or at
        /// the times of a schedule.
        required execution_mode: At<Choice<ExecutionMode>>,
        /// The model and its settings.
        required llm_config: Llm,
        /// System prompt sent with every conversation.
        required system_prompt: At<Box<str>>,
        /// Instructions appended to the system prompt.
        optional instructions: Box<str>,
        /// Free-text category of your choice.
        optional agent_type: Box<str>,
        /// Description of the agent's purpose.
        optional description: Box<str>,
        /// False to accept no tasks; true by default.
        optional enabled: bool,
        /// Tags for searches.
        optional tags: Vec<Box<str>>,
        /// Arbitrary data of yours.
        optional metadata: Value,
        /// Topics whose events start a task; `*` is one word and `#` any number of words.
        optional event_subscriptions: Vec<At<Box<str>>>,
        /// Tools that the agent may call.
        optional tools: Vec<Tool>,
        /// Attempts with fresh context after a failure.
        optional retry_config: Retry,
        /// Conversations; for continuous agents.
        optional continuous_config: At<Continuous>,
        /// Plans; for collaborative agents.
        optional collaborative_config: At<Collaborative>,
        /// Schedule; for scheduled agents.
        optional schedule_config: At<Schedule>,
        /// Spending limits.
        optional budget: Budget,
        /// JSON Schema that its answers must fit.
        optional output_schema: At<Value>,
    }
}

record! {
    /// The model and its settings.
    pub(crate) struct Llm = "`llm_config`" {
        /// Wire protocol of the provider.
        required provider: Choice<ProviderKind>,
        /// The exact model id.
        required model | "model_id": At<Box<str>>,
        /// Randomness, from 0 to 2.
        optional temperature: At<f64>,
        /// Maximum number of tokens in the answer.
        optional max_tokens: At<u32>,
        /// Nucleus sampling, from 0 to 1.
        optional top_p: At<f64>,
        /// Sample from the most likely tokens only.
        optional top_k: At<u32>,
        /// Texts at which the model stops.
        optional stop_sequences: Vec<Box<str>>,
        /// From -2 to 2 (OpenAI).
        optional frequency_penalty: At<f64>,
        /// From -2 to 2 (OpenAI).
        optional presence_penalty: At<f64>,
        /// For repeatable sampling, where the provider has it.
        optional seed: i64,
        /// How hard the model thinks; the provider's default if absent.
        optional reasoning | "reasoning_effort": At<Choice<Effort>>,
        /// Length of the answer, where the model has it (OpenAI).
        optional verbosity: At<Choice<Verbosity>>,
        /// Time that the provider keeps the beginning of a conversation.
        optional cache: Choice<CacheKeep>,
        /// Service tier, in the provider's words.
        optional service_tier: Box<str>,
        /// Whether the model must call a tool.
        optional tool_choice: At<Choice<ToolChoice>>,
        /// False if the model may call one tool at a time only.
        optional parallel_tool_calls: bool,
        /// Size of the context, in tokens (Ollama).
        optional num_ctx: At<u32>,
        /// Time that the model stays loaded, such as 10m (Ollama).
        optional keep_alive: Box<str>,
        /// True if a parameter that the model refuses is an error instead of being left out.
        optional strict_parameters: bool,
        /// What becomes of an answer that is cut at the limit of its length.
        optional on_length: Choice<OnLength>,
        /// Seconds for one call; 60 by default.
        optional timeout: At<Seconds>,
        /// AWS region (Bedrock).
        optional region | "aws_region": Box<str>,
        /// Base URL, if not the provider's own.
        optional base_url | "host" | "api_base" | "endpoint_url": At<Box<str>>,
        /// Passed to the provider unchanged.
        optional response_format: Value,
        /// Models to call when this one is unavailable, in order.
        optional fallback: Vec<Fallback>,
    }
}

record! {
    /// A fallback model.
    pub(crate) struct Fallback = "a fallback model" {
        /// Wire protocol; that of `llm_config` by default.
        optional provider: Choice<ProviderKind>,
        /// The exact model id.
        required model | "model_id": At<Box<str>>,
        /// AWS region (Bedrock).
        optional region | "aws_region": Box<str>,
        /// Base URL, if not the provider's own.
        optional base_url | "host" | "api_base" | "endpoint_url": At<Box<str>>,
    }
}

record! {
    /// A tool that the agent may call.
    pub(crate) struct Tool = "a tool" {
        /// Name that the model calls; the tools of an MCP server are called `name__tool`.
        required name: At<Box<str>>,
        /// `mcp` is a server of the Model Context Protocol; `http`, `function` and `api` are an HTTP endpoint that
        /// takes the arguments as JSON.
        required r#type: At<Choice<ToolType>>,
        /// Address of the tool.
        optional url: At<Box<str>>,
        /// The program to start (MCP over stdio), with its arguments; `${VARIABLE}` is read when it is started.
        optional command: At<Command>,
        /// Environment variables of the program (MCP over stdio), in addition to PATH, HOME and the like; `${VARIABLE}`
        /// is read when it is started.
        optional env: At<Variables>,
        /// The tools of an MCP server that are offered to the model; all by default.
        optional allowed_tools: At<Vec<Box<str>>>,
        /// Description sent to the model.
        optional description: Box<str>,
        /// JSON Schema of its arguments; an MCP server defines those of its tools itself.
        optional parameters: At<Value>,
        /// Credentials sent with each call.
        optional auth: Auth,
        /// Seconds for one call; 30 by default.
        optional timeout_seconds: At<Seconds>,
        /// Policy for a call whose outcome a crash left unknown; `fail` by default.
        optional on_unknown: Choice<OnUnknown>,
    }
}

record! {
    /// Credentials of a tool.
    pub(crate) struct Auth = "`auth`" {
        /// Header that carries the token.
        required r#type: Choice<ToolAuthKind>,
        /// The token, as `${VARIABLE}`: it is read from the environment at the moment of the call.
        required token: Box<str>,
    }
}

record! {
    /// Attempts with fresh context after a failure.
    pub(crate) struct Retry = "`retry_config`" {
        /// Attempts after the first one; 2 by default.
        optional max_retries: At<u32>,
        /// Seconds before the first retry; 1 by default.
        optional retry_delay_seconds: Seconds,
        /// True to multiply the delay after each retry; true by default.
        optional exponential_backoff: bool,
        /// Factor of the delay after each retry; 2 by default.
        optional backoff_multiplier: At<f64>,
        /// Maximum delay in seconds; 60 by default.
        optional max_retry_delay: Seconds,
    }
}

record! {
    /// Conversations.
    pub(crate) struct Continuous = "`continuous_config`" {
        /// Seconds that an idle session stays in memory; 600 by default.
        optional idle_timeout_seconds: At<Seconds>,
        /// Accepted for older files; Agentry saves after every step.
        optional save_interval_seconds: At<Seconds>,
        /// Maximum number of messages sent with a turn; 50 by default.
        optional max_conversation_history: At<u32>,
        /// Treatment of older messages; `sliding_window` by default.
        optional conversation_pruning_strategy: Choice<Pruning>,
        /// Accepted for older files; Agentry always saves.
        optional auto_save_on_shutdown: At<bool>,
        /// Accepted for older files; Agentry always restores.
        optional restore_on_startup: At<bool>,
    }
}

record! {
    /// Plans over several agents.
    pub(crate) struct Collaborative = "`collaborative_config`" {
        /// Agents that the planner may assign steps to; all others of the fleet by default.
        optional preferred_collaborators: Vec<At<Box<str>>>,
        /// Another model for planning.
        optional planning_agent: Planner,
        /// Maximum number of steps of a plan; 10 by default.
        optional max_plan_steps: At<u32>,
        /// Minimum number of different agents in a plan; 1 by default.
        optional min_collaborators: At<u32>,
        /// Maximum number of different agents in a plan; 10 by default.
        optional max_collaborators: At<u32>,
        /// Strategy by which the planner divides the work; `hierarchical` by default.
        optional planning_strategy: Choice<PlanningStrategy>,
        /// True to let steps ask humans; false by default.
        optional allow_human_clarification: bool,
        /// Seconds that a question stays open; one day by default.
        optional clarification_timeout_seconds: At<Seconds>,
        /// Answer assumed when no human answers in time; without it the task fails.
        optional clarification_default: Box<str>,
        /// Seconds for one step; 120 by default.
        optional timeout_seconds: At<Seconds>,
    }
}

record! {
    /// Another model for planning.
    pub(crate) struct Planner = "`planning_agent`" {
        /// The exact model id, at the provider of `llm_config`.
        optional model | "model_id": Box<str>,
        /// Randomness, from 0 to 2.
        optional temperature: At<f64>,
    }
}

record! {
    /// The schedule of an agent.
    pub(crate) struct Schedule = "`schedule_config`" {
        /// `cron` or `interval`; derived from the other keys by default.
        optional r#type: At<Choice<ScheduleType>>,
        /// Five fields, or six with seconds first, or a nickname such as `@daily`.
        optional cron: At<Box<str>>,
        /// Distance between two slots, in seconds; at least 1.
        optional interval_seconds: At<Seconds>,
        /// IANA name such as Europe/Berlin; UTC by default.
        optional timezone: At<Box<str>>,
        /// Input of each task.
        optional task_data: Value,
        /// Seconds for each task.
        optional timeout_seconds: At<Seconds>,
        /// False to stop firing; true by default.
        optional enabled: bool,
        /// Policy for a slot that is due while the previous task still runs; `skip` by default.
        optional overlap: Choice<Overlap>,
        /// Slots missed by at most this many seconds are fired late; 60 by default.
        optional catchup_window_seconds: Seconds,
        /// Tasks start up to this many seconds after their slot; 0 by default.
        optional jitter_seconds: Seconds,
    }
}

record! {
    /// Spending limits.
    pub(crate) struct Budget = "`budget`" {
        /// Maximum cost of one task, in dollars.
        optional per_task_usd: Usd,
        /// Maximum cost of all tasks of a UTC day, in dollars.
        optional per_day_usd: Usd,
        /// Maximum number of model calls in one task, retries included.
        optional max_llm_calls: At<u32>,
        /// What becomes of calls of a model without a price when a limit in dollars is set.
        optional unpriced: At<Choice<Unpriced>>,
    }
}
