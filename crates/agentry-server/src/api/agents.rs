//! `/v1/agents`: the fleet of this process, with the status that the workers report.

use std::collections::HashMap;
use std::time::Duration;

use agentry_api::{AgentCounters, AgentDetail, AgentQuery, AgentView, List, decimal_usd};
use agentry_core::agent::{AgentName, ModeSet};
use agentry_core::fleet::{AgentEntry, AgentState};
use agentry_core::money::NanoUsd;
use agentry_core::time::Timestamp;
use agentry_core::worker::WorkerRecord;
use agentry_store::{AgentStatus, UsageGroup, UsageRow};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::deployment::process_file;
use super::overview::{OverviewSnapshot, overview_snapshot};
use super::request::unknown_agent;
use crate::extract::{PathParam, Query, from_cursor, page_size, to_cursor};
use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};
use crate::state::AppState;

/// The status of all agents, read once per list.
pub(crate) struct FleetStatus {
    statuses: HashMap<AgentName, AgentStatus>,
    usage: HashMap<String, UsageRow>,
    /// The modes that live workers execute.
    executed: ModeSet,
    /// The live workers and schedulers.
    alive: Vec<WorkerRecord>,
}

impl FleetStatus {
    /// Returns the cost of the priced calls of the UTC day.
    pub(crate) fn cost_today(&self) -> NanoUsd {
        self.usage.values().fold(NanoUsd(0), |sum, row| sum.plus(row.cost_nanos))
    }

    /// Reads the status of agents and their usage today.
    pub(crate) async fn read(state: &AppState) -> ApiResult<Self> {
        let now = state.now();
        let day_us = 86_400_000_000;
        let midnight = Timestamp(now.0 - now.0.rem_euclid(day_us));
        let tomorrow = midnight.after(Duration::from_secs(86_400));
        let usage = state.store().usage(UsageGroup::Agent, midnight, tomorrow).await?;
        let usage = usage.into_iter().map(|row| (row.key.clone(), row)).collect();
        Ok(Self { usage, ..Self::without_usage(state).await? })
    }

    /// Reads the status of agents without the sums of the day's ledger, for scrapes.
    pub(crate) async fn without_usage(state: &AppState) -> ApiResult<Self> {
        let now = state.now();
        let statuses = state.store().agent_statuses().await?;
        let workers = state.store().workers(now).await?;
        let alive: Vec<WorkerRecord> = workers.into_iter().filter(|worker| worker.is_alive(now)).collect();
        Ok(Self {
            executed: alive.iter().flat_map(|worker| worker.modes.iter()).fold(ModeSet::NONE, ModeSet::with),
            statuses: statuses.into_iter().map(|status| (status.agent.clone(), status)).collect(),
            usage: HashMap::new(),
            alive,
        })
    }

    /// Returns the state of an agent: by its file, then by whether a worker executes its mode, then as workers report it.
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

    pub(crate) fn view(&self, name: &AgentName, entry: &AgentEntry, overview: &OverviewSnapshot) -> AgentView {
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
            activity: overview.agents.get(name).cloned().unwrap_or_default(),
            budget_usd_day: spec.and_then(|spec| spec.budget.per_day).map(decimal_usd),
        }
    }
}

/// Lists agents by name
#[utoipa::path(
    get, path = "/v1/agents", tag = "agents", params(AgentQuery),
    responses(
        (status = 200, description = "The agents, including invalid ones", body = List<AgentView>),
        (status = 422, description = "A parameter is invalid", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(State(state): State<AppState>, Query(query): Query<AgentQuery>) -> ApiResult {
    let limit = query.limit.map(|limit| page_size(Some(limit))).transpose()?.unwrap_or(usize::MAX);
    let after = from_cursor::<String>(query.cursor.as_deref())?;
    let wanted = query.status.as_deref().map(agent_state).transpose()?;
    let overview = overview_snapshot(&state).await?;
    // The first page is current, like a single agent; further pages use the shared snapshot.
    let read = if after.is_none() { Some(FleetStatus::read(&state).await?) } else { None };
    let seen = read.as_ref().unwrap_or(&overview.fleet);
    let fleet = state.fleet();
    let mut found: Vec<_> = fleet
        .iter()
        .filter(|(name, _)| after.as_ref().is_none_or(|after| name.as_str() > after.as_str()))
        .filter(|(name, _)| query.q.as_ref().is_none_or(|part| name.as_str().contains(part.trim())))
        .filter(|(name, entry)| wanted.is_none_or(|wanted| seen.state_of(name, entry) == wanted))
        .collect();
    found.sort_by(|a, b| a.0.cmp(b.0));
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|(name, _)| to_cursor(name));
    let items = found.into_iter().map(|(name, entry)| seen.view(name, entry, &overview)).collect();
    Ok(axum::Json(List { items, next_cursor }).into_response())
}

fn agent_state(word: &str) -> ApiResult<AgentState> {
    serde_json::from_value(Value::String(word.to_owned())).map_err(|_| {
        let text = "`status` is one of starting, healthy, restarting, failed, invalid and disabled";
        ApiProblem::new(Code::InvalidQuery, text)
    })
}

/// Returns an agent
#[utoipa::path(
    get, path = "/v1/agents/{name}", tag = "agents", params(("name" = String, Path)),
    responses(
        (status = 200, description = "The agent", body = AgentDetail),
        (status = 404, description = "Unknown", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(State(state): State<AppState>, PathParam(name): PathParam<String>) -> ApiResult<Response> {
    let fleet = state.fleet();
    let found = AgentName::new(&name).ok().and_then(|checked| Some((fleet.entry(&name)?, checked)));
    let Some((entry, name)) = found else { return Err(unknown_agent(&state, &name)) };
    let (seen, overview) = tokio::try_join!(FleetStatus::read(&state), overview_snapshot(&state))?;
    let spec = entry.spec.as_deref();
    let detail = AgentDetail {
        agent: seen.view(&name, entry, &overview),
        metadata: spec.and_then(|spec| spec.metadata.as_deref().cloned()),
        tools: spec.map_or_else(Vec::new, |spec| spec.tools.iter().map(|tool| tool.name.to_string()).collect()),
        processes: {
            let current = spec.map(|spec| &*spec.version);
            seen.alive.iter().map(|worker| process_file(worker, &name, current)).collect()
        },
    };
    Ok(axum::Json(detail).into_response())
}
