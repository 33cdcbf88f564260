//! `/v1/agents`: the fleet as this process holds it, joined with how the workers find it.

use std::collections::HashMap;
use std::time::Duration;

use agentry_core::agent::{AgentName, ExecutionMode, ModeSet};
use agentry_core::fleet::{AgentEntry, AgentState};
use agentry_core::time::Timestamp;
use agentry_store::{AgentStatus, UsageGroup, UsageRow};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::intake::unknown_agent;
use super::views::decimal_usd;
use crate::extract::Id;
use crate::problem::{Answer, ProblemBody};
use crate::state::AppState;

/// An agent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Agent)]
pub(crate) struct AgentView {
    /// Its name.
    #[schema(value_type = String)]
    pub(crate) name: AgentName,
    /// `starting`, `healthy`, `restarting`, `failed`, `invalid` or `disabled`.
    #[schema(value_type = String)]
    pub(crate) status: AgentState,
    /// How it executes; absent when its file never was good.
    #[schema(value_type = Option<String>)]
    pub(crate) mode: Option<ExecutionMode>,
    /// The version that takes tasks: 12 hex digits of a content hash.
    pub(crate) version: Option<String>,
    /// The file it comes from.
    pub(crate) file: String,
    /// What kind of agent its users call it.
    agent_type: Option<String>,
    /// What it is for.
    description: Option<String>,
    /// Words to find it by.
    tags: Vec<String>,
    /// `provider/model` that it calls first.
    pub(crate) model: Option<String>,
    /// Topics whose events start a task.
    subscriptions: Vec<String>,
    /// Why the newest version of its file is not live; the version above goes on taking tasks.
    pub(crate) error: Option<String>,
    /// Why it is not healthy, as the workers see it.
    pub(crate) reason: Option<String>,
    /// What could not be checked from the file alone.
    pub(crate) warnings: Vec<String>,
    /// What it did.
    pub(crate) counters: AgentCounters,
}

/// What an agent did; `today` is the UTC day.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct AgentCounters {
    /// Restarts since it was last healthy.
    restarts: u32,
    /// Provider calls today.
    llm_calls_today: u64,
    /// Those that failed.
    failed_calls_today: u64,
    /// Tokens sent today.
    input_tokens_today: u64,
    /// Tokens received today.
    output_tokens_today: u64,
    /// What the priced calls of today cost, in US dollars: an exact decimal number.
    pub(crate) cost_usd_today: String,
}

/// All agents of the fleet.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentList {
    /// The agents, by name.
    pub(crate) items: Vec<AgentView>,
}

/// An agent with everything about it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentDetail {
    /// What lists show.
    #[serde(flatten)]
    agent: AgentView,
    /// What its users keep with it.
    metadata: Option<Value>,
    /// Names of the tools it may call.
    tools: Vec<String>,
}

/// What the store knows of agents, read once for a whole list.
pub(crate) struct Seen {
    statuses: HashMap<AgentName, AgentStatus>,
    usage: HashMap<String, UsageRow>,
    /// The modes that workers execute now.
    executed: ModeSet,
}

impl Seen {
    pub(crate) async fn read(state: &AppState) -> Answer<Self> {
        let now = state.now();
        let day_us = 86_400_000_000;
        let midnight = Timestamp(now.0 - now.0.rem_euclid(day_us));
        let tomorrow = midnight.after(Duration::from_secs(86_400));
        let statuses = state.store().agent_statuses().await?;
        let usage = state.store().usage(UsageGroup::Agent, midnight, tomorrow).await?;
        let workers = state.store().workers().await?;
        let alive = workers.iter().filter(|worker| worker.is_alive(now));
        Ok(Self {
            executed: alive.flat_map(|worker| worker.modes.iter()).fold(ModeSet::NONE, ModeSet::with),
            statuses: statuses.into_iter().map(|status| (status.agent.clone(), status)).collect(),
            usage: usage.into_iter().map(|row| (row.key.clone(), row)).collect(),
        })
    }

    /// How an agent is doing: its file decides first, then whether anybody executes its mode, then what those say.
    pub(crate) fn state_of(&self, name: &AgentName, entry: &AgentEntry) -> AgentState {
        match &entry.spec {
            None => AgentState::Invalid,
            Some(spec) if !spec.enabled => AgentState::Disabled,
            Some(spec) if !self.executed.contains(spec.mode) => AgentState::Starting,
            Some(_) => self.statuses.get(name).map_or(AgentState::Starting, |status| status.state),
        }
    }

    fn reason(&self, name: &AgentName, entry: &AgentEntry) -> Option<String> {
        let mode = entry.spec.as_ref().filter(|spec| spec.enabled).map(|spec| spec.mode);
        if let Some(mode) = mode.filter(|mode| !self.executed.contains(*mode)) {
            return Some(format!("no worker executes {mode} agents now"));
        }
        self.statuses.get(name).and_then(|status| status.reason.clone())
    }

    fn counters(&self, name: &AgentName) -> AgentCounters {
        let usage = self.usage.get(name.as_str());
        AgentCounters {
            restarts: self.statuses.get(name).map_or(0, |status| status.restarts),
            llm_calls_today: usage.map_or(0, |row| row.calls),
            failed_calls_today: usage.map_or(0, |row| row.failed_calls),
            input_tokens_today: usage.map_or(0, |row| row.input_tokens),
            output_tokens_today: usage.map_or(0, |row| row.output_tokens),
            cost_usd_today: decimal_usd(usage.map_or_else(Default::default, |row| row.cost_nanos)),
        }
    }

    pub(crate) fn view(&self, name: &AgentName, entry: &AgentEntry) -> AgentView {
        let spec = entry.spec.as_deref();
        let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
        AgentView {
            name: name.clone(),
            status: self.state_of(name, entry),
            mode: spec.map(|spec| spec.mode),
            version: spec.map(|spec| spec.version.to_string()),
            file: entry.file.to_string(),
            agent_type: spec.and_then(|spec| text(&spec.agent_type)),
            description: spec.and_then(|spec| text(&spec.description)),
            tags: spec.map_or_else(Vec::new, |spec| spec.tags.iter().map(ToString::to_string).collect()),
            model: spec.map(|spec| format!("{}/{}", spec.llm.target.provider, spec.llm.target.model)),
            subscriptions: spec.map_or_else(Vec::new, |s| s.subscriptions.iter().map(ToString::to_string).collect()),
            error: entry.error.as_deref().map(str::to_owned),
            reason: self.reason(name, entry),
            warnings: entry.warnings.iter().map(ToString::to_string).collect(),
            counters: self.counters(name),
        }
    }
}

/// Every agent, by name.
pub(crate) async fn all(state: &AppState) -> Answer<Vec<AgentView>> {
    let seen = Seen::read(state).await?;
    let fleet = state.deps.fleet.current();
    let mut items: Vec<AgentView> = fleet.iter().map(|(name, entry)| seen.view(name, entry)).collect();
    items.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(items)
}

/// Lists the fleet
#[utoipa::path(
    get, path = "/v1/agents", tag = "agents",
    responses((status = 200, description = "Every agent, invalid ones included", body = AgentList))
)]
pub(crate) async fn list(State(state): State<AppState>) -> Answer {
    Ok(axum::Json(AgentList { items: all(&state).await? }).into_response())
}

/// Shows an agent
#[utoipa::path(
    get, path = "/v1/agents/{name}", tag = "agents", params(("name" = String, Path)),
    responses(
        (status = 200, description = "The agent", body = AgentDetail),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(State(state): State<AppState>, Id(name): Id<String>) -> Answer<Response> {
    let fleet = state.deps.fleet.current();
    let found = AgentName::new(&name).ok().and_then(|checked| Some((fleet.entry(&name)?, checked)));
    let Some((entry, name)) = found else { return Err(unknown_agent(&fleet, &name)) };
    let seen = Seen::read(&state).await?;
    let spec = entry.spec.as_deref();
    let detail = AgentDetail {
        agent: seen.view(&name, entry),
        metadata: spec.and_then(|spec| spec.metadata.as_deref().cloned()),
        tools: spec.map_or_else(Vec::new, |spec| spec.tools.iter().map(|tool| tool.name.to_string()).collect()),
    };
    Ok(axum::Json(detail).into_response())
}
