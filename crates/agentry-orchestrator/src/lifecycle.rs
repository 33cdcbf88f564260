//! Health: an agent is healthy when its consumer is attached and its probe answers. The consumer is the dispatcher
//! that agents share; the probe asks it, and looks whether the agent's model and tools can be used at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentry_bus::Signal;
use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::fleet::{AgentEntry, AgentState};
use agentry_store::AgentStatus;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::context::Context;
use crate::dispatch::dispatch;

/// How often the dispatcher is asked (PLATFORM: an unresponsive agent is found within 60 s, goal 5 s).
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// Time to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Restarts before agents are `failed`.
pub(crate) const MAX_RESTARTS: u32 = 3;
/// Wait before the first restart; doubles.
const RESTART_BACKOFF: Duration = Duration::from_millis(200);

/// A question to the dispatcher: do you listen?
pub(crate) struct Probe(oneshot::Sender<()>);

impl Probe {
    pub fn answer(self) {
        // Nobody waits any more when the answer is too late.
        let _ = self.0.send(());
    }
}

/// The way to the dispatcher.
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
    /// The next question. Never ends by itself.
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

/// Runs the dispatcher, probes it, restarts it, and says how the agents are doing.
pub(crate) async fn supervise(ctx: Arc<Context>) {
    let mut fleet_changes = ctx.fleet.changes();
    let mut said: HashMap<AgentName, AgentStatus> = HashMap::new();
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
        say(&ctx, &mut said, alive, restarts).await;
        if !alive && restarts <= MAX_RESTARTS {
            tracing::error!(restarts, "the dispatcher does not answer; it is restarted");
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

    /// The dispatcher ends by itself when the process stops taking work.
    async fn end(self) {
        if tokio::time::timeout(PROBE_TIMEOUT, self.0).await.is_err() {
            tracing::warn!("the dispatcher did not end in time");
        }
    }
}

/// Tells the store what changed about the agents since it was last told.
async fn say(ctx: &Context, said: &mut HashMap<AgentName, AgentStatus>, alive: bool, restarts: u32) {
    let fleet = ctx.fleet.current();
    let mut changed = Vec::new();
    for (name, entry) in fleet.iter() {
        let (state, reason) = state_of(ctx, entry, alive, restarts);
        let version = entry.spec.as_ref().map(|spec| spec.version.clone());
        let same = said.get(name).is_some_and(|old| {
            old.state == state && old.version == version && old.reason == reason && old.restarts == restarts
        });
        if !same {
            let since = ctx.now();
            changed.push(AgentStatus { agent: name.clone(), state, version, restarts, reason, since });
        }
    }
    let gone: Vec<AgentName> = said.keys().filter(|name| fleet.entry(name.as_str()).is_none()).cloned().collect();
    if !changed.is_empty() {
        match ctx.store.put_agent_status(changed.clone()).await {
            Ok(()) => {
                for status in changed {
                    ctx.bus.signal(Signal::Agent(status.agent.clone()));
                    said.insert(status.agent.clone(), status);
                }
            }
            Err(error) => tracing::warn!(%error, "could not say how agents are doing"),
        }
    }
    if !gone.is_empty() {
        match ctx.store.forget_agents(gone.clone()).await {
            Ok(()) => said.retain(|name, _| !gone.contains(name)),
            Err(error) => tracing::warn!(%error, "could not forget agents that are gone"),
        }
    }
}

fn state_of(ctx: &Context, entry: &AgentEntry, alive: bool, restarts: u32) -> (AgentState, Option<String>) {
    let error = entry.error.as_ref().map(ToString::to_string);
    let Some(spec) = &entry.spec else { return (AgentState::Invalid, error) };
    if !spec.enabled {
        return (AgentState::Disabled, error);
    }
    if !alive {
        let reason = Some("its consumer does not answer".to_owned());
        let state = if restarts > MAX_RESTARTS { AgentState::Failed } else { AgentState::Restarting };
        return (state, reason);
    }
    match probe(ctx, spec) {
        Ok(()) => (AgentState::Healthy, error),
        Err(reason) => (AgentState::Failed, Some(reason)),
    }
}

/// Whether the agent could begin a task now, short of calling anybody.
fn probe(ctx: &Context, spec: &AgentSpec) -> Result<(), String> {
    if !ctx.options.modes.contains(spec.mode) {
        return Err(format!("no worker here executes {} agents", spec.mode));
    }
    // Building the tool definitions compiles nothing and calls nobody; it fails only on a fault of ours.
    let _definitions = ctx.tools.definitions(spec);
    Ok(())
}
