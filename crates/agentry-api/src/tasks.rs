//! `/v1/tasks`: work to do, and what became of it.

use std::borrow::Cow;

use agentry_core::agent::{AgentName, ExecutionMode};
use agentry_core::id::{ClarificationId, TaskId, WorkerId};
use agentry_core::journal::JournalEntry;
use agentry_core::money::NanoUsd;
use agentry_core::session::SessionId;
use agentry_core::task::{Priority, Task, TaskError, TaskRecord, TaskSource, TaskStatus, TaskUsage, TraceId};
use agentry_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use crate::decimal_usd;
use crate::problem::ProblemBody;

/// What a caller asks for. Borrows from the body where the body allows it.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a task: an object with `agent` and `input`")]
pub struct TaskRequest<'a> {
    /// Who is to do it.
    #[serde(borrow)]
    #[schema(value_type = String)]
    pub agent: Cow<'a, str>,
    /// What is asked: text or any JSON value.
    pub input: Value,
    /// The conversation it belongs to (continuous agents only); a new one when absent. At most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Which of the waiting tasks goes first: `low`, `normal` (default) or `high`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub priority: Priority,
    /// Running time it is given, in seconds: above 0, at most 86,400; 300 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
    /// Where to post the outcome, signed: http or https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// The most that its model calls may cost together, in US dollars: a number or a string, read exactly, with at
    /// most nine decimals.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub budget: Option<&'a RawValue>,
    /// Whether you will follow `/v1/tasks/{id}/events`: the model's answers then stream from the first call on.
    #[serde(default)]
    pub stream: bool,
    /// The same key with the same request is the same task for 24 h. The `Idempotency-Key` header wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// The query of `POST /v1/tasks`.
#[derive(Debug, Default, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SubmitQuery {
    /// Wait up to this many seconds (at most 60) for the task to end.
    pub wait: Option<f64>,
}

impl<'a> TaskRequest<'a> {
    /// Asks `agent` for something, with every default.
    pub fn new(agent: impl Into<Cow<'a, str>>, input: impl Into<Value>) -> Self {
        Self { agent: agent.into(), input: input.into(), ..Self::default() }
    }
}

/// A task that is durable.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskReceipt {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: TaskId,
    /// Where it stands.
    #[schema(value_type = String)]
    pub status: TaskStatus,
    /// W3C trace id.
    #[schema(value_type = String)]
    pub trace_id: TraceId,
    /// Its conversation; continuous agents only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub session: Option<SessionId>,
}

impl From<&Task> for TaskReceipt {
    /// The receipt of a task that was accepted just now.
    fn from(task: &Task) -> Self {
        let (trace_id, session) = (task.trace_id, task.session.clone());
        Self { id: task.id, status: TaskStatus::Queued, trace_id, session }
    }
}

/// The answer to a task that is waited for.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum SubmitReply {
    /// It ended in time.
    Ended(Box<TaskView>),
    /// It takes longer.
    Accepted(TaskReceipt),
}

/// A task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Task)]
pub struct TaskView {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: TaskId,
    /// Who does it.
    #[schema(value_type = String)]
    pub agent: AgentName,
    /// `autonomous`, `continuous`, `collaborative` or `scheduled`.
    #[schema(value_type = String)]
    pub mode: ExecutionMode,
    /// `queued`, `running`, `waiting`, `completed`, `failed`, `timed_out` or `cancelled`.
    #[schema(value_type = String)]
    pub status: TaskStatus,
    /// The conversation it belongs to, as `agent:key`; continuous agents only.
    #[schema(value_type = Option<String>)]
    pub session: Option<SessionId>,
    /// What was asked.
    pub input: Value,
    /// The answer, when it completed.
    pub output: Option<Value>,
    /// Why it did not complete: `code` and `message`.
    #[schema(value_type = Option<Object>)]
    pub error: Option<TaskError>,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was first claimed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// From acceptance to its end, in milliseconds; absent while it is open.
    pub duration_ms: Option<f64>,
    /// Running time it is given, in seconds.
    pub timeout_seconds: f64,
    /// `low`, `normal` or `high`.
    #[schema(value_type = String)]
    pub priority: Priority,
    /// Which door it came through.
    #[schema(value_type = Object)]
    pub source: TaskSource,
    /// W3C trace id, 32 hex digits.
    #[schema(value_type = String)]
    pub trace_id: TraceId,
    /// The version of the agent it runs on, once it has begun.
    pub agent_version: Option<String>,
    /// The worker that owns it, while it runs.
    #[schema(value_type = Option<String>)]
    pub worker: Option<WorkerId>,
    /// Whether somebody asked to cancel it while it runs.
    pub cancel_requested: bool,
    /// What it has cost so far.
    pub spent: SpentView,
    /// The open questions it waits for.
    #[schema(value_type = Vec<String>)]
    pub clarifications: Vec<ClarificationId>,
}

/// What was spent on a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Spent)]
pub struct SpentView {
    /// Calls to providers.
    pub llm_calls: u32,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// What the priced calls cost, in US dollars: an exact decimal number.
    pub cost_usd: String,
    /// The same in billionths of a dollar.
    #[schema(value_type = i64)]
    pub cost_nanos: NanoUsd,
    /// Calls whose model has no price; their cost is not in the sums.
    pub unpriced_calls: u32,
}

impl From<&TaskRecord> for TaskView {
    fn from(record: &TaskRecord) -> Self {
        let task = &record.task;
        #[allow(clippy::cast_precision_loss, reason = "microseconds of a duration stay exact for 285 years")]
        let duration_ms = record.finished_at.map(|end| end.since(task.created_at).as_micros() as f64 / 1e3);
        Self {
            id: task.id,
            agent: task.agent.clone(),
            mode: task.mode,
            status: record.status,
            session: task.session.clone(),
            input: task.input.clone(),
            output: record.outcome.as_ref().and_then(|outcome| outcome.output.clone()),
            error: record.outcome.as_ref().and_then(|outcome| outcome.error.clone()),
            attempt: record.attempt,
            created_at: task.created_at,
            started_at: record.started_at,
            finished_at: record.finished_at,
            duration_ms,
            timeout_seconds: task.timeout().as_secs_f64(),
            priority: task.priority,
            source: task.source.clone(),
            trace_id: task.trace_id,
            agent_version: record.agent_version.clone(),
            worker: record.owner,
            cancel_requested: record.cancel_requested,
            spent: SpentView::from(&record.spent),
            clarifications: record.clarifications.clone(),
        }
    }
}

impl From<&TaskUsage> for SpentView {
    fn from(spent: &TaskUsage) -> Self {
        Self {
            llm_calls: spent.llm_calls,
            input_tokens: spent.input_tokens,
            output_tokens: spent.output_tokens,
            cost_usd: decimal_usd(spent.cost_nanos),
            cost_nanos: spent.cost_nanos,
            unpriced_calls: spent.unpriced_calls,
        }
    }
}

/// A task with its journal.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskDetail {
    /// The task.
    #[serde(flatten)]
    pub task: TaskView,
    /// Its journal, when it was asked for: every model and tool call, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub journal: Option<Vec<JournalEntry>>,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TaskQuery {
    /// Tasks of this agent.
    pub agent: Option<String>,
    /// Tasks in this status.
    pub status: Option<String>,
    /// Tasks of this mode.
    pub mode: Option<String>,
    /// Tasks of this session, as `agent:key`.
    pub session: Option<String>,
    /// Cut what was asked and answered to a line: for lists.
    #[serde(default)]
    pub brief: bool,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows, 1 to 1,000; 50 when absent.
    pub limit: Option<usize>,
}

/// What to show of a task.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TaskDetailQuery {
    /// Whether to show the journal: every model and tool call.
    #[serde(default)]
    pub journal: bool,
}

/// What became of a request to cancel.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CancelReply {
    /// The task.
    #[schema(value_type = String, format = "uuid")]
    pub id: TaskId,
    /// Where it stands: `cancelled`, or `running` until its worker has stopped.
    #[schema(value_type = String)]
    pub status: TaskStatus,
}

/// Tasks to accept.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest<'a> {
    /// The tasks, at most 1,000.
    #[serde(borrow)]
    pub tasks: Vec<TaskRequest<'a>>,
}

/// What became of the tasks, in their order.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct BatchReply<'a> {
    /// How many are durable, duplicates of earlier requests included.
    pub accepted: usize,
    /// How many were refused.
    pub refused: usize,
    /// One row for each task: `id` and `trace_id`, or `error`.
    pub tasks: Vec<BatchRow<'a>>,
}

/// What became of one task of a batch.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum BatchRow<'a> {
    /// It is durable.
    Accepted {
        /// Its id.
        #[schema(value_type = String)]
        id: TaskId,
        /// Its trace, when this request made it.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        trace_id: Option<TraceId>,
        /// Its conversation; continuous agents only.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        session: Option<SessionId>,
        /// Whether the same key brought the same task before.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
    },
    /// It was refused.
    Refused {
        /// Why.
        #[schema(inline)]
        error: ProblemBody<'a>,
    },
}
