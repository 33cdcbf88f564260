//! Starts and stops the services of a process's roles: one stop token, one tracker, one drain.
//!
//! | role | what runs |
//! |---|---|
//! | worker | dispatcher and its supervisor, the timer of delayed tasks, who is to be cancelled, events from outside |
//! | scheduler | schedules |
//! | worker or scheduler | heartbeat, recovery, the relay of the outbox |
//! | api | events from outside |
//!
//! Every service may run in any number of processes: its actions are decided by a claim or a unique row in the store.

use std::sync::Arc;
use std::time::Duration;

use agentry_core::id::WorkerId;
use agentry_store::StoreError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::{Context, OrchestratorDeps};
use crate::{inbound, lifecycle, recovery, relay, scheduler};

/// Share of the drain's time that is reserved for releasing tasks that did not end.
const RELEASE_TIME: Duration = Duration::from_secs(2);

/// Executes tasks.
pub struct Orchestrator;

impl Orchestrator {
    /// Registers this process if it claims anything, and starts its services.
    ///
    /// # Errors
    /// Fails when the store refuses the registration: then nothing runs.
    pub async fn start(deps: OrchestratorDeps) -> Result<Running, StoreError> {
        let ctx = Arc::new(Context::new(deps));
        let services = TaskTracker::new();
        let end = CancellationToken::new();
        let options = &ctx.options;
        if options.claims() {
            // Registered before the first claim: an unknown owner counts as dead.
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
        if options.consumes_events()
            && let Some(events) = ctx.bus.inbound()
        {
            services.spawn(inbound::consume(Arc::clone(&ctx), events));
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

/// The result of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainResult {
    /// True if every task ended or was released in time.
    pub clean: bool,
}

impl Running {
    /// Returns the id of this worker.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.ctx.worker
    }

    /// Takes no more work, lets running tasks end or reach a checkpoint and be released, and deregisters. Returns
    /// within `limit`; recovery finds the tasks that were not released by then.
    pub async fn drain(self, limit: Duration) -> DrainResult {
        let ctx = &self.ctx;
        ctx.stop.cancel();
        ctx.runs.close();
        let patience = limit.saturating_sub(RELEASE_TIME);
        let mut clean = tokio::time::timeout(patience, ctx.runs.wait()).await.is_ok();
        ctx.interrupt.cancel();
        if !clean {
            clean = tokio::time::timeout(RELEASE_TIME.min(limit), ctx.runs.wait()).await.is_ok();
        }
        self.end.cancel();
        if tokio::time::timeout(RELEASE_TIME, self.services.wait()).await.is_err() {
            tracing::warn!("a service did not stop in time");
        }
        if clean
            && ctx.options.claims()
            && let Err(error) = ctx.store.deregister(ctx.worker).await
        {
            tracing::warn!(%error, "deregistering this worker failed");
        }
        DrainResult { clean }
    }
}
