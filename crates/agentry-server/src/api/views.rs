//! What resources look like to callers: flat and stable, whatever the store keeps.

use agentry_core::agent::{AgentName, ExecutionMode};
use agentry_core::id::{ClarificationId, TaskId, WorkerId};
use agentry_core::journal::JournalEntry;
use agentry_core::money::NanoUsd;
use agentry_core::session::SessionId;
use agentry_core::task::{Priority, Spent, TaskError, TaskRecord, TaskSource, TaskStatus, TraceId};
use agentry_core::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Characters of what was asked or answered in a list.
const BRIEF_CHARS: usize = 160;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List<T> {
    /// The rows.
    pub(crate) items: Vec<T>,
    /// Pass it as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

/// A task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Task)]
pub(crate) struct TaskView {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub(crate) id: TaskId,
    /// Who does it.
    #[schema(value_type = String)]
    pub(crate) agent: AgentName,
    /// `autonomous`, `continuous`, `collaborative` or `scheduled`.
    #[schema(value_type = String)]
    pub(crate) mode: ExecutionMode,
    /// `queued`, `running`, `waiting`, `completed`, `failed`, `timed_out` or `cancelled`.
    #[schema(value_type = String)]
    pub(crate) status: TaskStatus,
    /// The conversation it belongs to, as `agent:key`; continuous agents only.
    #[schema(value_type = Option<String>)]
    pub(crate) session: Option<SessionId>,
    /// What was asked.
    pub(crate) input: Value,
    /// The answer, when it completed.
    pub(crate) output: Option<Value>,
    /// Why it did not complete: `code` and `message`.
    #[schema(value_type = Option<Object>)]
    pub(crate) error: Option<TaskError>,
    /// Which try this is, from 1.
    pub(crate) attempt: u32,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    /// When it was first claimed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) finished_at: Option<Timestamp>,
    /// From acceptance to its end, in milliseconds; absent while it is open.
    pub(crate) duration_ms: Option<f64>,
    /// Running time it is given, in seconds.
    pub(crate) timeout_seconds: f64,
    /// `low`, `normal` or `high`.
    #[schema(value_type = String)]
    pub(crate) priority: Priority,
    /// Which door it came through.
    #[schema(value_type = Object)]
    pub(crate) source: TaskSource,
    /// W3C trace id, 32 hex digits.
    #[schema(value_type = String)]
    pub(crate) trace_id: TraceId,
    /// The version of the agent it runs on, once it has begun.
    pub(crate) agent_version: Option<String>,
    /// The worker that owns it, while it runs.
    #[schema(value_type = Option<String>)]
    pub(crate) worker: Option<WorkerId>,
    /// Whether somebody asked to cancel it while it runs.
    pub(crate) cancel_requested: bool,
    /// What it has cost so far.
    pub(crate) spent: SpentView,
    /// The open questions it waits for.
    #[schema(value_type = Vec<String>)]
    pub(crate) clarifications: Vec<ClarificationId>,
}

/// What was spent on a task.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Spent)]
pub(crate) struct SpentView {
    /// Calls to providers.
    llm_calls: u32,
    /// Tokens sent.
    input_tokens: u64,
    /// Tokens received.
    output_tokens: u64,
    /// What the priced calls cost, in US dollars: an exact decimal number.
    cost_usd: String,
    /// The same in billionths of a dollar.
    #[schema(value_type = i64)]
    cost_nanos: NanoUsd,
    /// Calls whose model has no price; their cost is not in the sums.
    unpriced_calls: u32,
}

impl From<&Spent> for SpentView {
    fn from(spent: &Spent) -> Self {
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

/// Dollars as an exact decimal number without the sign of the currency.
pub(crate) fn decimal_usd(amount: NanoUsd) -> String {
    amount.to_string().replacen('$', "", 1)
}

impl TaskView {
    /// The view of a record.
    pub(crate) fn of(record: &TaskRecord) -> Self {
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

impl TaskView {
    /// The view of a record in a list: what was asked and answered is cut to [`BRIEF_CHARS`] characters of text.
    pub(crate) fn brief(record: &TaskRecord) -> Self {
        let mut view = Self::of(record);
        view.input = cut(&view.input);
        view.output = view.output.as_ref().map(cut);
        if let Some(error) = &mut view.error
            && let Some((at, _)) = error.message.char_indices().nth(BRIEF_CHARS)
        {
            error.message.truncate(at);
            error.message.push('…');
        }
        view
    }
}

/// The beginning of a value as text.
fn cut(value: &Value) -> Value {
    let whole = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut line: String = whole.chars().take(BRIEF_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if whole.chars().nth(BRIEF_CHARS).is_some() {
        line.push('…');
    }
    Value::String(line)
}

/// A task with its journal.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskDetail {
    /// The task.
    #[serde(flatten)]
    pub(crate) task: TaskView,
    /// Its journal, when it was asked for: every model and tool call, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub(crate) journal: Option<Vec<JournalEntry>>,
}
