//! Sessions in this process: one lane for each that has work, and the windows of those touched lately.

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
use crate::modes::Window;

/// Sessions with work at once in this process at most; further ones are found by recovery when others are done.
const MAX_LANES: usize = 50_000;
/// Windows kept in memory at most; beyond, the longest untouched leave first.
const MAX_WINDOWS: usize = 10_000;

/// The sessions that have a lane now. `true`: another wake came while it was busy.
#[derive(Default)]
pub(crate) struct Lanes {
    active: Mutex<HashMap<SessionId, bool>>,
}

/// A session has work: its lane looks into its inbox, one task after another.
pub(crate) fn poke(ctx: &Arc<Context>, session: SessionId) {
    if ctx.stop.is_cancelled() {
        return;
    }
    {
        let mut active = lock(&ctx.lanes.active);
        if let Some(poked) = active.get_mut(&session) {
            *poked = true;
            return;
        }
        if active.len() >= MAX_LANES {
            return;
        }
        active.insert(session.clone(), false);
    }
    ctx.runs.spawn(lane(Arc::clone(ctx), session));
}

async fn lane(ctx: Arc<Context>, session: SessionId) {
    loop {
        drain(&ctx, &session).await;
        let mut active = lock(&ctx.lanes.active);
        match active.get_mut(&session) {
            Some(poked) if *poked && !ctx.stop.is_cancelled() => *poked = false,
            _ => {
                active.remove(&session);
                return;
            }
        }
    }
}

/// Executes what the inbox holds, oldest first, until there is nothing this worker may do.
async fn drain(ctx: &Arc<Context>, session: &SessionId) {
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
                    tracing::error!(%session, "the store claimed a session's task without its body");
                    return;
                };
                let busy = ctx.enter();
                execute(ctx, *claimed, task, Some(&record)).await;
                drop(busy);
            }
            Ok(SessionClaim::NotBefore(_)) => {
                ctx.delayed.notify_one();
                return;
            }
            // A later wake comes when that ends: an answer, another owner's end, or recovery.
            Ok(SessionClaim::Busy | SessionClaim::Waiting | SessionClaim::Empty) => return,
            Err(error) => {
                tracing::warn!(%session, %error, "could not claim the session; recovery will try again");
                return;
            }
        }
    }
}

/// The ends of conversations touched lately, so that a turn reads nothing.
#[derive(Default)]
pub(crate) struct Windows {
    windows: Mutex<HashMap<SessionId, Resident>>,
}

struct Resident {
    window: Window,
    created_at: Timestamp,
    touched: Timestamp,
    idle_ms: u64,
}

impl Windows {
    /// The window of a session whose last message is `record.messages`, if it is here and current.
    pub fn take(&self, record: &SessionRecord) -> Option<Window> {
        let resident = lock(&self.windows).remove(&record.id)?;
        (resident.window.last == record.messages && resident.created_at == record.created_at).then_some(resident.window)
    }

    /// Keeps a window with what a turn added, cut to twice what is sent.
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
        window.messages.drain(..surplus);
        let mut windows = lock(&self.windows);
        if windows.len() >= MAX_WINDOWS {
            evict_oldest(&mut windows);
        }
        let resident = Resident { window, created_at: record.created_at, touched: now, idle_ms };
        windows.insert(record.id.clone(), resident);
    }

    /// Lets go of windows that were not touched for their idle timeout.
    pub fn evict_idle(&self, now: Timestamp) {
        lock(&self.windows).retain(|_, resident| now.since(resident.touched) < Duration::from_millis(resident.idle_ms));
    }
}

/// Makes room for a while: a tenth of the windows, the longest untouched ones.
fn evict_oldest(windows: &mut HashMap<SessionId, Resident>) {
    let mut ages: Vec<Timestamp> = windows.values().map(|resident| resident.touched).collect();
    let tenth = ages.len() / 10;
    let (_, cut, _) = ages.select_nth_unstable(tenth);
    let cut = *cut;
    windows.retain(|_, resident| resident.touched > cut);
}
