//! The outbox: messages to deliver once a task has ended, written in the transaction that ended it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::event::{Event, outcome_data, outcome_kind, output_topic};
use crate::id::{OutboxId, TaskId};
use crate::slack::{ReplacedPost, SlackContent, SlackMessage};
use crate::task::{Outcome, Task};
use crate::time::Timestamp;
use crate::trace::Trace;

/// A message to deliver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxMessage {
    /// Unique id; receivers may deduplicate by it.
    pub id: OutboxId,
    /// Task that caused the message; `None` for a published event.
    pub task: Option<TaskId>,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Trace of the delivery, if the writer knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
    /// Content and destination.
    pub body: OutboxBody,
}

/// The content and destination of an outbox message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum OutboxBody {
    /// An event for subscribers.
    Event {
        /// The event.
        event: Event,
        /// True if its subscribers have been served: then only external listeners remain.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_accepted: bool,
    },
    /// A signed HTTP POST (Standard Webhooks).
    Callback {
        /// Address that receives the request.
        url: String,
        /// The body.
        payload: Value,
    },
    /// A message to Slack.
    Slack {
        /// Content and destination.
        message: Box<SlackMessage>,
    },
}

impl OutboxBody {
    /// Returns the name of the kind: `event`, `callback`, `slack`.
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
    /// Makes another span the parent of the delivery, and of the work that an event starts.
    pub fn set_trace(&mut self, trace: Trace) {
        self.trace = Some(trace);
        if let OutboxBody::Event { event, .. } = &mut self.body {
            (event.trace_id, event.parent) = (trace.id, trace.parent);
        }
    }

    /// Sets the post that an answer in Slack replaces; changes no other message.
    pub fn set_replaces(&mut self, post: &ReplacedPost) {
        if let OutboxBody::Slack { message } = &mut self.body
            && let SlackContent::Answer { replaces, .. } = &mut message.content
        {
            replaces.clone_from(post);
        }
    }
}

/// The decision to announce the end of a task by an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndEvent {
    /// Published, because a subscriber or an external listener may exist.
    Published,
    /// Omitted, because nobody listens.
    Omitted,
}

/// Returns the messages that announce the end of a task: its callback, its answer in Slack, and its event.
#[must_use]
pub fn messages_of_end(
    task: &Task,
    outcome: &Outcome,
    at: Timestamp,
    event: EndEvent,
    mut new_id: impl FnMut() -> OutboxId,
) -> Vec<OutboxMessage> {
    let mut bodies = Vec::new();
    if event == EndEvent::Published {
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
