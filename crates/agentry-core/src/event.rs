//! Events, in the shape of CloudEvents 1.0.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::AgentName;
use crate::id::TaskId;
use crate::task::{Outcome, TaskStatus, TraceId};
use crate::time::Timestamp;
use crate::topic::TopicPattern;
use crate::trace::{Parent, Trace};

/// An event. Deduplicated by (`source`, `id`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Unique within its source.
    pub id: String,
    /// Origin of the event, as a CloudEvents source.
    pub source: String,
    /// Type of the event, for example `dev.agentry.task.completed.v1`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Topic.
    pub topic: String,
    /// Time of occurrence.
    pub time: Timestamp,
    /// Trace id.
    pub trace_id: TraceId,
    /// The publishing span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Number of agents that triggered one another before this event.
    #[serde(default)]
    pub hops: u8,
    /// Payload.
    pub data: Value,
}

impl Event {
    /// Returns the trace context that the event carries.
    #[must_use]
    pub fn trace(&self) -> Trace {
        Trace { id: self.trace_id, parent: self.parent }
    }
}

/// Returns the topic of an agent's results.
#[must_use]
pub fn output_topic(agent: &AgentName) -> String {
    format!("agent.output.{agent}")
}

/// Returns the event type for a task that ended with this status.
#[must_use]
pub fn outcome_kind(status: TaskStatus) -> String {
    format!("dev.agentry.task.{status}.v1")
}

/// Returns an outcome as callbacks and subscribers receive it.
#[must_use]
pub fn outcome_data(task: TaskId, agent: &AgentName, outcome: &Outcome) -> Value {
    serde_json::json!({
        "task_id": task,
        "agent": agent,
        "status": outcome.status,
        "output": outcome.output,
        "error": outcome.error,
    })
}

/// A subscription of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The topics.
    pub pattern: TopicPattern,
    /// The agent.
    pub agent: AgentName,
}
