//! Executes a claimed task, from its claim to the one write that ends, pauses or releases it.

use std::sync::Arc;
use std::time::Duration;

use agentry_bus::Signal;
use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::journal::{JournalBody, JournalEntry, Scope};
use agentry_core::session::{SessionRecord, SessionWrite};
use agentry_core::slack::ReplacedPost;
use agentry_core::task::{ErrorCode, Outcome, Task, TaskError, TaskStatus};
use agentry_store::{Advance, ClaimedTask, Lease, Step, StoreError};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::budget;
use crate::context::Context;
use crate::modes;
use crate::open_calls::OpenCalls;
use crate::run::{Run, Stop, replaces_of_epoch, span_context};
use crate::spans;
use crate::write::persist;

/// Number of workers that may die over a task before it fails: enough to tolerate restarts of the server now and then,
/// few enough to stop a task that kills its worker.
pub(crate) const MAX_RECOVERIES: u32 = 20;
/// Pause before a task that could not be started is released, so that it is not claimed again at once.
const RELEASE_PAUSE: Duration = Duration::from_millis(200);
/// Journal entries read at once.
const JOURNAL_PAGE: usize = 1_000;
/// Maximum number of journal entries of a task that is resumed.
const MAX_JOURNAL: usize = 100_000;

/// The result of executing a task in its mode.
#[derive(Debug, PartialEq)]
pub(crate) enum ModeEnd {
    /// Ended, with the additions of its turn to a session.
    Done(Result<Value, TaskError>, Option<SessionWrite>),
    /// Waiting for humans.
    Paused,
}

/// Executes a task to the end of this claim. Returns the status of the task then, if this worker knows it.
pub(crate) async fn execute(
    ctx: &Arc<Context>,
    claimed: ClaimedTask,
    task: Arc<Task>,
    session: Option<&SessionRecord>,
) -> Option<TaskStatus> {
    let span = spans::invoke_agent(&span_context(ctx, &task, claimed.lease), &task, claimed.attempt);
    let status = perform(ctx, claimed, task, session).instrument(span.clone()).await;
    spans::note_status(&span, status);
    status
}

async fn perform(
    ctx: &Arc<Context>,
    claimed: ClaimedTask,
    task: Arc<Task>,
    session: Option<&SessionRecord>,
) -> Option<TaskStatus> {
    let lease = claimed.lease;
    let Some(execution) = ctx.running.begin(lease) else {
        tracing::debug!(task = %task.id, "the task already executes in this process");
        return None;
    };
    let run = match begin(ctx, &claimed, Arc::clone(&task), execution.cancel.clone()).await {
        Ok(run) => run,
        Err(StartError::End(error, past)) => return end_before_start(ctx, lease, &task, error, &past).await,
        Err(StartError::Store(error)) => {
            tracing::warn!(task = %task.id, %error, "starting the task failed; it is released to the queue");
            tokio::time::sleep(RELEASE_PAUSE).await;
            return release(ctx, lease, &task).await;
        }
    };
    if run.context.is_exported() {
        spans::note_agent(&Span::current(), &run.spec);
    }
    let remaining = task.timeout().saturating_sub(Duration::from_micros(claimed.used_us));
    let ended = tokio::select! {
        biased;
        () = run.cancel.cancelled() => Err(Stop::Cancelled),
        () = ctx.interrupt.cancelled() => Err(Stop::Draining),
        ended = modes::execute(&run, session) => ended,
        () = tokio::time::sleep(remaining) => Ok(ModeEnd::Done(Err(timed_out(&task)), None)),
    };
    settle(&run, ended).await
}

enum StartError {
    /// The task cannot continue; with its journal as far as it was read.
    End(TaskError, Vec<JournalEntry>),
    Store(StoreError),
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Loads the agent's version and the journal.
async fn begin(
    ctx: &Arc<Context>,
    claimed: &ClaimedTask,
    task: Arc<Task>,
    cancel: CancellationToken,
) -> Result<Run, StartError> {
    let past = if claimed.resumes { load_journal(ctx, &task).await? } else { Vec::new() };
    if claimed.recoveries > MAX_RECOVERIES {
        let message = format!("workers died {} times while they worked on this task", claimed.recoveries);
        return Err(StartError::End(TaskError::new(ErrorCode::PoisonTask, message), past));
    }
    let Some(spec) = find_spec(ctx, &task.agent, claimed.version.as_deref()).await? else {
        let message = format!("agent `{}` is not in the fleet any more, or is disabled", task.agent);
        return Err(StartError::End(TaskError::new(ErrorCode::AgentUnavailable, message), past));
    };
    ctx.store_version(&spec).await?;
    if !claimed.resumes {
        ctx.metrics.started(&task, ctx.now());
    }
    Ok(Run::new(Arc::clone(ctx), task, spec, claimed, cancel, past))
}

async fn load_journal(ctx: &Context, task: &Task) -> Result<Vec<JournalEntry>, StartError> {
    let mut past: Vec<JournalEntry> = Vec::new();
    loop {
        let after = past.last().map_or(0, |entry| entry.seq);
        let page = ctx.store.journal(task.id, after, JOURNAL_PAGE).await?;
        let whole = page.len() < JOURNAL_PAGE;
        past.extend(page);
        if whole {
            return Ok(past);
        }
        if past.len() > MAX_JOURNAL {
            let message = format!("the task's journal has more than {MAX_JOURNAL} entries");
            return Err(StartError::End(TaskError::new(ErrorCode::TooManySteps, message), past));
        }
    }
}

/// Returns the version of an agent that the work began on, or else the deployment's version. Tasks of an agent that was
/// removed from the deployment finish on its last version.
pub(crate) async fn find_spec(
    ctx: &Context,
    agent: &AgentName,
    version: Option<&str>,
) -> Result<Option<Arc<AgentSpec>>, StoreError> {
    let live = || ctx.fleet.current().live(agent).cloned();
    if let Some(version) = version {
        if let Some(spec) = live().filter(|spec| *spec.version == *version) {
            return Ok(Some(spec));
        }
        if let Some(spec) = ctx.store.version(agent, version).await? {
            return Ok(Some(Arc::new(spec)));
        }
    }
    if let Some(spec) = live() {
        return Ok(Some(spec));
    }
    // The process that accepted the task knew the agent; this one may not have read it yet.
    ctx.intake.deployment().refresh().await?;
    Ok(live().or_else(|| ctx.intake.deployment().removed(agent)))
}

fn timed_out(task: &Task) -> TaskError {
    TaskError::new(
        ErrorCode::TimedOut,
        format!("the task ran longer than its timeout of {} s", task.timeout().as_secs_f64()),
    )
}

async fn settle(run: &Run, ended: Result<ModeEnd, Stop>) -> Option<TaskStatus> {
    let replaces = match &ended {
        Ok(ModeEnd::Paused) | Err(Stop::Draining | Stop::Fenced) => ReplacedPost::Unknown,
        _ => run.end_progress().await,
    };
    if ended == Err(Stop::Fenced) {
        tracing::debug!(task = %run.task.id, "the task has another owner");
        budget::release_all(run);
        return None;
    }
    run.abandon_calls(None);
    budget::release_all(run);
    let (advance, status) = match ended {
        Ok(ModeEnd::Done(Ok(output), session)) => {
            let mut advance = finish(run, Outcome::completed(output), false, &replaces);
            advance.session = session;
            (advance, TaskStatus::Completed)
        }
        Ok(ModeEnd::Done(Err(error), _)) => failed(run, error, &replaces),
        Ok(ModeEnd::Paused) => (run.advance(Step::Wait), TaskStatus::Waiting),
        Err(Stop::Cancelled) => {
            let error = TaskError::new(ErrorCode::Cancelled, "the task was cancelled while it ran");
            (finish(run, Outcome::from_error(error), false, &replaces), TaskStatus::Cancelled)
        }
        Err(Stop::Draining) => {
            run.defer(&Scope::MAIN, vec![JournalBody::HandedBack { worker: run.lease.worker }], Vec::new());
            (run.advance(Step::Release), TaskStatus::Queued)
        }
        // Handled above.
        Err(Stop::Fenced) => return None,
        Err(Stop::Broken(reason)) => failed(run, TaskError::new(ErrorCode::Internal, reason), &replaces),
    };
    write_end(&run.ctx, &run.task, advance, status).await
}

async fn write_end(ctx: &Context, task: &Arc<Task>, advance: Advance, status: TaskStatus) -> Option<TaskStatus> {
    let has_outbox = !advance.outbox.is_empty();
    let delayed = matches!(advance.step, Step::Retry { .. });
    let advance = Arc::new(advance);
    let advanced = match persist(ctx, Arc::clone(&advance)).await {
        Ok(advanced) => advanced,
        Err(Stop::Broken(reason)) => return end_broken(ctx, task, &advance, &reason).await,
        Err(_) => return None,
    };
    ctx.metrics.settled(task, status, delayed, ctx.now());
    if has_outbox {
        ctx.outbox.notify_one();
    }
    if delayed {
        ctx.delayed.notify_one();
    }
    if advanced.requeued {
        ctx.intake.wake([Arc::clone(task)]);
    }
    ctx.bus.signal(Signal::Progress { task: task.id, status });
    Some(status)
}

/// Ends a task whose result (`refused`) the store can never write, because of its content: with that error, and with
/// the ledger rows of the calls.
async fn end_broken(ctx: &Context, task: &Arc<Task>, refused: &Advance, reason: &str) -> Option<TaskStatus> {
    let message = format!("the store refuses the task's result: {reason}");
    tracing::error!(task = %task.id, message);
    let outcome = Outcome::from_error(TaskError::new(ErrorCode::Internal, message));
    let status = outcome.status;
    let step = Step::Finish { outcome: outcome.clone(), dead_letter: true };
    let mut advance = Advance::new(refused.lease, refused.at, step);
    advance.outbox = ctx.intake.messages_of_end(task, &outcome, refused.at);
    advance.ledger.clone_from(&refused.ledger);
    match persist(ctx, Arc::new(advance)).await {
        Ok(_) => {
            ctx.metrics.settled(task, status, false, ctx.now());
            ctx.outbox.notify_one();
            ctx.bus.signal(Signal::Progress { task: task.id, status });
            Some(status)
        }
        Err(stop) => {
            tracing::error!(task = %task.id, ?stop, "writing the task's failure failed, too; the task stays running until this process ends");
            ctx.claims.strand(refused.lease);
            None
        }
    }
}

fn finish(run: &Run, outcome: Outcome, dead_letter: bool, replaces: &ReplacedPost) -> Advance {
    let at = run.ctx.now();
    let mut outbox = run.ctx.intake.messages_of_end(&run.task, &outcome, at);
    for message in &mut outbox {
        message.set_replaces(replaces);
        message.set_trace(run.context.propagate());
    }
    let mut advance = run.advance(Step::Finish { outcome, dead_letter });
    advance.outbox = outbox;
    advance
}

/// Schedules another attempt with fresh context if the error and the policy allow one; otherwise ends the task.
fn failed(run: &Run, error: TaskError, replaces: &ReplacedPost) -> (Advance, TaskStatus) {
    let delay = error.code.is_retryable().then(|| run.spec.retry.delay_before(run.attempt)).flatten();
    let Some(delay) = delay else {
        let outcome = Outcome::from_error(error);
        let status = outcome.status;
        return (finish(run, outcome, true, replaces), status);
    };
    let retry_at = run.ctx.now().after(delay);
    run.defer(&Scope::MAIN, vec![JournalBody::AttemptFailed { error, retry_at }], Vec::new());
    (run.advance(Step::Retry { at: retry_at }), TaskStatus::Queued)
}

/// Ends a task that could not start.
async fn end_before_start(
    ctx: &Context,
    lease: Lease,
    task: &Arc<Task>,
    error: TaskError,
    past: &[JournalEntry],
) -> Option<TaskStatus> {
    let at = ctx.now();
    let outcome = Outcome::from_error(error);
    let status = outcome.status;
    let mut advance = Advance::new(lease, at, Step::Finish { outcome: outcome.clone(), dead_letter: true });
    advance.outbox = ctx.intake.messages_of_end(task, &outcome, at);
    let replaces = replaces_of_epoch(lease.epoch);
    advance.outbox.iter_mut().for_each(|message| message.set_replaces(&replaces));
    let abandoned = OpenCalls::of_journal(past, &task.agent).abandon(None, task.id, at);
    advance.ledger = abandoned.into_iter().filter_map(|(_, _, row)| row).collect();
    write_end(ctx, task, advance, status).await
}

async fn release(ctx: &Context, lease: Lease, task: &Arc<Task>) -> Option<TaskStatus> {
    let advance = Advance::new(lease, ctx.now(), Step::Release);
    write_end(ctx, task, advance, TaskStatus::Queued).await
}
