//! Events: what topics carry, in the shape of CloudEvents 1.0.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::AgentName;
use crate::id::TaskId;
use crate::task::{Outcome, TaskStatus, TraceId};
use crate::time::Timestamp;
use crate::topic::TopicPattern;
use crate::trace::{Parent, Trace};

/// Something that happened. Deduplicated on (`source`, `id`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Unique within its source.
    pub id: String,
    /// Who says so.
    pub source: String,
    /// What kind, for example `dev.agentry.task.completed.v1`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The topic it was published on.
    pub topic: String,
    /// When.
    pub time: Timestamp,
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// The span that published it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// How many agents triggered one another before it.
    #[serde(default)]
    pub hops: u8,
    /// What happened.
    pub data: Value,
}

impl Event {
    /// What it brings along of its trace.
    #[must_use]
    pub fn trace(&self) -> Trace {
        Trace { id: self.trace_id, parent: self.parent }
    }
}

/// The topic on which an agent's results go out.
#[must_use]
pub fn output_topic(agent: &AgentName) -> String {
    format!("agent.output.{agent}")
}

/// The type of an event that tells of a task's end.
#[must_use]
pub fn outcome_kind(status: TaskStatus) -> String {
    format!("dev.agentry.task.{status}.v1")
}

/// What an outcome looks like to callbacks and subscribers.
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

/// A subscription in a fleet: who gets what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The topics.
    pub pattern: TopicPattern,
    /// The agent.
    pub agent: AgentName,
}
