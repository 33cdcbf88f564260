//! The journal: every call of a task, written before and after, in order.
//!
//! It is the task's memory. Recovery replays it into the loop machine, a task's page draws it, and server-sent
//! events are its entries with their numbers.

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

/// Which part of a task an entry belongs to: `main`, `plan`, `step/<id>` or `aggregate`.
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
    /// The summary of what leaves a session's window.
    pub const SUMMARY: Self = Self(std::borrow::Cow::Borrowed("summary"));

    /// The loop of one step of a plan.
    #[must_use]
    pub fn step(id: &str) -> Self {
        Self(format!("step/{id}").into())
    }

    /// Its text.
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
    /// Its number within the task, from 1, without gaps.
    pub seq: u32,
    /// The attempt it was written in.
    pub attempt: u32,
    /// Which part of the task.
    pub scope: Scope,
    /// When.
    pub at: Timestamp,
    /// What.
    pub body: JournalBody,
}

/// What an entry says. `turn` counts model calls within a scope and attempt, from 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum JournalBody {
    /// A model call is about to leave the process.
    ModelStarted {
        /// The call.
        call: CallId,
        /// Which turn.
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
        /// Which turn.
        turn: u32,
        /// The provider.
        provider: ProviderKind,
        /// The answer.
        reply: ChatReply,
        /// What it cost; `None`: unpriced.
        cost: Option<NanoUsd>,
        /// How long it took, in microseconds.
        duration_us: u64,
        /// Time to the first content, in microseconds, when it streamed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_token_us: Option<u64>,
    },
    /// A model call failed for good.
    ModelFailed {
        /// The call.
        call: CallId,
        /// Which turn.
        turn: u32,
        /// Why.
        error: TaskError,
        /// How long it took, in microseconds.
        duration_us: u64,
    },
    /// A tool call is about to be made.
    ToolStarted {
        /// The turn whose answer asked for it.
        turn: u32,
        /// The call.
        call: ToolCall,
    },
    /// A tool call returned.
    ToolCompleted {
        /// The turn whose answer asked for it.
        turn: u32,
        /// Which call.
        call_id: String,
        /// What it returned.
        output: String,
        /// Whether the tool called it an error.
        #[serde(default)]
        is_error: bool,
        /// How long it took, in microseconds.
        duration_us: u64,
    },
    /// The plan that is being carried out.
    PlanAccepted {
        /// The plan.
        plan: Plan,
        /// The version of each agent that a step is given to: steps run on them whatever the fleet becomes.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        versions: BTreeMap<AgentName, Box<str>>,
    },
    /// A plan that was refused; the planner is asked once more.
    PlanRejected {
        /// Everything that is wrong with it.
        problems: Vec<String>,
    },
    /// A step of the plan ended well: a checkpoint that survives attempts.
    StepCompleted {
        /// The step.
        step: String,
        /// Its output.
        output: Value,
    },
    /// A step of the plan failed.
    StepFailed {
        /// The step.
        step: String,
        /// Why.
        error: TaskError,
    },
    /// A human was asked.
    Asked {
        /// The question.
        clarification: ClarificationId,
        /// The call that asked, when a model did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        call_id: Option<String>,
        /// What was asked.
        question: String,
    },
    /// A question ended.
    Answered {
        /// The question.
        clarification: ClarificationId,
        /// How.
        resolution: Resolution,
    },
    /// An attempt failed and another follows.
    AttemptFailed {
        /// Why.
        error: TaskError,
        /// Not before this moment.
        retry_at: Timestamp,
    },
    /// The owner is shutting down and gave the task back.
    HandedBack {
        /// Who.
        worker: WorkerId,
    },
    /// The owner died; another worker goes on from here.
    Recovered {
        /// Who died.
        worker: WorkerId,
    },
}
