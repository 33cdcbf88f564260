//! Recovers what was begun and not ended: tasks of dead workers, tasks whose wake was lost, expired questions. One tick
//! a second, and one timer for delayed tasks.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use agentry_bus::{ReceiveOutcome, Signal};
use agentry_core::agent::{ExecutionMode, ModeSet};
use agentry_core::id::TaskId;
use agentry_core::wake::Wake;
use agentry_core::worker::{HEARTBEAT, WorkerRecord};
use agentry_intake::AnswerRefused;
use agentry_store::StoreError;
use tokio::time::{Instant, MissedTickBehavior};

use crate::claims::reconcile;
use crate::context::Context;
use crate::sessions::notify_session;

/// Maximum number of rows read in one tick.
const MAX_BATCH: usize = 1_000;
/// Ticks between deletions of expired data.
const TICKS_PER_PRUNE: u32 = 600;
/// Ticks between polls for cancelled tasks: finds a request whose signal was lost while its task waits for a slow model
/// and writes nothing.
const TICKS_PER_CANCEL_POLL: u32 = 15;

fn record(ctx: &Context) -> WorkerRecord {
    let executes = ctx.options.executes();
    WorkerRecord {
        id: ctx.worker,
        host: ctx.options.host.clone(),
        roles: ctx.options.roles.clone(),
        modes: if executes { ctx.options.modes } else { ModeSet::NONE },
        slots: if executes { ctx.options.slots } else { 0 },
        busy: u32::try_from(ctx.metrics.busy.get()).unwrap_or(0),
        started_at: ctx.started_at,
        heartbeat_at: ctx.now(),
        files: ctx.intake.deployment().differences(),
    }
}

/// Sends a heartbeat, and records its success.
pub(crate) async fn send_heartbeat(ctx: &Context) -> Result<(), StoreError> {
    let sent = Instant::now();
    ctx.store.heartbeat(&record(ctx)).await?;
    ctx.liveness.record(sent);
    Ok(())
}

/// Sends a heartbeat every second until it is told to end, after the last run has ended. A heartbeat that takes longer
/// is followed by the next one at once.
pub(crate) async fn heartbeat(ctx: Arc<Context>, end: tokio_util::sync::CancellationToken) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = send_heartbeat(&ctx).await {
            tracing::warn!(%error, "heartbeat failed");
        }
    }
}

/// Runs a recovery tick every second.
pub(crate) async fn recover(ctx: Arc<Context>) {
    // Processes that start together do not all prune at the same moment.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to TICKS_PER_PRUNE")]
    let mut ticks = (ctx.jitter() * f64::from(TICKS_PER_PRUNE)) as u32;
    let mut long_running = HashSet::new();
    loop {
        tick(&ctx).await;
        if ticks.is_multiple_of(TICKS_PER_PRUNE) {
            prune(&ctx).await;
        }
        if ticks.is_multiple_of(TICKS_PER_CANCEL_POLL) {
            let running: HashSet<TaskId> = ctx.running.tasks().into_iter().collect();
            poll_cancelled(&ctx, running.intersection(&long_running)).await;
            long_running = running;
        }
        ticks = ticks.wrapping_add(1);
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
    }
}

async fn tick(ctx: &Arc<Context>) {
    let now = ctx.now();
    ctx.windows.evict_idle(now);
    // A worker whose own heartbeats fail cannot know which others are dead.
    if ctx.liveness.is_fresh() {
        match ctx.store.recover(ctx.worker, now, MAX_BATCH).await {
            Ok(recovered) => {
                ctx.metrics.recovered.inc_by(recovered.len() as u64);
                wake(ctx, recovered);
            }
            Err(error) => tracing::warn!(%error, "recovering tasks of dead workers failed"),
        }
    }
    expire_clarifications(ctx).await;
    reconcile(ctx).await;
    if ctx.options.executes() {
        notify_due_sessions(ctx).await;
        ctx.missed_wakes.notify_one();
    }
}

async fn notify_due_sessions(ctx: &Arc<Context>) {
    if ctx.options.modes.contains(ExecutionMode::Continuous) {
        match ctx.store.due_sessions(ctx.now(), MAX_BATCH).await {
            Ok(sessions) => sessions.into_iter().for_each(|session| notify_session(ctx, session)),
            Err(error) => tracing::warn!(%error, "reading due sessions failed"),
        }
    }
}

/// Starts delayed tasks when they are due, not at the next tick.
pub(crate) async fn delayed(ctx: Arc<Context>) {
    loop {
        let next = ctx.store.next_due(ctx.now()).await.ok().flatten();
        let wait = next.map_or(Duration::from_secs(3_600), |due| due.since(ctx.now()).max(Duration::from_millis(1)));
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = ctx.delayed.notified() => {}
            () = tokio::time::sleep(wait) => {
                notify_due_sessions(&ctx).await;
                ctx.due.notify_one();
            }
        }
    }
}

/// Listens for cancelled tasks.
pub(crate) async fn listen(ctx: Arc<Context>) {
    let mut signals = ctx.bus.signals();
    loop {
        let received = tokio::select! {
            () = ctx.interrupt.cancelled() => return,
            received = signals.next() => received,
        };
        match received {
            ReceiveOutcome::Signal(Signal::Cancel(task)) => {
                ctx.running.cancel(task);
            }
            // The outcome of a question is posted where it was asked; another process may have resolved it.
            ReceiveOutcome::Signal(Signal::Resolved(_) | Signal::Outbox) => ctx.outbox.notify_one(),
            ReceiveOutcome::Signal(_) => {}
            ReceiveOutcome::Missed => {
                poll_cancelled(&ctx, &ctx.running.tasks()).await;
            }
            ReceiveOutcome::Closed => return,
        }
    }
}

/// Polls the store for cancelled tasks among those that run here, because signals may have been lost.
async fn poll_cancelled(ctx: &Context, tasks: impl IntoIterator<Item = &TaskId>) {
    for task in tasks {
        if let Ok(Some(record)) = ctx.store.task(*task).await
            && record.cancel_requested
        {
            ctx.running.cancel(*task);
        }
    }
}

async fn expire_clarifications(ctx: &Arc<Context>) {
    let now = ctx.now();
    let expired = match ctx.store.expired_clarifications(now, MAX_BATCH).await {
        Ok(expired) => expired,
        Err(error) => {
            tracing::warn!(%error, "reading expired clarifications failed");
            return;
        }
    };
    for clarification in expired {
        match ctx.intake.expire(clarification).await {
            // The first answer counts, even one that arrived just now.
            Ok(_) | Err(AnswerRefused::Ended(_) | AnswerRefused::Unknown(_)) => {}
            Err(AnswerRefused::Store(error)) => {
                tracing::warn!(%error, "expiring a clarification failed");
            }
        }
    }
}

async fn prune(ctx: &Context) {
    match ctx.store.prune(ctx.options.retention.horizon(ctx.now())).await {
        Ok(0) => {}
        Ok(rows) => tracing::debug!(rows, "deleted expired data"),
        Err(error) => tracing::warn!(%error, "deleting expired data failed"),
    }
}

fn wake(ctx: &Arc<Context>, recovered: Vec<Wake>) {
    if !recovered.is_empty() {
        tracing::info!(tasks = recovered.len(), "recovered tasks of dead workers");
    }
    ctx.intake.wake_again(recovered);
}
