//! Dispatcher: takes wakes, claims tasks and starts them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentry_bus::{Wake, Wakes};
use agentry_core::id::TaskId;
use agentry_core::task::Task;
use agentry_core::time::Timestamp;
use agentry_store::{ClaimRequest, ClaimedTask};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::claims::HeldLease;
use crate::context::Context;
use crate::execute::execute;
use crate::sessions::notify_session;

/// Maximum number of wakes taken at once: a claim of this many is one group commit.
const MAX_BATCH: usize = 256;
/// Delay after a failed claim.
const CLAIM_BACKOFF: Duration = Duration::from_millis(100);
/// Minimum number of free slots for a claim from the backlog, so that it is worth its commit.
const BACKLOG_BATCH: u32 = 64;
/// Age after which a due task must have lost its wake. Younger tasks are left to the worker that the bus chose:
/// otherwise a worker that polls once a second would take the work of all others.
const WAKE_GRACE: Duration = Duration::from_secs(1);

/// Dispatches until the process stops taking work.
///
/// Wakes are the fast path: they carry the task. When wakes were dropped, or recovery finds work that nobody was woken
/// for, there is a backlog, and the dispatcher claims from the store until it is empty: all due tasks, or only those
/// whose wake must have been lost.
///
/// One claim is in flight at a time, so that wakes that arrive meanwhile form the next batch. It runs in a task of its
/// own: a store that hangs does not keep the dispatcher from answering its probe, and a dispatcher that is aborted does
/// not lose its claim.
pub(crate) async fn dispatch(ctx: Arc<Context>) {
    let mut wakes = ctx.bus.wakes(ctx.options.modes);
    let mut backlog: Option<Duration> = None;
    let mut claim: Option<JoinHandle<Backlog>> = None;
    loop {
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            probe = ctx.probes.next() => probe.answer(),
            () = ctx.due.notified() => backlog = Some(Duration::ZERO),
            () = ctx.missed_wakes.notified() => backlog = backlog.or(Some(WAKE_GRACE)),
            answered = claim_result(&mut claim) => {
                claim = None;
                if answered == Backlog::Gone {
                    backlog = None;
                }
            }
            batch = next_batch(&ctx, &mut *wakes), if claim.is_none() => {
                claim = start_batch(&ctx, batch);
                if wakes.overflowed() {
                    backlog = Some(Duration::ZERO);
                }
            }
            (free, older) = backlog_slots(&ctx, backlog), if claim.is_none() => {
                let ctx = Arc::clone(&ctx);
                let tracker = ctx.runs.clone();
                claim = Some(tracker.spawn(async move { claim_next(&ctx, free, older).await }));
            }
        }
    }
}

/// The state of the backlog after a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backlog {
    Gone,
    /// Not polled, or possibly not empty.
    Unknown,
}

/// Waits for the claim in flight; forever without one. Cancel-safe.
async fn claim_result(claim: &mut Option<JoinHandle<Backlog>>) -> Backlog {
    match claim {
        // A panic is logged where it happens; the leases of the claim are reconciled.
        Some(claim) => claim.await.unwrap_or(Backlog::Unknown),
        None => std::future::pending().await,
    }
}

/// Waits for a free slot, then for wakes: at most as many as there are free slots. Cancel-safe.
async fn next_batch(ctx: &Context, wakes: &mut dyn Wakes) -> Vec<Wake> {
    if let Ok(permit) = ctx.slots.acquire().await {
        drop(permit);
    }
    let free = ctx.slots.available_permits().clamp(1, MAX_BATCH);
    wakes.next(free).await
}

/// Waits until enough slots are free for a claim from the backlog; forever without a backlog. Cancel-safe.
async fn backlog_slots(ctx: &Context, backlog: Option<Duration>) -> (usize, Duration) {
    let Some(older) = backlog else { return std::future::pending().await };
    let enough = BACKLOG_BATCH.min(ctx.options.slots.div_ceil(4)).max(1);
    if let Ok(permits) = ctx.slots.acquire_many(enough).await {
        drop(permits);
    }
    (ctx.slots.available_permits().clamp(1, MAX_BATCH), older)
}

/// Notifies sessions, and claims all other tasks in one write.
fn start_batch(ctx: &Arc<Context>, batch: Vec<Wake>) -> Option<JoinHandle<Backlog>> {
    let mut bodies: HashMap<TaskId, Option<Arc<Task>>> = HashMap::with_capacity(batch.len());
    let mut ids = Vec::with_capacity(batch.len());
    for wake in batch {
        match wake.session {
            Some(session) => notify_session(ctx, session),
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
        // The claim holds no slots, so it may return a few tasks too many; they wait for a slot.
        claim(&ctx, ClaimRequest::Tasks(ids), ctx.now(), bodies).await;
        Backlog::Unknown
    }))
}

/// Claims queued tasks that have been due for longer than `older`.
async fn claim_next(ctx: &Arc<Context>, limit: usize, older: Duration) -> Backlog {
    let now = ctx.now();
    let want = ClaimRequest::Next { modes: ctx.options.modes, limit, due_by: now.before(older) };
    let Some(claimed) = claim(ctx, want, now, HashMap::new()).await else { return Backlog::Unknown };
    if !older.is_zero() {
        ctx.metrics.missed_wakes.inc_by(claimed as u64);
    }
    if claimed == limit { Backlog::Unknown } else { Backlog::Gone }
}

/// Claims tasks and starts them. Returns their number; `None` if the store did not answer.
async fn claim(
    ctx: &Arc<Context>,
    want: ClaimRequest,
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
            tracing::warn!(%error, "claiming tasks failed; they stay queued");
            tokio::time::sleep(CLAIM_BACKOFF).await;
            None
        }
    }
}

fn spawn(ctx: &Arc<Context>, mut claimed: ClaimedTask, body: Option<Arc<Task>>) {
    let held = HeldLease::new(ctx, claimed.lease);
    let ctx = Arc::clone(ctx);
    let permit = Arc::clone(&ctx.slots).try_acquire_owned().ok();
    let tracker = ctx.runs.clone();
    tracker.spawn(async move {
        let _held = held;
        let Some(_permit) = slot(&ctx, permit).await else { return };
        let _busy = ctx.count_execution();
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

async fn slot(ctx: &Context, permit: Option<OwnedSemaphorePermit>) -> Option<OwnedSemaphorePermit> {
    match permit {
        Some(permit) => Some(permit),
        None => Arc::clone(&ctx.slots).acquire_owned().await.ok(),
    }
}

/// Reads a task that was claimed without its body, and retries until the store answers.
async fn read_body(ctx: &Context, id: TaskId) -> Option<Arc<Task>> {
    loop {
        match ctx.store.task(id).await {
            Ok(Some(record)) => return Some(Arc::new(record.task)),
            Ok(None) => {
                tracing::error!(task = %id, "a claimed task is not in the store");
                return None;
            }
            Err(error) => tracing::warn!(task = %id, %error, "reading a claimed task failed; retrying"),
        }
        tokio::select! {
            () = tokio::time::sleep(CLAIM_BACKOFF) => {}
            () = ctx.interrupt.cancelled() => return None,
        }
    }
}
