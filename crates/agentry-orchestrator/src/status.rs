//! Reports the status of agents to the store, as one of any number of workers with the same files.
//!
//! There is one row for each agent, with the status of its best worker: a healthy worker corrects a worse row, and an
//! unhealthy one reports nothing while another live worker executes the agent's mode. A worker writes only differences,
//! so that workers that start together, or restart, write nothing.

use std::collections::HashMap;
use std::time::Duration;

use agentry_bus::Signal;
use agentry_core::agent::{AgentName, ExecutionMode, ModeSet};
use agentry_core::fleet::{AgentEntry, AgentState};
use agentry_core::time::Timestamp;
use agentry_store::{AgentStatus, StoreError};

use crate::context::Context;
use crate::lifecycle::MAX_RESTARTS;

/// Interval between reads of the rows, which corrects reports of workers that are gone or were unhealthy.
const REREAD: Duration = Duration::from_secs(10);

/// Reports agent statuses; remembers the last report that is known to be stored.
#[derive(Default)]
pub(crate) struct StatusReporter {
    found: HashMap<AgentName, AgentStatus>,
    read_at: Option<Timestamp>,
}

impl StatusReporter {
    /// Updates the store with this worker's findings.
    pub async fn report(&mut self, ctx: &Context, alive: bool, restarts: u32) {
        let found = find(ctx, alive, restarts);
        let changed = found.iter().any(|status| self.found.get(&status.agent).is_none_or(|old| !same(old, status)));
        let now = ctx.now();
        let due = self.read_at.is_none_or(|read_at| now.since(read_at) >= REREAD);
        if changed || due {
            match put(ctx, found).await {
                Ok(found) => {
                    self.read_at = Some(now);
                    self.found.extend(found.into_iter().map(|status| (status.agent.clone(), status)));
                }
                Err(error) => tracing::warn!(%error, "reporting agent statuses failed"),
            }
        }
        self.forget(ctx).await;
    }

    /// Removes agents whose files are gone. Workers that still have them report them again.
    async fn forget(&mut self, ctx: &Context) {
        let fleet = ctx.fleet.current();
        let gone = self.found.keys().filter(|name| fleet.entry(name.as_str()).is_none());
        let mut gone: Vec<AgentName> = gone.cloned().collect();
        if gone.is_empty() {
            return;
        }
        gone.sort_unstable();
        match ctx.store.remove_agent_statuses(gone.clone()).await {
            Ok(()) => self.found.retain(|name, _| !gone.contains(name)),
            Err(error) => tracing::warn!(%error, "removing statuses of deleted agents failed"),
        }
    }
}

/// Returns whether two reports are equal.
fn same(a: &AgentStatus, b: &AgentStatus) -> bool {
    a.state == b.state && a.version == b.version && a.reason == b.reason && a.restarts == b.restarts
}

/// Returns this worker's findings, sorted by agent: several workers write rows in one order.
fn find(ctx: &Context, alive: bool, restarts: u32) -> Vec<AgentStatus> {
    let (fleet, since) = (ctx.fleet.current(), ctx.now());
    let mut found: Vec<AgentStatus> = fleet
        .iter()
        .filter_map(|(name, entry)| {
            let (state, reason) = state_of(ctx, entry, alive, restarts)?;
            let version = entry.spec.as_ref().map(|spec| spec.version.clone());
            Some(AgentStatus { agent: name.clone(), state, version, restarts, reason, since })
        })
        .collect();
    found.sort_unstable_by(|a, b| a.agent.cmp(&b.agent));
    found
}

/// Returns the status of an agent and its reason; `None` if its mode is executed elsewhere.
fn state_of(ctx: &Context, entry: &AgentEntry, alive: bool, restarts: u32) -> Option<(AgentState, Option<String>)> {
    let error = entry.error.as_ref().map(ToString::to_string);
    let Some(spec) = &entry.spec else { return Some((AgentState::Invalid, error)) };
    if !spec.enabled {
        return Some((AgentState::Disabled, error));
    }
    if !ctx.options.modes.contains(spec.mode) {
        return None;
    }
    if !alive {
        let reason = Some("its consumer does not answer".to_owned());
        let state = if restarts > MAX_RESTARTS { AgentState::Failed } else { AgentState::Restarting };
        return Some((state, reason));
    }
    // An agent works on without tools that are unavailable; the reason is shown.
    Some((AgentState::Healthy, error.or_else(|| ctx.tools.trouble(spec))))
}

/// Writes the rows that differ from the store's. Returns what is settled: everything, or what was not left to other
/// workers.
async fn put(ctx: &Context, found: Vec<AgentStatus>) -> Result<Vec<AgentStatus>, StoreError> {
    let rows = ctx.store.agent_statuses().await?;
    let rows: HashMap<&AgentName, &AgentStatus> = rows.iter().map(|row| (&row.agent, row)).collect();
    let differing = found.iter().filter(|status| rows.get(&status.agent).is_none_or(|row| !same(row, status)));
    let mut wrong: Vec<AgentStatus> = differing.cloned().collect();
    if wrong.iter().any(is_unwell) {
        let elsewhere = modes_elsewhere(ctx).await?;
        let fleet = ctx.fleet.current();
        let mode = |name: &AgentName| -> Option<ExecutionMode> { fleet.live(name).map(|spec| spec.mode) };
        wrong.retain(|status| !is_unwell(status) || mode(&status.agent).is_none_or(|mode| !elsewhere.contains(mode)));
    }
    if wrong.is_empty() {
        return Ok(found);
    }
    let names: Vec<AgentName> = wrong.iter().map(|status| status.agent.clone()).collect();
    ctx.store.put_agent_status(wrong).await?;
    names.into_iter().for_each(|name| ctx.bus.signal(Signal::Agent(name)));
    Ok(found)
}

fn is_unwell(status: &AgentStatus) -> bool {
    matches!(status.state, AgentState::Restarting | AgentState::Failed)
}

/// Returns the modes that other workers execute.
async fn modes_elsewhere(ctx: &Context) -> Result<ModeSet, StoreError> {
    let now = ctx.now();
    let workers = ctx.store.workers(now).await?;
    let others = workers.iter().filter(|worker| worker.id != ctx.worker && worker.is_alive(now));
    Ok(others.flat_map(|worker| worker.modes.iter()).fold(ModeSet::NONE, ModeSet::with))
}
