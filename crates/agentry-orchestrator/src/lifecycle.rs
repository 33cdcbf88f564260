//! Health: an agent is healthy if its consumer is attached and answers its probe. The consumer is the dispatcher, which
//! all agents share; a probe also checks whether the agent's model and tools are usable.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::dispatch::dispatch;
use crate::status::StatusReporter;

/// Interval between probes of the dispatcher (PLATFORM: an unresponsive agent is found within 60 s, goal 5 s).
const PROBE_EVERY: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Number of restarts before agents are reported as `failed`.
pub(crate) const MAX_RESTARTS: u32 = 3;
/// Delay before the first restart; doubles.
const RESTART_BACKOFF: Duration = Duration::from_millis(200);

/// A request for a sign of life from the dispatcher.
pub(crate) struct Probe(oneshot::Sender<()>);

impl Probe {
    pub fn answer(self) {
        // The supervisor has given up if the answer is too late.
        let _ = self.0.send(());
    }
}

/// The channel of probes to the dispatcher.
pub(crate) struct Probes {
    sender: mpsc::Sender<Probe>,
    receiver: Mutex<mpsc::Receiver<Probe>>,
}

impl Default for Probes {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(1);
        Self { sender, receiver: Mutex::new(receiver) }
    }
}

impl Probes {
    /// Waits for the next probe, forever if there is none.
    pub async fn next(&self) -> Probe {
        match self.receiver.lock().await.recv().await {
            Some(probe) => probe,
            None => std::future::pending().await,
        }
    }

    async fn ask(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.sender.send(Probe(answer)).await.ok()?;
            answered.await.ok()
        };
        matches!(tokio::time::timeout(PROBE_TIMEOUT, asked).await, Ok(Some(())))
    }
}

/// Runs the dispatcher, probes it, restarts it, and reports the status of the agents.
pub(crate) async fn supervise(ctx: Arc<Context>) {
    let mut fleet_changes = ctx.fleet.changes();
    let mut reporter = StatusReporter::default();
    let mut restarts = 0_u32;
    let mut dispatcher = Dispatcher::start(&ctx);
    loop {
        let alive = ctx.probes.ask().await && !dispatcher.0.is_finished();
        if ctx.stop.is_cancelled() {
            return dispatcher.end().await;
        }
        if alive {
            restarts = 0;
        } else {
            restarts = restarts.saturating_add(1);
        }
        reporter.report(&ctx, alive, restarts).await;
        if !alive && restarts <= MAX_RESTARTS {
            tracing::error!(restarts, "the dispatcher does not answer its probe; restarting it");
            dispatcher.0.abort();
            tokio::time::sleep(RESTART_BACKOFF * 2_u32.pow(restarts - 1)).await;
            dispatcher = Dispatcher::start(&ctx);
            continue;
        }
        tokio::select! {
            () = ctx.stop.cancelled() => return dispatcher.end().await,
            changed = fleet_changes.changed() => if changed.is_err() { return dispatcher.end().await },
            () = tokio::time::sleep(PROBE_EVERY) => {}
        }
    }
}

struct Dispatcher(JoinHandle<()>);

impl Dispatcher {
    fn start(ctx: &Arc<Context>) -> Self {
        Self(tokio::spawn(dispatch(Arc::clone(ctx))))
    }

    /// Waits for the dispatcher, which ends when the process stops taking work.
    async fn end(self) {
        if tokio::time::timeout(PROBE_TIMEOUT, self.0).await.is_err() {
            tracing::warn!("the dispatcher did not stop in time");
        }
    }
}
