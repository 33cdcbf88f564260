//! One claim of one task: its lease, its journal, and the only way to write for it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use agentry_bus::Signal;
use agentry_core::agent::AgentSpec;
use agentry_core::clarification::Clarification;
use agentry_core::id::CallId;
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::money::{LedgerRow, NanoUsd};
use agentry_core::slack::Replaces;
use agentry_core::task::{Task, TaskStatus};
use agentry_core::trace::{Place, SpanId};
use agentry_llm::Call;
use agentry_store::{Advance, Claimed, Lease, Step};
use tokio_util::sync::CancellationToken;

use crate::context::{Context, lock};
use crate::journal::Journal;
use crate::open_calls::OpenCalls;
use crate::slack::{Progress, Shown, messages_of_questions};

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
    journal: Journal,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_seq: u32,
    calls: OpenCalls,
    llm_calls: u32,
    cost: NanoUsd,
    /// Set aside for calls under way, by their reservation.
    reserved: HashMap<CallId, NanoUsd>,
    /// Reservations in the budgets of agents' days that may be open.
    day_reservations: HashSet<CallId>,
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
            calls: OpenCalls::of_journal(&past, &spec.name),
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
        let journal = Journal::new(lease, &spec);
        Self { ctx, task, spec, lease, place, attempt, cancel, past, progress, journal, state: Mutex::new(state) }
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

    /// Money of an agent's day may be set aside under this id from now on.
    pub fn day_reservation_opens(&self, call: CallId) {
        lock(&self.state).day_reservations.insert(call);
    }

    /// No money is set aside under this id any more.
    pub fn day_reservation_ended(&self, call: CallId) {
        lock(&self.state).day_reservations.remove(&call);
    }

    /// The reservations in the budgets of days that no ledger row will end.
    pub fn take_day_reservations(&self) -> HashSet<CallId> {
        std::mem::take(&mut lock(&self.state).day_reservations)
    }

    /// A call is announced in the journal before it leaves the process.
    pub fn call_announced(&self, call: &Call, turn: u32, scope: &Scope) {
        lock(&self.state).calls.announce(call, turn, scope);
    }

    /// The announcement is durable: the call leaves.
    pub fn call_left(&self, call: CallId) {
        lock(&self.state).calls.left(call);
    }

    /// A call that left has failed; another one may follow before its row is kept.
    pub fn call_failed(&self, call: CallId, body: JournalBody, row: LedgerRow) {
        lock(&self.state).calls.failed(call, body, row);
    }

    /// Gives up the calls of a part of the task (`None`: all of it) that nobody waits for any more, and keeps what is
    /// known of them: those that failed with their row, those that left with one that says that what the provider
    /// counted is not known, those that never left with none.
    pub fn abandon_calls(&self, scope: Option<&Scope>) {
        let given_up = lock(&self.state).calls.abandon(scope, self.task.id, self.ctx.now());
        for (scope, body, row) in given_up {
            self.defer(&scope, body.into_iter().collect(), row.into_iter().collect());
        }
    }

    /// Keeps entries and ledger rows for the next write. For what needs no write of its own: a final answer is
    /// written together with the end that follows from it.
    pub fn defer(&self, scope: &Scope, bodies: Vec<JournalBody>, ledger: Vec<LedgerRow>) {
        let at = self.ctx.now();
        let mut state = lock(&self.state);
        for row in &ledger {
            state.calls.ended(row.call);
            state.reserved.remove(&row.call);
            state.day_reservations.remove(&row.call);
            state.llm_calls += 1;
            state.cost = state.cost.plus(row.cost.unwrap_or_default());
        }
        let entries = bodies.into_iter().map(|body| {
            let seq = state.next_seq;
            state.next_seq += 1;
            JournalEntry { seq, attempt: self.attempt, scope: scope.clone(), at, body }
        });
        // Under the lock, so that numbers and places agree.
        self.journal.add(entries, ledger);
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
        let mut outbox = messages_of_questions(&self.ctx, &clarifications);
        outbox.iter_mut().for_each(|message| message.set_trace(self.place.onward()));
        let has_outbox = !outbox.is_empty();
        self.journal.ask(clarifications, outbox);
        let advanced = self.journal.flush(&self.ctx).await?;
        if has_outbox {
            self.ctx.outbox.notify_one();
        }
        self.ctx.bus.signal(Signal::Progress { task: self.task.id, status: TaskStatus::Running });
        if advanced.cancel_requested {
            self.cancel.cancel();
        }
        Ok(())
    }

    /// The write that ends this claim, with everything deferred.
    pub fn advance(&self, step: Step) -> Advance {
        self.journal.take(self.ctx.now(), step)
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
