//! The journal: every call of a task, written before and after, in order.
//!
//! Recovery replays it into the agent loop, a task's page displays it, and server-sent events are its entries with
//! their numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::{AgentName, ProviderKind};
use crate::chat::{ChatReply, ToolCall};
use crate::clarification::Resolution;
use crate::id::{CallId, ClarificationId, WorkerId};
use crate::money::NanoUsd;
use crate::plan::Plan;
use crate::task::TaskError;
use crate::time::Timestamp;

/// The part of a task that an entry belongs to: `main`, `plan`, `step/<id>` or `aggregate`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(std::borrow::Cow<'static, str>);

impl Scope {
    /// The loop of a task with a single agent.
    pub const MAIN: Self = Self(std::borrow::Cow::Borrowed("main"));
    /// The planning call.
    pub const PLAN: Self = Self(std::borrow::Cow::Borrowed("plan"));
    /// The aggregation of step results.
    pub const AGGREGATE: Self = Self(std::borrow::Cow::Borrowed("aggregate"));
    /// The summary of messages removed from a session's window.
    pub const SUMMARY: Self = Self(std::borrow::Cow::Borrowed("summary"));

    /// Returns the scope of a step of a plan.
    #[must_use]
    pub fn step(id: &str) -> Self {
        Self(format!("step/{id}").into())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Scope {
    fn from(text: String) -> Self {
        match text.as_str() {
            "main" => Self::MAIN,
            _ => Self(text.into()),
        }
    }
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Number within the task, from 1, without gaps.
    pub seq: u32,
    /// Attempt that wrote it.
    pub attempt: u32,
    /// Part of the task.
    pub scope: Scope,
    /// Time of the entry.
    pub at: Timestamp,
    /// Content.
    pub body: JournalBody,
}

/// The content of an entry. `turn` counts model calls within a scope and attempt, from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum JournalBody {
    /// A model call is about to leave the process.
    ModelStarted {
        /// The call.
        call: CallId,
        /// Number of the turn.
        turn: u32,
        /// The provider.
        provider: ProviderKind,
        /// The model.
        model: String,
    },
    /// A model call was answered.
    ModelCompleted {
        /// The call.
        call: CallId,
        /// Number of the turn.
        turn: u32,
        /// The provider.
        provider: ProviderKind,
        /// The answer.
        reply: ChatReply,
        /// Cost; `None` if the model has no price.
        cost: Option<NanoUsd>,
        /// Duration, in microseconds.
        duration_us: u64,
        /// Time to the first content, in microseconds, when it streamed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_token_us: Option<u64>,
    },
    /// A model call failed for good.
    ModelFailed {
        /// The call.
        call: CallId,
        /// Number of the turn.
        turn: u32,
        /// Reason.
        error: TaskError,
        /// Duration, in microseconds.
        duration_us: u64,
    },
    /// A tool call is about to be made.
    ToolStarted {
        /// Turn of the answer that requested the call.
        turn: u32,
        /// The call.
        call: ToolCall,
    },
    /// A tool call returned.
    ToolCompleted {
        /// Turn of the answer that requested the call.
        turn: u32,
        /// Id of the call.
        call_id: String,
        /// Output of the tool.
        output: String,
        /// True if the tool reported an error.
        #[serde(default)]
        is_error: bool,
        /// Duration, in microseconds.
        duration_us: u64,
    },
    /// A plan was accepted.
    PlanAccepted {
        /// The plan.
        plan: Plan,
        /// Version of each agent that has a step: steps run on them whatever the fleet becomes.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        versions: BTreeMap<AgentName, Box<str>>,
    },
    /// A plan was rejected; the planner is asked once more.
    PlanRejected {
        /// Problems of the plan.
        problems: Vec<String>,
    },
    /// A step of the plan succeeded: a checkpoint that survives attempts.
    StepCompleted {
        /// The step.
        step: String,
        /// Output.
        output: Value,
    },
    /// A step of the plan failed.
    StepFailed {
        /// The step.
        step: String,
        /// Reason.
        error: TaskError,
    },
    /// A human was asked.
    Asked {
        /// The question.
        clarification: ClarificationId,
        /// The model's call that asked, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call_id: Option<String>,
        /// Text of the question.
        question: String,
    },
    /// A question was resolved.
    Answered {
        /// The question.
        clarification: ClarificationId,
        /// Result.
        resolution: Resolution,
    },
    /// An attempt failed and another follows.
    AttemptFailed {
        /// Reason.
        error: TaskError,
        /// Time of the next attempt.
        retry_at: Timestamp,
    },
    /// The owner is shutting down and released the task.
    HandedBack {
        /// The worker that released the task.
        worker: WorkerId,
    },
    /// The owner died; another worker continues from here.
    Recovered {
        /// The worker that died.
        worker: WorkerId,
    },
}
