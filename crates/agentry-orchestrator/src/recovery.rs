//! Finds again what was begun and not ended: work of dead owners, tasks that were never woken, questions that
//! nobody answered. One tick a second, and one timer for delayed tasks.

use std::sync::Arc;
use std::time::Duration;

use agentry_bus::{Received, Signal, Wake};
use agentry_core::clarification::Resolution;
use agentry_core::task::Priority;
use agentry_core::worker::{HEARTBEAT, WorkerRecord};
use agentry_store::{Answered, Recovered};
use std::sync::atomic::Ordering;

use crate::context::{Context, lock};
use crate::sessions::poke;

/// Rows looked at in one tick at most.
const MAX_BATCH: usize = 1_000;
/// Ticks between prunings of what is kept for a while.
const TICKS_PER_PRUNE: u32 = 600;

/// This worker as the store knows it.
pub(crate) fn record(ctx: &Context) -> WorkerRecord {
    WorkerRecord {
        id: ctx.worker,
        host: ctx.options.host.clone(),
        modes: ctx.options.modes,
        slots: ctx.options.slots,
        busy: ctx.busy.load(Ordering::Relaxed),
        started_at: ctx.started_at,
        heartbeat_at: ctx.now(),
    }
}

/// Says every second that this worker lives, until it is told not to: after the last run has ended.
pub(crate) async fn heartbeat(ctx: Arc<Context>, end: tokio_util::sync::CancellationToken) {
    loop {
        if let Err(error) = ctx.store.heartbeat(&record(&ctx)).await {
            tracing::warn!(%error, "could not say that this worker lives");
        }
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
    }
}

/// Looks once a second for what nobody else would find.
pub(crate) async fn recover(ctx: Arc<Context>) {
    let mut ticks = 0_u32;
    loop {
        tick(&ctx).await;
        if ticks.is_multiple_of(TICKS_PER_PRUNE) {
            prune(&ctx).await;
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
    match ctx.store.recover(now, MAX_BATCH).await {
        Ok(recovered) => wake(ctx, recovered),
        Err(error) => tracing::warn!(%error, "could not look for work of dead owners"),
    }
    expire_clarifications(ctx).await;
    take_due(ctx).await;
}

/// Everything that is due and has no wake under way.
async fn take_due(ctx: &Arc<Context>) {
    match ctx.store.due_sessions(ctx.now(), MAX_BATCH).await {
        Ok(sessions) => sessions.into_iter().for_each(|session| poke(ctx, session)),
        Err(error) => tracing::warn!(%error, "could not look for sessions that are due"),
    }
    ctx.backlog.notify_one();
}

/// Takes delayed tasks up at the moment they are due, not at the next tick.
pub(crate) async fn delayed(ctx: Arc<Context>) {
    loop {
        let next = ctx.store.next_due(ctx.now()).await.ok().flatten();
        let wait = next.map_or(Duration::from_secs(3_600), |due| due.since(ctx.now()).max(Duration::from_millis(1)));
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = ctx.delayed.notified() => {}
            () = tokio::time::sleep(wait) => take_due(&ctx).await,
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
                if let Some(token) = lock(&ctx.running).get(&task) {
                    token.cancel();
                }
            }
            Received::Signal(_) => {}
            Received::Missed => look_for_cancelled(&ctx).await,
            Received::Closed => return,
        }
    }
}

/// Signals were missed: asks the store about every task that runs here.
async fn look_for_cancelled(ctx: &Context) {
    let running: Vec<_> = lock(&ctx.running).keys().copied().collect();
    for task in running {
        if let Ok(Some(record)) = ctx.store.task(task).await
            && record.cancel_requested
            && let Some(token) = lock(&ctx.running).get(&task)
        {
            token.cancel();
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
        let resolution = match clarification.default {
            Some(answer) => Resolution::Defaulted { answer, at: now },
            None => Resolution::Expired { at: now },
        };
        match ctx.store.resolve(clarification.id, resolution).await {
            Ok(Answered::Accepted { wake: Some(task), .. }) => wake(ctx, vec![task]),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "could not end a question whose time is up"),
        }
    }
}

async fn prune(ctx: &Context) {
    let retention = i64::try_from(ctx.options.retention.as_micros()).unwrap_or(i64::MAX);
    let before = agentry_core::time::Timestamp(ctx.now().0.saturating_sub(retention));
    match ctx.store.prune(before).await {
        Ok(0) => {}
        Ok(rows) => tracing::debug!(rows, "forgot what was kept long enough"),
        Err(error) => tracing::warn!(%error, "could not forget what was kept long enough"),
    }
}

fn wake(ctx: &Arc<Context>, recovered: Vec<Recovered>) {
    if recovered.is_empty() {
        return;
    }
    tracing::info!(tasks = recovered.len(), "took up tasks again");
    let wakes = recovered.into_iter().map(|task| Wake {
        task: task.task,
        mode: task.mode,
        session: task.session,
        priority: Priority::Normal,
        body: None,
    });
    ctx.bus.wake(wakes.collect());
}
