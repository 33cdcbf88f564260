//! The outbox: what must leave once a task has ended, written in the transaction that ended it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Event, outcome_data, outcome_kind, output_topic};
use crate::id::{OutboxId, TaskId};
use crate::slack::{Replaces, SlackContent, SlackMessage};
use crate::task::{Outcome, Task};
use crate::time::Timestamp;
use crate::trace::Trace;

/// A message that waits to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxMessage {
    /// Its name; receivers may deduplicate on it.
    pub id: OutboxId,
    /// The task that caused it; `None` for an event that came in.
    pub task: Option<TaskId>,
    /// When it was written.
    pub created_at: Timestamp,
    /// The trace that the delivery belongs to, where who wrote it knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// What and where to.
    pub body: OutboxBody,
}

/// What waits to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum OutboxBody {
    /// An event for subscribers.
    Event {
        /// The event.
        event: Event,
        /// Whether its subscribers have it already: then only listeners outside wait for it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_accepted: bool,
    },
    /// A signed HTTP POST (Standard Webhooks).
    Callback {
        /// Where to.
        url: String,
        /// The body.
        payload: Value,
    },
    /// Something to say in Slack.
    Slack {
        /// What and where.
        message: Box<SlackMessage>,
    },
}

impl OutboxBody {
    /// The word of its kind: `event`, `callback`, `slack`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Event { .. } => "event",
            Self::Callback { .. } => "callback",
            Self::Slack { .. } => "slack",
        }
    }
}

impl OutboxMessage {
    /// Hangs the delivery, and what an event starts, under another span.
    pub fn set_trace(&mut self, trace: Trace) {
        self.trace = Some(trace);
        if let OutboxBody::Event { event, .. } = &mut self.body {
            (event.trace_id, event.parent) = (trace.id, trace.parent);
        }
    }

    /// Says which post an answer in Slack replaces; anything else stays as it is.
    pub fn set_replaces(&mut self, post: &Replaces) {
        if let OutboxBody::Slack { message } = &mut self.body
            && let SlackContent::Answer { replaces, .. } = &mut message.content
        {
            replaces.clone_from(post);
        }
    }
}

/// What must leave when a task ends: its callback, its answer in Slack, and its event when somebody may listen
/// (`publish`).
#[must_use]
pub fn messages_of_end(
    task: &Task,
    outcome: &Outcome,
    at: Timestamp,
    publish: bool,
    mut new_id: impl FnMut() -> OutboxId,
) -> Vec<OutboxMessage> {
    let mut bodies = Vec::new();
    if publish {
        bodies.push(OutboxBody::Event {
            event: Event {
                id: task.id.to_string(),
                source: format!("agentry/agents/{}", task.agent),
                kind: outcome_kind(outcome.status),
                topic: output_topic(&task.agent),
                time: at,
                trace_id: task.trace_id,
                parent: task.parent,
                hops: task.hops,
                data: outcome_data(task.id, &task.agent, outcome),
            },
            is_accepted: false,
        });
    }
    if let Some(url) = &task.callback_url {
        bodies.push(OutboxBody::Callback { url: url.clone(), payload: outcome_data(task.id, &task.agent, outcome) });
    }
    if let Some(place) = task.reply_to.as_ref().and_then(|to| to.slack()) {
        let message = SlackMessage::of_outcome(place, &task.agent, outcome, task.created_at);
        bodies.push(OutboxBody::Slack { message: Box::new(message) });
    }
    let trace = Some(task.trace());
    bodies
        .into_iter()
        .map(|body| OutboxMessage { id: new_id(), task: Some(task.id), created_at: at, trace, body })
        .collect()
}
