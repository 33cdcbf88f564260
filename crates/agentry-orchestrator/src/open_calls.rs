//! Model calls of a run that have no ledger row yet.

use std::collections::HashMap;

use agentry_core::agent::{AgentName, ProviderKind};
use agentry_core::chat::Usage;
use agentry_core::id::{CallId, TaskId};
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::money::{CallStatus, LedgerRow};
use agentry_core::task::{ErrorCode, TaskError};
use agentry_core::time::Timestamp;
use agentry_llm::Call;

#[derive(Default)]
pub(crate) struct OpenCalls(HashMap<CallId, OpenCall>);

struct OpenCall {
    provider: ProviderKind,
    model: String,
    agent: AgentName,
    scope: Scope,
    turn: u32,
    progress: Progress,
}

enum Progress {
    /// The journal entry is being written.
    Announced,
    /// The call left the process, or may have.
    Left,
    /// The call failed; with its pending writes.
    Failed(Box<(JournalBody, LedgerRow)>),
}

/// The remaining writes of an abandoned call: its scope, a journal entry and a ledger row.
pub(crate) type AbandonedCall = (Scope, Option<JournalBody>, Option<LedgerRow>);

impl OpenCalls {
    /// Returns the calls that a journal saw leave and not return, because their worker died.
    pub fn of_journal(past: &[JournalEntry], agent: &AgentName) -> Self {
        let mut open = HashMap::new();
        for entry in past {
            match &entry.body {
                JournalBody::ModelStarted { call, turn, provider, model } => {
                    let (provider, model, agent) = (*provider, model.clone(), agent.clone());
                    let (scope, turn) = (entry.scope.clone(), *turn);
                    open.insert(*call, OpenCall { provider, model, agent, scope, turn, progress: Progress::Left });
                }
                JournalBody::ModelCompleted { call, .. } | JournalBody::ModelFailed { call, .. } => {
                    open.remove(call);
                }
                _ => {}
            }
        }
        Self(open)
    }

    /// Adds a call that is about to be journaled.
    pub fn announce(&mut self, call: &Call, turn: u32, scope: &Scope) {
        let open = OpenCall {
            provider: call.target.provider,
            model: call.target.model.to_string(),
            agent: call.agent.clone(),
            scope: scope.clone(),
            turn,
            progress: Progress::Announced,
        };
        self.0.insert(call.id, open);
    }

    /// Marks a call whose entry is durable as sent.
    pub fn left(&mut self, call: CallId) {
        self.progress(call, Progress::Left);
    }

    /// Marks a call as failed whose row is not kept yet.
    pub fn failed(&mut self, call: CallId, body: JournalBody, row: LedgerRow) {
        self.progress(call, Progress::Failed(Box::new((body, row))));
    }

    fn progress(&mut self, call: CallId, progress: Progress) {
        if let Some(open) = self.0.get_mut(&call) {
            open.progress = progress;
        }
    }

    /// Removes a call whose row is kept.
    pub fn ended(&mut self, call: CallId) {
        self.0.remove(&call);
    }

    /// Abandons the calls of a scope, or all.
    pub fn abandon(&mut self, scope: Option<&Scope>, task: TaskId, at: Timestamp) -> Vec<AbandonedCall> {
        let mut abandoned: Vec<(CallId, OpenCall)> =
            self.0.extract_if(|_, open| scope.is_none_or(|scope| open.scope == *scope)).collect();
        // The order is the same in every run of a test.
        abandoned.sort_unstable_by_key(|(call, _)| *call.as_bytes());
        abandoned.into_iter().map(|(call, open)| open.abandon(call, task, at)).collect()
    }
}

impl OpenCall {
    fn abandon(self, call: CallId, task: TaskId, at: Timestamp) -> AbandonedCall {
        match self.progress {
            Progress::Announced => {
                let error = TaskError::new(ErrorCode::Cancelled, "given up before the call left");
                let body = JournalBody::ModelFailed { call, turn: self.turn, error, duration_us: 0 };
                (self.scope, Some(body), None)
            }
            Progress::Left => {
                let row = LedgerRow {
                    call,
                    task,
                    agent: self.agent,
                    provider: self.provider,
                    model: self.model,
                    status: CallStatus::Failed,
                    // The tokens that the provider counted are unknown.
                    usage: Usage::default(),
                    provider_call: None,
                    cost: None,
                    at,
                    duration_us: 0,
                };
                (self.scope, None, Some(row))
            }
            Progress::Failed(written) => (self.scope, Some(written.0), Some(written.1)),
        }
    }
}
