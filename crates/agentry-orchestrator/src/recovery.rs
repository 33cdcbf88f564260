//! Finds again what was begun and not ended: work of dead owners, tasks that were never woken, questions that
//! nobody answered. One tick a second, and one timer for delayed tasks.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use agentry_bus::{Received, Signal};
use agentry_core::agent::{ExecutionMode, ModeSet};
use agentry_core::id::TaskId;
use agentry_core::wake::Wake;
use agentry_core::worker::{HEARTBEAT, WorkerRecord};
use agentry_intake::AnswerRefused;
use agentry_store::StoreError;
use tokio::time::{Instant, MissedTickBehavior};

use crate::claims::reconcile;
use crate::context::Context;
use crate::sessions::poke;

/// Rows looked at in one tick at most.
const MAX_BATCH: usize = 1_000;
/// Ticks between prunings of what is kept for a while.
const TICKS_PER_PRUNE: u32 = 600;
/// Ticks between looks for cancelled tasks in the store: what finds a request whose signal was lost while its task
/// waits for a slow model and writes nothing.
const TICKS_PER_CANCEL_LOOK: u32 = 15;

/// This worker as the store knows it.
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

/// Sends a heartbeat, and records that it got through.
pub(crate) async fn send_heartbeat(ctx: &Context) -> Result<(), StoreError> {
    let sent = Instant::now();
    ctx.store.heartbeat(&record(ctx)).await?;
    ctx.liveness.record(sent);
    Ok(())
}

/// Sends a heartbeat every second, until it is told to end: after the last run has ended. One that took longer than that
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

/// Looks once a second for what nobody else would find.
pub(crate) async fn recover(ctx: Arc<Context>) {
    // Processes that start together do not all tidy up at the same moment.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to TICKS_PER_PRUNE")]
    let mut ticks = (ctx.jitter() * f64::from(TICKS_PER_PRUNE)) as u32;
    let mut long_running = HashSet::new();
    loop {
        tick(&ctx).await;
        if ticks.is_multiple_of(TICKS_PER_PRUNE) {
            prune(&ctx).await;
        }
        if ticks.is_multiple_of(TICKS_PER_CANCEL_LOOK) {
            let running: HashSet<TaskId> = ctx.running.tasks().into_iter().collect();
            look_for_cancelled(&ctx, running.intersection(&long_running)).await;
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
    // While its own heartbeats do not get through, this worker cannot know who is dead.
    if ctx.liveness.is_fresh() {
        match ctx.store.recover(ctx.worker, now, MAX_BATCH).await {
            Ok(recovered) => {
                ctx.metrics.recovered.inc_by(recovered.len() as u64);
                wake(ctx, recovered);
            }
            Err(error) => tracing::warn!(%error, "could not look for work of dead owners"),
        }
    }
    expire_clarifications(ctx).await;
    reconcile(ctx).await;
    if ctx.options.executes() {
        poke_due_sessions(ctx).await;
        ctx.unwoken.notify_one();
    }
}

async fn poke_due_sessions(ctx: &Arc<Context>) {
    if ctx.options.modes.contains(ExecutionMode::Continuous) {
        match ctx.store.due_sessions(ctx.now(), MAX_BATCH).await {
            Ok(sessions) => sessions.into_iter().for_each(|session| poke(ctx, session)),
            Err(error) => tracing::warn!(%error, "could not look for sessions that are due"),
        }
    }
}

/// Takes delayed tasks up at the moment they are due, not at the next tick.
pub(crate) async fn delayed(ctx: Arc<Context>) {
    loop {
        let next = ctx.store.next_due(ctx.now()).await.ok().flatten();
        let wait = next.map_or(Duration::from_secs(3_600), |due| due.since(ctx.now()).max(Duration::from_millis(1)));
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = ctx.delayed.notified() => {}
            () = tokio::time::sleep(wait) => {
                poke_due_sessions(&ctx).await;
                ctx.due.notify_one();
            }
        }
    }
}

/// Hears who is to be cancelled.
pub(crate) async fn listen(ctx: Arc<Context>) {
    let mut signals = ctx.bus.signals();
    loop {
        let received = tokio::select! {
            () = ctx.interrupt.cancelled() => return,
            received = signals.next() => received,
        };
        match received {
            Received::Signal(Signal::Cancel(task)) => {
                ctx.running.cancel(task);
            }
            // Where the question was asked is told; the write that resolved it may be another process's.
            Received::Signal(Signal::Resolved(_) | Signal::Outbox) => ctx.outbox.notify_one(),
            Received::Signal(_) => {}
            Received::Missed => {
                look_for_cancelled(&ctx, &ctx.running.tasks()).await;
            }
            Received::Closed => return,
        }
    }
}

/// Signals may have been lost: asks the store about tasks that run here.
async fn look_for_cancelled(ctx: &Context, tasks: impl IntoIterator<Item = &TaskId>) {
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
            tracing::warn!(%error, "could not look for questions whose time is up");
            return;
        }
    };
    for clarification in expired {
        match ctx.intake.expire(clarification).await {
            // The first answer stands, also one that came just now.
            Ok(_) | Err(AnswerRefused::Ended(_) | AnswerRefused::Unknown(_)) => {}
            Err(AnswerRefused::Store(error)) => {
                tracing::warn!(%error, "could not end a question whose time is up");
            }
        }
    }
}

async fn prune(ctx: &Context) {
    match ctx.store.prune(ctx.options.retention.horizon(ctx.now())).await {
        Ok(0) => {}
        Ok(rows) => tracing::debug!(rows, "forgot what was kept long enough"),
        Err(error) => tracing::warn!(%error, "could not forget what was kept long enough"),
    }
}

fn wake(ctx: &Arc<Context>, recovered: Vec<Wake>) {
    if !recovered.is_empty() {
        tracing::info!(tasks = recovered.len(), "took up tasks again");
    }
    ctx.intake.wake_again(recovered);
}
