//! A run, which is one claim of one task: its lease, its journal, and all of its writes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use agentry_bus::Signal;
use agentry_core::agent::AgentSpec;
use agentry_core::clarification::Clarification;
use agentry_core::id::CallId;
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::money::{LedgerRow, NanoUsd};
use agentry_core::slack::ReplacedPost;
use agentry_core::task::{Task, TaskStatus};
use agentry_core::trace::{SpanContext, SpanId};
use agentry_llm::Call;
use agentry_store::{Advance, ClaimedTask, Lease, Step};
use tokio_util::sync::CancellationToken;

use crate::context::{Context, lock};
use crate::journal::Journal;
use crate::open_calls::OpenCalls;
use crate::slack::{Progress, StreamPreview, messages_of_questions};

/// The reason why a run ends without an outcome of its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stop {
    /// Another owner has the task, or it has ended: nothing may be written.
    Fenced,
    /// The task was cancelled.
    Cancelled,
    /// The process is shutting down: the task must be released.
    Draining,
    /// The store refuses the write permanently.
    Broken(String),
}

/// A run, which is one claim of one task.
pub(crate) struct Run {
    pub ctx: Arc<Context>,
    pub task: Arc<Task>,
    pub spec: Arc<AgentSpec>,
    pub lease: Lease,
    /// Span context of this claim.
    pub context: SpanContext,
    pub attempt: u32,
    pub cancel: CancellationToken,
    /// Journal at the time of the claim.
    pub past: Vec<JournalEntry>,
    /// Shows progress in the channel that the task came from.
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
    /// Reservations for calls in flight.
    reserved: HashMap<CallId, NanoUsd>,
    /// Reservations in daily budgets that may be open.
    day_reservations: HashSet<CallId>,
}

impl Run {
    pub fn new(
        ctx: Arc<Context>,
        task: Arc<Task>,
        spec: Arc<AgentSpec>,
        claimed: &ClaimedTask,
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
        let progress = Mutex::new(Progress::start(&ctx, &task, replaces_of_epoch(lease.epoch)));
        let context = span_context(&ctx, &task, lease);
        let journal = Journal::new(lease, &spec);
        Self { ctx, task, spec, lease, context, attempt, cancel, past, progress, journal, state: Mutex::new(state) }
    }

    /// Returns the preview that receives the model's text, if the task came from Slack.
    pub fn preview(&self) -> Option<Arc<StreamPreview>> {
        lock(&self.progress).as_ref().map(Progress::preview)
    }

    /// Ends the progress display, because the run ends the task; returns the post that the answer replaces.
    pub async fn end_progress(&self) -> ReplacedPost {
        let progress = lock(&self.progress).take();
        match progress {
            Some(progress) => progress.finish().await,
            None => replaces_of_epoch(self.lease.epoch),
        }
    }

    /// Returns the entries of a scope that this attempt wrote.
    pub fn past_of(&self, scope: &Scope) -> impl Iterator<Item = &JournalBody> {
        let scope = scope.clone();
        self.past
            .iter()
            .filter(move |entry| entry.attempt == self.attempt && entry.scope == scope)
            .map(|entry| &entry.body)
    }

    /// Fails if the run must end here. Called between steps.
    pub fn checkpoint(&self) -> Result<(), Stop> {
        if self.cancel.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        if self.ctx.stop.is_cancelled() {
            return Err(Stop::Draining);
        }
        Ok(())
    }

    /// Returns the model calls and the cost of this task so far, over all attempts in the journal.
    pub fn spent(&self) -> (u32, NanoUsd) {
        let state = lock(&self.state);
        (state.llm_calls, state.cost)
    }

    /// Reserves money of the task if the sum stays within `cap`; replaces an earlier reservation of the same id.
    ///
    /// # Errors
    /// Returns the amounts spent and reserved otherwise if the limit would be exceeded.
    pub fn reserve(&self, call: CallId, amount: NanoUsd, cap: NanoUsd) -> Result<(), (NanoUsd, NanoUsd)> {
        let mut state = lock(&self.state);
        let others = state.reserved.iter().filter(|(id, _)| **id != call);
        let reserved = others.fold(NanoUsd::ZERO, |sum, (_, amount)| sum.plus(*amount));
        if state.cost.plus(reserved).plus(amount) > cap {
            return Err((state.cost, reserved));
        }
        state.reserved.insert(call, amount);
        Ok(())
    }

    /// Releases a reservation.
    pub fn release(&self, call: CallId) {
        lock(&self.state).reserved.remove(&call);
    }

    /// Records that money of a daily budget may be reserved under this id.
    pub fn day_reservation_opens(&self, call: CallId) {
        lock(&self.state).day_reservations.insert(call);
    }

    /// Records that no money is reserved under this id any more.
    pub fn day_reservation_ended(&self, call: CallId) {
        lock(&self.state).day_reservations.remove(&call);
    }

    /// Returns the reservations in daily budgets that no ledger row will end.
    pub fn take_day_reservations(&self) -> HashSet<CallId> {
        std::mem::take(&mut lock(&self.state).day_reservations)
    }

    /// Records a call that is about to be journaled.
    pub fn call_announced(&self, call: &Call, turn: u32, scope: &Scope) {
        lock(&self.state).calls.announce(call, turn, scope);
    }

    /// Records that the entry of a call is durable: it leaves the process.
    pub fn call_left(&self, call: CallId) {
        lock(&self.state).calls.left(call);
    }

    /// Records the failure of a call; another one may follow before its row is kept.
    pub fn call_failed(&self, call: CallId, body: JournalBody, row: LedgerRow) {
        lock(&self.state).calls.failed(call, body, row);
    }

    /// Abandons the calls of a scope (`None`: all), and keeps their pending writes: the row of a failed call, a row
    /// with unknown tokens for a call that left, none for one that never left.
    pub fn abandon_calls(&self, scope: Option<&Scope>) {
        let abandoned = lock(&self.state).calls.abandon(scope, self.task.id, self.ctx.now());
        for (scope, body, row) in abandoned {
            self.defer(&scope, body.into_iter().collect(), row.into_iter().collect());
        }
    }

    /// Adds entries and ledger rows to the next write. A final answer needs no write of its own: it is written together
    /// with the end of the task.
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
        // Under the lock, so that numbers and positions agree.
        self.journal.add(entries, ledger);
    }

    /// Writes entries and everything deferred before. Durable when it returns.
    pub async fn record(&self, scope: &Scope, bodies: Vec<JournalBody>, ledger: Vec<LedgerRow>) -> Result<(), Stop> {
        self.record_with(scope, bodies, ledger, Vec::new()).await
    }

    /// As [`Self::record`], with questions in the same write.
    pub async fn record_with(
        &self,
        scope: &Scope,
        bodies: Vec<JournalBody>,
        ledger: Vec<LedgerRow>,
        clarifications: Vec<Clarification>,
    ) -> Result<(), Stop> {
        self.defer(scope, bodies, ledger);
        let mut outbox = messages_of_questions(&self.ctx, &clarifications);
        outbox.iter_mut().for_each(|message| message.set_trace(self.context.propagate()));
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

    /// Returns the write that ends this claim, with everything deferred.
    pub fn advance(&self, step: Step) -> Advance {
        self.journal.take(self.ctx.now(), step)
    }
}

/// Returns the span context of a claim: every claim has a span of its own.
pub(crate) fn span_context(ctx: &Context, task: &Task, lease: Lease) -> SpanContext {
    let span = SpanId::of_id(task.id.as_bytes()).derive(u64::from(lease.epoch));
    SpanContext::of(ctx.options.sampling, task.trace(), span)
}

/// Returns the post that the first owner, or a later one, must replace: an earlier owner may have posted progress.
pub(crate) fn replaces_of_epoch(epoch: u32) -> ReplacedPost {
    if epoch <= 1 { ReplacedPost::Nothing } else { ReplacedPost::Unknown }
}
