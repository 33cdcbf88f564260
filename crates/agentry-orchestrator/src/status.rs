//! Says in the store how agents are doing, as one of any number of workers with the same files.
//!
//! There is one row for each agent, and an agent is as well as its best worker: a worker that is well puts a worse row
//! right, and one that is not keeps silent while another worker lives that executes the agent's mode. A worker writes
//! only what differs from the row, so that workers that start together, or again, write nothing.

use std::collections::HashMap;
use std::time::Duration;

use agentry_bus::Signal;
use agentry_core::agent::{AgentName, ExecutionMode, ModeSet};
use agentry_core::fleet::{AgentEntry, AgentState};
use agentry_core::time::Timestamp;
use agentry_store::{AgentStatus, StoreError};

use crate::context::Context;
use crate::lifecycle::MAX_RESTARTS;

/// How often the rows are read, to put right what a worker said that is gone or was not well.
const REREAD: Duration = Duration::from_secs(10);

/// What this worker found of each agent, and knows to be in the store.
#[derive(Default)]
pub(crate) struct Said {
    found: HashMap<AgentName, AgentStatus>,
    read_at: Option<Timestamp>,
}

impl Said {
    /// Brings the store in line with what this worker finds.
    pub async fn say(&mut self, ctx: &Context, alive: bool, restarts: u32) {
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
                Err(error) => tracing::warn!(%error, "could not say how agents are doing"),
            }
        }
        self.forget(ctx).await;
    }

    /// Agents whose files are gone. Others may have them still and say so again.
    async fn forget(&mut self, ctx: &Context) {
        let fleet = ctx.fleet.current();
        let gone = self.found.keys().filter(|name| fleet.entry(name.as_str()).is_none());
        let mut gone: Vec<AgentName> = gone.cloned().collect();
        if gone.is_empty() {
            return;
        }
        gone.sort_unstable();
        match ctx.store.forget_agents(gone.clone()).await {
            Ok(()) => self.found.retain(|name, _| !gone.contains(name)),
            Err(error) => tracing::warn!(%error, "could not forget agents that are gone"),
        }
    }
}

/// Whether two statuses say the same.
fn same(a: &AgentStatus, b: &AgentStatus) -> bool {
    a.state == b.state && a.version == b.version && a.reason == b.reason && a.restarts == b.restarts
}

/// How the agents that this worker can speak for are doing, by name: several workers write rows in one order.
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

/// How an agent is doing here; `None`: its mode is executed elsewhere.
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
    // An agent whose tools are away works on without them; people are told.
    Some((AgentState::Healthy, error.or_else(|| ctx.tools.trouble(spec))))
}

/// Writes what the store has otherwise. Returns what is settled: everything, or what was not left to other workers.
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

/// The modes that other workers execute.
async fn modes_elsewhere(ctx: &Context) -> Result<ModeSet, StoreError> {
    let now = ctx.now();
    let workers = ctx.store.workers(now).await?;
    let others = workers.iter().filter(|worker| worker.id != ctx.worker && worker.is_alive(now));
    Ok(others.flat_map(|worker| worker.modes.iter()).fold(ModeSet::NONE, ModeSet::with))
}
