//! `/v1/tasks`: tasks and their results.

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

/// A task to submit. Borrows from the request body where possible.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a task: an object with `agent` and `input`")]
pub struct TaskRequest<'a> {
    /// Agent of the task.
    #[serde(borrow)]
    #[schema(value_type = String)]
    pub agent: Cow<'a, str>,
    /// Input: text or any JSON value.
    pub input: Value,
    /// Session key, at most 256 bytes; continuous agents only. Default: a new session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Priority in the queue: `low`, `normal` (default) or `high`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub priority: Priority,
    /// Timeout of the execution in seconds, above 0 and at most 86,400. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
    /// URL to which the signed result is posted (http or https).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// Budget of its model calls in US dollars: a number or a string with at most nine decimals.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub budget: Option<&'a RawValue>,
    /// Stream the output of models from the first call, for callers that follow `/v1/tasks/{id}/events`. Default: false.
    #[serde(default)]
    pub stream: bool,
    /// Idempotency key: a repeated request returns the same task for 24 h. The `Idempotency-Key` header takes precedence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// The query of `POST /v1/tasks`.
#[derive(Debug, Default, Clone, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SubmitQuery {
    /// Seconds to wait for the end of the task, at most 60.
    pub wait: Option<f64>,
}

impl<'a> TaskRequest<'a> {
    /// Returns a request with default options.
    pub fn new(agent: impl Into<Cow<'a, str>>, input: impl Into<Value>) -> Self {
        Self { agent: agent.into(), input: input.into(), ..Self::default() }
    }
}

/// The receipt of an accepted task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskReceipt {
    /// Id of the task.
    #[schema(value_type = String, format = "uuid")]
    pub id: TaskId,
    /// Status of the task.
    #[schema(value_type = String)]
    pub status: TaskStatus,
    /// W3C trace id, 32 hex digits.
    #[schema(value_type = String)]
    pub trace_id: TraceId,
    /// Session, as `agent:key`; continuous agents only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub session: Option<SessionId>,
}

impl From<&Task> for TaskReceipt {
    /// Returns the receipt of a new task.
    fn from(task: &Task) -> Self {
        let (trace_id, session) = (task.trace_id, task.session.clone());
        Self { id: task.id, status: TaskStatus::Queued, trace_id, session }
    }
}

/// The reply to a submission with `wait`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum SubmitReply {
    /// The task ended in time.
    Ended(Box<TaskView>),
    /// The task has not ended yet.
    Accepted(TaskReceipt),
}

/// A task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Task)]
pub struct TaskView {
    /// Id of the task.
    #[schema(value_type = String, format = "uuid")]
    pub id: TaskId,
    /// Agent of the task.
    #[schema(value_type = String)]
    pub agent: AgentName,
    /// Execution mode: `autonomous`, `continuous`, `collaborative` or `scheduled`.
    #[schema(value_type = String)]
    pub mode: ExecutionMode,
    /// Status: `queued`, `running`, `waiting`, `completed`, `failed`, `timed_out` or `cancelled`.
    #[schema(value_type = String)]
    pub status: TaskStatus,
    /// Session, as `agent:key`; continuous agents only.
    #[schema(value_type = Option<String>)]
    pub session: Option<SessionId>,
    /// Input.
    pub input: Value,
    /// Output of a completed task.
    pub output: Option<Value>,
    /// Error of a failed task: `code` and `message`.
    #[schema(value_type = Option<Object>)]
    pub error: Option<TaskError>,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Time of acceptance.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Time of the first claim.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// Time of the end.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Time from acceptance to end, in milliseconds; absent while the task is open.
    pub duration_ms: Option<f64>,
    /// Timeout of the execution, in seconds.
    pub timeout_seconds: f64,
    /// Priority: `low`, `normal` or `high`.
    #[schema(value_type = String)]
    pub priority: Priority,
    /// Origin of the task: `kind` and its details.
    #[schema(value_type = Object)]
    pub source: TaskSource,
    /// W3C trace id, 32 hex digits.
    #[schema(value_type = String)]
    pub trace_id: TraceId,
    /// Version of the agent, once the task has started.
    pub agent_version: Option<String>,
    /// Id of the worker that executes it.
    #[schema(value_type = Option<String>)]
    pub worker: Option<WorkerId>,
    /// True if cancellation was requested while it runs.
    pub cancel_requested: bool,
    /// Usage so far.
    pub spent: SpentView,
    /// Ids of the open clarifications that it waits for.
    #[schema(value_type = Vec<String>)]
    pub clarifications: Vec<ClarificationId>,
}

/// The usage of a task.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[schema(as = Spent)]
pub struct SpentView {
    /// Number of provider calls.
    pub llm_calls: u32,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Cost of the priced calls in US dollars, as an exact decimal number.
    pub cost_usd: String,
    /// Cost of the priced calls in billionths of a US dollar.
    #[schema(value_type = i64)]
    pub cost_nanos: NanoUsd,
    /// Number of calls without a price, whose cost is not included.
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
    /// Journal, if requested: all model and tool calls, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub journal: Option<Vec<JournalEntry>>,
}

/// The query of a list of tasks.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TaskQuery {
    /// Only tasks of this agent.
    pub agent: Option<String>,
    /// Only tasks with this status.
    pub status: Option<String>,
    /// Only tasks with this execution mode.
    pub mode: Option<String>,
    /// Only tasks of this session, as `agent:key`.
    pub session: Option<String>,
    /// Truncate inputs and outputs to a line.
    #[serde(default)]
    pub brief: bool,
    /// `next_cursor` of the previous page.
    pub cursor: Option<String>,
    /// Rows of the page, 1 to 1,000. Default: 50.
    pub limit: Option<usize>,
}

/// The query of a task.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TaskDetailQuery {
    /// Include the journal: all model and tool calls.
    #[serde(default)]
    pub journal: bool,
}

/// The result of a cancellation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CancelReply {
    /// Id of the task.
    #[schema(value_type = String, format = "uuid")]
    pub id: TaskId,
    /// Status: `cancelled`, or `running` until its worker has stopped.
    #[schema(value_type = String)]
    pub status: TaskStatus,
}

/// A batch of tasks to submit.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest<'a> {
    /// Tasks, at most 1,000.
    #[serde(borrow)]
    pub tasks: Vec<TaskRequest<'a>>,
}

/// The results of a batch.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct BatchReply<'a> {
    /// Number of accepted tasks, including duplicates of earlier requests.
    pub accepted: usize,
    /// Number of refused tasks.
    pub refused: usize,
    /// One row per task, in order: `id` and `trace_id`, or `error`.
    pub tasks: Vec<BatchRow<'a>>,
}

/// The result of one task of a batch.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum BatchRow<'a> {
    /// Accepted.
    Accepted {
        /// Id of the task.
        #[schema(value_type = String)]
        id: TaskId,
        /// W3C trace id, if this request created the task.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        trace_id: Option<TraceId>,
        /// Session, as `agent:key`; continuous agents only.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        session: Option<SessionId>,
        /// True if an earlier request with the same idempotency key created the task.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
    },
    /// Refused.
    Refused {
        /// Problem of the task.
        #[schema(inline)]
        error: ProblemBody<'a>,
    },
}
