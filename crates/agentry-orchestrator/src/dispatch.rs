//! Takes wakes, claims, starts. The loser of a claim stops here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentry_bus::{Wake, Wakes};
use agentry_core::id::TaskId;
use agentry_core::task::Task;
use agentry_core::time::Timestamp;
use agentry_store::{Claimed, Want};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::claims::HeldLease;
use crate::context::Context;
use crate::execute::execute;
use crate::sessions::poke;

/// Wakes taken at once at most: a claim of this many is one group commit.
const MAX_BATCH: usize = 256;
/// Wait after a claim that the store could not take.
const CLAIM_BACKOFF: Duration = Duration::from_millis(100);
/// Places that should be free before a backlog is claimed from, so that a claim is worth its commit.
const BACKLOG_BATCH: u32 = 64;
/// A task that has been due for longer has lost its wake. Younger ones are left to whom the bus chose: a worker that
/// claimed whatever it found once a second would take the work of the others by the batch.
const WAKE_GRACE: Duration = Duration::from_secs(1);

/// Runs until the process stops taking work.
///
/// Wakes are the fast path: they carry what would be read. When some were dropped, or recovery finds work that nobody
/// was woken for, there is a backlog, and the dispatcher claims from the store until it is gone: everything, or only
/// what is older than a wake can take.
///
/// One claim is out at a time, so that what comes meanwhile makes the next batch. It runs in a task of its own: a store
/// that hangs does not keep the dispatcher from answering its probe, and a dispatcher that is ended all the same takes no
/// claim with it.
pub(crate) async fn dispatch(ctx: Arc<Context>) {
    let mut wakes = ctx.bus.wakes(ctx.options.modes);
    let mut backlog: Option<Duration> = None;
    let mut claim: Option<JoinHandle<Backlog>> = None;
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            probe = ctx.probes.next() => probe.answer(),
            () = ctx.due.notified() => backlog = Some(Duration::ZERO),
            () = ctx.unwoken.notified() => backlog = backlog.or(Some(WAKE_GRACE)),
            answered = answer(&mut claim) => {
                claim = None;
                if answered == Backlog::Gone {
                    backlog = None;
                }
            }
            batch = next_batch(&ctx, &mut *wakes), if claim.is_none() => {
                claim = start(&ctx, batch);
                if wakes.overflowed() {
                    backlog = Some(Duration::ZERO);
                }
            }
            (free, older) = backlog_place(&ctx, backlog), if claim.is_none() => {
                let ctx = Arc::clone(&ctx);
                let tracker = ctx.runs.clone();
                claim = Some(tracker.spawn(async move { claim_next(&ctx, free, older).await }));
            }
        }
    }
}

/// Whether a claim has emptied the backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backlog {
    Gone,
    /// It was not looked at, or there may be more.
    Unknown,
}

/// Waits for the claim that is out; for ever when none is. Cancel safe.
async fn answer(claim: &mut Option<JoinHandle<Backlog>>) -> Backlog {
    match claim {
        // A claim that panicked has told so in the log; its leases are reconciled.
        Some(claim) => claim.await.unwrap_or(Backlog::Unknown),
        None => std::future::pending().await,
    }
}

/// Waits for a free place, then for wakes: at most as many as there are places. Cancel safe.
async fn next_batch(ctx: &Context, wakes: &mut dyn Wakes) -> Vec<Wake> {
    if let Ok(permit) = ctx.slots.acquire().await {
        drop(permit);
    }
    let free = ctx.slots.available_permits().clamp(1, MAX_BATCH);
    wakes.next(free).await
}

/// Waits until a good part of the places is free for the backlog; for ever without one. Cancel safe.
async fn backlog_place(ctx: &Context, backlog: Option<Duration>) -> (usize, Duration) {
    let Some(older) = backlog else { return std::future::pending().await };
    let enough = BACKLOG_BATCH.min(ctx.options.slots.div_ceil(4)).max(1);
    if let Ok(permits) = ctx.slots.acquire_many(enough).await {
        drop(permits);
    }
    (ctx.slots.available_permits().clamp(1, MAX_BATCH), older)
}

/// Pokes sessions and claims the other tasks in one write.
fn start(ctx: &Arc<Context>, batch: Vec<Wake>) -> Option<JoinHandle<Backlog>> {
    let mut bodies: HashMap<TaskId, Option<Arc<Task>>> = HashMap::with_capacity(batch.len());
    let mut ids = Vec::with_capacity(batch.len());
    for wake in batch {
        match wake.session {
            Some(session) => poke(ctx, session),
            None => {
                ids.push(wake.task);
                bodies.insert(wake.task, wake.body);
            }
        }
    }
    if ids.is_empty() {
        return None;
    }
    let ctx = Arc::clone(ctx);
    let tracker = ctx.runs.clone();
    Some(tracker.spawn(async move {
        // Claimed without a batch's places in hand, a few tasks more than slots can be ours; they wait for a place.
        claim(&ctx, Want::Known(ids), ctx.now(), bodies).await;
        Backlog::Unknown
    }))
}

/// Claims what is queued and has been due for so long, woken or not.
async fn claim_next(ctx: &Arc<Context>, limit: usize, older: Duration) -> Backlog {
    let now = ctx.now();
    let want = Want::Next { modes: ctx.options.modes, limit, due_by: now.before(older) };
    let Some(claimed) = claim(ctx, want, now, HashMap::new()).await else { return Backlog::Unknown };
    if !older.is_zero() {
        ctx.metrics.unwoken.inc_by(claimed as u64);
    }
    if claimed == limit { Backlog::Unknown } else { Backlog::Gone }
}

/// Claims, and starts what was claimed: how many. `None`: the store did not answer.
async fn claim(
    ctx: &Arc<Context>,
    want: Want,
    now: Timestamp,
    mut bodies: HashMap<TaskId, Option<Arc<Task>>>,
) -> Option<usize> {
    let began = Instant::now();
    let in_flight = ctx.claims.begin();
    match ctx.store.claim(ctx.worker, want, now).await {
        Ok(claimed) => {
            ctx.metrics.wrote("claim", began.elapsed());
            let count = claimed.len();
            for claimed in claimed {
                let body = bodies.remove(&claimed.lease.task).flatten();
                spawn(ctx, claimed, body);
            }
            Some(count)
        }
        Err(error) => {
            drop(in_flight);
            tracing::warn!(%error, "could not claim; the tasks stay queued and are found again");
            tokio::time::sleep(CLAIM_BACKOFF).await;
            None
        }
    }
}

fn spawn(ctx: &Arc<Context>, mut claimed: Claimed, body: Option<Arc<Task>>) {
    let held = HeldLease::new(ctx, claimed.lease);
    let ctx = Arc::clone(ctx);
    let permit = Arc::clone(&ctx.slots).try_acquire_owned().ok();
    let tracker = ctx.runs.clone();
    tracker.spawn(async move {
        let _held = held;
        let Some(_permit) = place(&ctx, permit).await else { return };
        let _busy = ctx.enter();
        let task = match claimed.task.take().or(body) {
            Some(task) => task,
            None => match read_body(&ctx, claimed.lease.task).await {
                Some(task) => task,
                None => return,
            },
        };
        execute(&ctx, claimed, task, None).await;
    });
}

async fn place(ctx: &Context, permit: Option<OwnedSemaphorePermit>) -> Option<OwnedSemaphorePermit> {
    match permit {
        Some(permit) => Some(permit),
        None => Arc::clone(&ctx.slots).acquire_owned().await.ok(),
    }
}

/// The body of a task that was claimed without it. A worker that cannot read it keeps trying.
async fn read_body(ctx: &Context, id: TaskId) -> Option<Arc<Task>> {
    loop {
        match ctx.store.task(id).await {
            Ok(Some(record)) => return Some(Arc::new(record.task)),
            Ok(None) => {
                tracing::error!(task = %id, "a claimed task is not in the store");
                return None;
            }
            Err(error) => tracing::warn!(task = %id, %error, "could not read a claimed task; trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(CLAIM_BACKOFF) => {}
            () = ctx.interrupt.cancelled() => return None,
        }
    }
}
