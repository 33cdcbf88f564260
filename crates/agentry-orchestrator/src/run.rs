//! One claim of one task: its lease, its journal, and the only way to write for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_bus::Signal;
use agentry_core::agent::{AgentName, AgentSpec, LlmTarget, ProviderKind};
use agentry_core::chat::Usage;
use agentry_core::clarification::Clarification;
use agentry_core::id::{CallId, TaskId};
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::money::{CallStatus, LedgerRow, NanoUsd};
use agentry_core::slack::Replaces;
use agentry_core::task::{Task, TaskStatus};
use agentry_core::time::Timestamp;
use agentry_core::trace::{Place, SpanId};
use agentry_store::{Advance, Advanced, Claimed, Lease, Step, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, lock};
use crate::slack::{Progress, Shown, messages_of_questions};

/// Wait between tries of a write that the store could not take, in milliseconds; doubles up to [`MAX_WRITE_WAIT_MS`].
const FIRST_WRITE_WAIT_MS: u64 = 10;
/// The longest wait between tries of a write, in milliseconds.
const MAX_WRITE_WAIT_MS: u64 = 1_000;

/// Why a run ends without an outcome of its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stop {
    /// Another owner has the task, or it has ended: drop everything.
    Fenced,
    /// Somebody cancelled it.
    Cancelled,
    /// The process is shutting down: give it back.
    Draining,
    /// The store refuses the write for a reason that trying again does not mend.
    Broken(String),
}

/// One claim of one task.
pub(crate) struct Run {
    pub ctx: Arc<Context>,
    pub task: Arc<Task>,
    pub spec: Arc<AgentSpec>,
    pub lease: Lease,
    /// This claim in the task's trace.
    pub place: Place,
    pub attempt: u32,
    pub cancel: CancellationToken,
    /// The journal as it was when the task was claimed.
    pub past: Vec<JournalEntry>,
    /// Shows the task where it came from while it runs.
    progress: Mutex<Option<Progress>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_seq: u32,
    version_written: bool,
    pending: Vec<JournalEntry>,
    pending_ledger: Vec<LedgerRow>,
    /// Calls that left the process and have no ledger row yet.
    in_flight: HashMap<CallId, InFlight>,
    llm_calls: u32,
    cost: NanoUsd,
    /// Set aside for calls under way, by their reservation.
    reserved: HashMap<CallId, NanoUsd>,
}

/// A call that left the process.
pub(crate) struct InFlight {
    provider: ProviderKind,
    model: String,
    agent: AgentName,
}

impl InFlight {
    /// The ledger row of a call that was given up: what the provider counted is not known.
    pub fn abandoned(self, call: CallId, task: TaskId, at: Timestamp) -> LedgerRow {
        LedgerRow {
            call,
            task,
            agent: self.agent,
            provider: self.provider,
            model: self.model,
            status: CallStatus::Failed,
            usage: Usage::default(),
            provider_call: None,
            cost: None,
            at,
            duration_us: 0,
        }
    }
}

/// Calls that a journal saw leave and not come back: their worker died.
pub(crate) fn unanswered(past: &[JournalEntry], agent: &AgentName) -> HashMap<CallId, InFlight> {
    let mut open = HashMap::new();
    for entry in past {
        match &entry.body {
            JournalBody::ModelStarted { call, provider, model, .. } => {
                let flight = InFlight { provider: *provider, model: model.clone(), agent: agent.clone() };
                open.insert(*call, flight);
            }
            JournalBody::ModelCompleted { call, .. } | JournalBody::ModelFailed { call, .. } => {
                open.remove(call);
            }
            _ => {}
        }
    }
    open
}

impl Run {
    pub fn new(
        ctx: Arc<Context>,
        task: Arc<Task>,
        spec: Arc<AgentSpec>,
        claimed: &Claimed,
        cancel: CancellationToken,
        past: Vec<JournalEntry>,
    ) -> Self {
        let mut state = State {
            next_seq: past.last().map_or(1, |entry| entry.seq + 1),
            in_flight: unanswered(&past, &spec.name),
            ..State::default()
        };
        for entry in &past {
            if let JournalBody::ModelCompleted { cost, .. } = &entry.body {
                state.llm_calls += 1;
                state.cost = state.cost.plus(cost.unwrap_or_default());
            }
        }
        let (lease, attempt) = (claimed.lease, claimed.attempt);
        let progress = Mutex::new(Progress::start(&ctx, &task, lease.epoch == 1));
        let place = place(&ctx, &task, lease);
        Self { ctx, task, spec, lease, place, attempt, cancel, past, progress, state: Mutex::new(state) }
    }

    /// Where the text of the task's own model goes, when somebody in Slack waits for it.
    pub fn shown(&self) -> Option<Arc<Shown>> {
        lock(&self.progress).as_ref().map(Progress::shown)
    }

    /// The run ends the task: what showed its progress ends, and is replaced by the answer.
    pub async fn end_progress(&self) -> Replaces {
        let progress = lock(&self.progress).take();
        match progress {
            Some(progress) => progress.finish().await,
            None => replaces_of_epoch(self.lease.epoch),
        }
    }

    /// The entries of a scope that this attempt wrote.
    pub fn past_of(&self, scope: &Scope) -> impl Iterator<Item = &JournalBody> {
        let scope = scope.clone();
        self.past
            .iter()
            .filter(move |entry| entry.attempt == self.attempt && entry.scope == scope)
            .map(|entry| &entry.body)
    }

    /// Whether the run should end here. Asked between steps.
    pub fn checkpoint(&self) -> Result<(), Stop> {
        if self.cancel.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        if self.ctx.stop.is_cancelled() {
            return Err(Stop::Draining);
        }
        Ok(())
    }

    /// Model calls and dollars of this task so far, over all attempts that the journal knows.
    pub fn spent(&self) -> (u32, NanoUsd) {
        let state = lock(&self.state);
        (state.llm_calls, state.cost)
    }

    /// Sets money of the task aside, in place of what was set aside under the same id, if all of it stays within `cap`.
    ///
    /// # Errors
    /// What was spent and what else is set aside, when it does not.
    pub fn set_aside(&self, call: CallId, amount: NanoUsd, cap: NanoUsd) -> Result<(), (NanoUsd, NanoUsd)> {
        let mut state = lock(&self.state);
        let others = state.reserved.iter().filter(|(id, _)| **id != call);
        let reserved = others.fold(NanoUsd::ZERO, |sum, (_, amount)| sum.plus(*amount));
        if state.cost.plus(reserved).plus(amount) > cap {
            return Err((state.cost, reserved));
        }
        state.reserved.insert(call, amount);
        Ok(())
    }

    /// What was set aside is free again.
    pub fn put_back(&self, call: CallId) {
        lock(&self.state).reserved.remove(&call);
    }

    /// A call is about to leave the process.
    pub fn call_started(&self, call: CallId, target: &LlmTarget, agent: &AgentName) {
        let flight = InFlight { provider: target.provider, model: target.model.to_string(), agent: agent.clone() };
        lock(&self.state).in_flight.insert(call, flight);
    }

    /// Keeps entries and ledger rows for the next write. For what needs no write of its own: a final answer is
    /// written together with the end that follows from it.
    pub fn defer(&self, scope: &Scope, bodies: Vec<JournalBody>, ledger: Vec<LedgerRow>) {
        let at = self.ctx.now();
        let mut state = lock(&self.state);
        for row in &ledger {
            state.in_flight.remove(&row.call);
            state.reserved.remove(&row.call);
            state.llm_calls += 1;
            state.cost = state.cost.plus(row.cost.unwrap_or_default());
        }
        for body in bodies {
            let seq = state.next_seq;
            state.next_seq += 1;
            state.pending.push(JournalEntry { seq, attempt: self.attempt, scope: scope.clone(), at, body });
        }
        state.pending_ledger.extend(ledger);
    }

    /// Writes entries and everything deferred before them. Durable when it returns.
    pub async fn record(&self, scope: &Scope, bodies: Vec<JournalBody>, ledger: Vec<LedgerRow>) -> Result<(), Stop> {
        self.record_with(scope, bodies, ledger, Vec::new()).await
    }

    /// As [`Self::record`], with questions to ask in the same write.
    pub async fn record_with(
        &self,
        scope: &Scope,
        bodies: Vec<JournalBody>,
        ledger: Vec<LedgerRow>,
        clarifications: Vec<Clarification>,
    ) -> Result<(), Stop> {
        self.defer(scope, bodies, ledger);
        let mut advance = self.advance(Step::Continue);
        advance.outbox = messages_of_questions(&self.ctx, &clarifications);
        advance.outbox.iter_mut().for_each(|message| message.set_trace(self.place.onward()));
        advance.clarifications = clarifications;
        let has_outbox = !advance.outbox.is_empty();
        let advanced = self.persist(advance).await?;
        if has_outbox {
            self.ctx.outbox.notify_one();
        }
        self.ctx.bus.signal(Signal::Progress { task: self.task.id, status: TaskStatus::Running });
        if advanced.cancel_requested {
            self.cancel.cancel();
        }
        Ok(())
    }

    /// A write that takes everything deferred with it.
    pub fn advance(&self, step: Step) -> Advance {
        let mut advance = Advance::new(self.lease, self.ctx.now(), step);
        let mut state = lock(&self.state);
        advance.journal = std::mem::take(&mut state.pending);
        advance.ledger = std::mem::take(&mut state.pending_ledger);
        if !state.version_written {
            state.version_written = true;
            advance.agent_version = Some(self.spec.version.clone());
        }
        advance
    }

    /// Ledger rows of calls that left the process and were given up: what the provider counted is not known.
    pub fn abandoned_calls(&self) -> Vec<LedgerRow> {
        let at = self.ctx.now();
        let calls = std::mem::take(&mut lock(&self.state).in_flight);
        calls.into_iter().map(|(call, flight)| flight.abandoned(call, self.task.id, at)).collect()
    }

    /// Writes until the store has taken it. An owner that cannot write keeps trying: what it knows must not be lost,
    /// and nobody else may go on while it lives.
    pub async fn persist(&self, advance: Advance) -> Result<Advanced, Stop> {
        persist(&self.ctx, advance).await
    }
}

/// A claim of a task in the task's trace: every claim has a span of its own.
pub(crate) fn place(ctx: &Context, task: &Task, lease: Lease) -> Place {
    let span = SpanId::of_id(task.id.as_bytes()).derive(u64::from(lease.epoch));
    Place::of(ctx.options.sampling, task.trace(), span)
}

/// Whether an earlier owner may have shown a task that was claimed so often.
pub(crate) fn replaces_of_epoch(epoch: u32) -> Replaces {
    if epoch <= 1 { Replaces::Nothing } else { Replaces::Unknown }
}

/// See [`Run::persist`].
pub(crate) async fn persist(ctx: &Context, advance: Advance) -> Result<Advanced, Stop> {
    let (mut wait, began) = (Duration::from_millis(FIRST_WRITE_WAIT_MS), Instant::now());
    loop {
        match ctx.store.advance(advance.clone()).await {
            Ok(advanced) => {
                ctx.metrics.wrote("advance", began.elapsed());
                return Ok(advanced);
            }
            Err(StoreError::Fenced) => return Err(Stop::Fenced),
            Err(StoreError::Broken(reason)) => return Err(Stop::Broken(reason)),
            Err(error) => {
                tracing::warn!(task = %advance.lease.task, %error, "the store did not take a write; trying again");
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = ctx.interrupt.cancelled() => return Err(Stop::Draining),
                }
                wait = (wait * 2).min(Duration::from_millis(MAX_WRITE_WAIT_MS));
            }
        }
    }
}
