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

/// Calls by their ids.
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

/// How far a call has come.
enum Progress {
    /// Its journal entry is on the way into the store.
    Announced,
    /// It left the process, or may have.
    Left,
    /// It failed; what is to be written of that.
    Failed(Box<(JournalBody, LedgerRow)>),
}

/// What is left to write of a call that was given up: for its part of the task, an entry and a row.
pub(crate) type GivenUp = (Scope, Option<JournalBody>, Option<LedgerRow>);

impl OpenCalls {
    /// The calls that a journal saw leave and not come back: their worker died.
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

    /// A call is about to be journaled.
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

    /// Its entry is durable: it leaves the process.
    pub fn left(&mut self, call: CallId) {
        self.progress(call, Progress::Left);
    }

    /// It failed, and its row is not kept yet.
    pub fn failed(&mut self, call: CallId, body: JournalBody, row: LedgerRow) {
        self.progress(call, Progress::Failed(Box::new((body, row))));
    }

    fn progress(&mut self, call: CallId, progress: Progress) {
        if let Some(open) = self.0.get_mut(&call) {
            open.progress = progress;
        }
    }

    /// Its row is kept.
    pub fn ended(&mut self, call: CallId) {
        self.0.remove(&call);
    }

    /// Gives up the calls of a part of the task, or all.
    pub fn abandon(&mut self, scope: Option<&Scope>, task: TaskId, at: Timestamp) -> Vec<GivenUp> {
        let mut given_up: Vec<(CallId, OpenCall)> =
            self.0.extract_if(|_, open| scope.is_none_or(|scope| open.scope == *scope)).collect();
        // In an order that is the same for every run of a test.
        given_up.sort_unstable_by_key(|(call, _)| *call.as_bytes());
        given_up.into_iter().map(|(call, open)| open.give_up(call, task, at)).collect()
    }
}

impl OpenCall {
    fn give_up(self, call: CallId, task: TaskId, at: Timestamp) -> GivenUp {
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
                    // What the provider counted is not known.
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
