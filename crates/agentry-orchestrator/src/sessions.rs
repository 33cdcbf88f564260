//! Active sessions of this process, and the cached windows of recent ones.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_core::chat::Message;
use agentry_core::session::{SessionId, SessionRecord};
use agentry_core::time::Timestamp;
use agentry_store::SessionClaim;

use crate::claims::HeldLease;
use crate::context::{Context, lock};
use crate::execute::execute;
use crate::modes::{Window, last_turn};

/// Maximum number of active sessions; recovery finds further ones later.
const MAX_ACTIVE: usize = 50_000;
/// Maximum number of cached windows; beyond, the least recently used are evicted.
const MAX_WINDOWS: usize = 10_000;

/// The active sessions. `true`: another wake came while it was busy.
#[derive(Default)]
pub(crate) struct ActiveSessions {
    active: Mutex<HashMap<SessionId, bool>>,
}

/// Starts work on a session, one task after another, unless it is active already.
pub(crate) fn notify_session(ctx: &Arc<Context>, session: SessionId) {
    if ctx.stop.is_cancelled() {
        return;
    }
    {
        let mut active = lock(&ctx.sessions.active);
        if let Some(notified) = active.get_mut(&session) {
            *notified = true;
            return;
        }
        if active.len() >= MAX_ACTIVE {
            return;
        }
        active.insert(session.clone(), false);
    }
    ctx.runs.spawn(run_session(Arc::clone(ctx), session));
}

async fn run_session(ctx: Arc<Context>, session: SessionId) {
    loop {
        run_inbox(&ctx, &session).await;
        let mut active = lock(&ctx.sessions.active);
        match active.get_mut(&session) {
            Some(notified) if *notified && !ctx.stop.is_cancelled() => *notified = false,
            _ => {
                active.remove(&session);
                return;
            }
        }
    }
}

/// Executes the tasks of a session's inbox, oldest first, until none is left that this worker may execute.
async fn run_inbox(ctx: &Arc<Context>, session: &SessionId) {
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&ctx.slots).acquire_owned() => permit,
            () = ctx.stop.cancelled() => return,
        };
        let Ok(_permit) = permit else { return };
        let in_flight = ctx.claims.begin();
        match ctx.store.claim_session(ctx.worker, session, ctx.now()).await {
            Ok(SessionClaim::Claimed { claimed, session: record }) => {
                let _held = HeldLease::new(ctx, claimed.lease);
                drop(in_flight);
                let Some(task) = claimed.task.clone() else {
                    tracing::error!(%session, "the store returned a claimed session task without its body");
                    return;
                };
                let busy = ctx.count_execution();
                execute(ctx, *claimed, task, Some(&record)).await;
                drop(busy);
            }
            Ok(SessionClaim::NotBefore(_)) => {
                ctx.delayed.notify_one();
                return;
            }
            // A later wake follows when that ends: an answer, another owner's end, or recovery.
            Ok(SessionClaim::Busy | SessionClaim::Waiting | SessionClaim::Empty) => return,
            Err(error) => {
                tracing::warn!(%session, %error, "claiming the session failed; recovery will retry");
                return;
            }
        }
    }
}

/// Recent messages of sessions, so that a turn need not read them from the store.
#[derive(Default)]
pub(crate) struct WindowCache {
    windows: Mutex<HashMap<SessionId, CachedWindow>>,
}

struct CachedWindow {
    window: Window,
    created_at: Timestamp,
    touched: Timestamp,
    idle_ms: u64,
}

impl WindowCache {
    /// Returns the window of a session if it is cached and current.
    pub fn take(&self, record: &SessionRecord) -> Option<Window> {
        let cached = lock(&self.windows).remove(&record.id)?;
        (cached.window.last == record.messages && cached.created_at == record.created_at).then_some(cached.window)
    }

    /// Caches a window with the messages of a turn, cut to twice the number that is sent, or to the last turn.
    pub fn keep(
        &self,
        record: &SessionRecord,
        mut window: Window,
        added: &[Message],
        most: u32,
        idle_ms: u64,
        now: Timestamp,
    ) {
        window.last += u64::try_from(added.len()).unwrap_or(0);
        window.messages.extend_from_slice(added);
        let surplus = window.messages.len().saturating_sub(most as usize * 2);
        let of_earlier_turns = surplus.min(last_turn(&window.messages).unwrap_or(surplus));
        window.messages.drain(..of_earlier_turns);
        let mut windows = lock(&self.windows);
        if windows.len() >= MAX_WINDOWS {
            evict_oldest(&mut windows);
        }
        let cached = CachedWindow { window, created_at: record.created_at, touched: now, idle_ms };
        windows.insert(record.id.clone(), cached);
    }

    /// Evicts windows that were not used for their idle timeout.
    pub fn evict_idle(&self, now: Timestamp) {
        lock(&self.windows).retain(|_, cached| now.since(cached.touched) < Duration::from_millis(cached.idle_ms));
    }
}

/// Evicts the least recently used tenth of the windows.
fn evict_oldest(windows: &mut HashMap<SessionId, CachedWindow>) {
    let mut ages: Vec<Timestamp> = windows.values().map(|cached| cached.touched).collect();
    let tenth = ages.len() / 10;
    let (_, cut, _) = ages.select_nth_unstable(tenth);
    let cut = *cut;
    windows.retain(|_, cached| cached.touched > cut);
}
