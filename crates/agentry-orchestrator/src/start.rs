//! Starts what the roles of this process ask for, and ends it: one stop token, one tracker, one drain.
//!
//! | role | what runs |
//! |---|---|
//! | worker | dispatcher and its supervisor, the timer of delayed tasks, who is to be cancelled, events from outside |
//! | scheduler | schedules |
//! | worker or scheduler | heartbeat, recovery, the relay of the outbox |
//! | api | events from outside |
//!
//! Every service may run in any number of processes: what it does is decided by a claim or a unique row in the store.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::id::WorkerId;
use agentry_store::StoreError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::{Context, OrchestratorDeps};
use crate::{inbound, lifecycle, recovery, relay, scheduler};

/// Of the drain's time, what is kept for giving tasks back that would not end.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// Runs tasks.
pub struct Orchestrator;

impl Orchestrator {
    /// Registers this process when it claims anything, and begins.
    ///
    /// # Errors
    /// When the store does not take the registration: nothing runs then.
    pub async fn start(deps: OrchestratorDeps) -> Result<Running, StoreError> {
        let ctx = Arc::new(Context::new(deps));
        let services = TaskTracker::new();
        let end = CancellationToken::new();
        let options = &ctx.options;
        if options.claims() {
            // Registered before the first claim: an owner that nobody knows counts as dead.
            recovery::send_heartbeat(&ctx).await?;
            services.spawn(recovery::heartbeat(Arc::clone(&ctx), end.clone()));
            services.spawn(recovery::recover(Arc::clone(&ctx)));
            services.spawn(relay::relay(Arc::clone(&ctx)));
        }
        if options.executes() {
            services.spawn(recovery::listen(Arc::clone(&ctx)));
            services.spawn(lifecycle::supervise(Arc::clone(&ctx)));
            services.spawn(recovery::delayed(Arc::clone(&ctx)));
        }
        if options.fires() {
            services.spawn(scheduler::schedule(Arc::clone(&ctx)));
        }
        if options.takes_events()
            && let Some(events) = ctx.bus.inbound()
        {
            services.spawn(inbound::take_in(Arc::clone(&ctx), events));
        }
        services.close();
        Ok(Running { ctx, services, end })
    }
}

/// A running orchestrator.
pub struct Running {
    ctx: Arc<Context>,
    services: TaskTracker,
    end: CancellationToken,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Whether every task ended or was given back in time.
    pub clean: bool,
}

impl Running {
    /// This worker's name.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.ctx.worker
    }

    /// Takes no more work, lets running tasks end or reach a checkpoint and be given back, and leaves. Returns within
    /// `limit`; what is not given back by then is found by recovery.
    pub async fn drain(self, limit: Duration) -> Drained {
        let ctx = &self.ctx;
        ctx.stop.cancel();
        ctx.runs.close();
        let patience = limit.saturating_sub(GIVE_BACK);
        let mut clean = tokio::time::timeout(patience, ctx.runs.wait()).await.is_ok();
        ctx.interrupt.cancel();
        if !clean {
            clean = tokio::time::timeout(GIVE_BACK.min(limit), ctx.runs.wait()).await.is_ok();
        }
        self.end.cancel();
        if tokio::time::timeout(GIVE_BACK, self.services.wait()).await.is_err() {
            tracing::warn!("a service did not end in time");
        }
        if clean
            && ctx.options.claims()
            && let Err(error) = ctx.store.deregister(ctx.worker).await
        {
            tracing::warn!(%error, "could not leave the list of workers");
        }
        Drained { clean }
    }
}
