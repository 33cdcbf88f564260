//! `agents`, `workers`, `usage`, `log-level`: the state of the fleet.

use agentry_api::{
    ActivateRequest, AgentQuery, AgentView, LogChange, LogView, UsageDimension, UsageQuery, UsageReply, UsageSum,
    WorkerView,
};

use super::{LIST_LIMIT, act, list, show};
use crate::cli::{AgentCommand, AgentsArgs, LogLevelArgs, ReadArgs, UsageArgs, UsageBy};
use crate::failure::Failure;
use crate::out;
use crate::render::{self, OutputFormat, TableColumn, cost, moment, number, shown, text};

const AGENTS: &[TableColumn<AgentView>] = &[
    text("agent", |agent| shown(&agent.name)),
    text("mode", |agent| shown(&agent.mode)),
    text("version", |agent| shown(&agent.version)),
    text("state", |agent| shown(&agent.status)),
    text("model", |agent| shown(&agent.model)),
    text("note", note),
];

/// Returns the error of an agent's file, the reason of its status, or its warnings.
fn note(agent: &AgentView) -> String {
    agent.error.as_ref().or(agent.reason.as_ref()).cloned().unwrap_or_else(|| agent.warnings.join(", "))
}

pub async fn agents(args: &AgentsArgs) -> Result<(), Failure> {
    match &args.act {
        Some(AgentCommand::Remove(args)) => {
            let call = args.server.client()?.remove_agent(&args.id);
            return act(args, call, "is removed; what was accepted for it still runs").await;
        }
        Some(AgentCommand::Activate(args)) => {
            let version = ActivateRequest { version: args.version.clone() };
            let active = args.server.client()?.activate(&args.name, &version).await?;
            return out::line(&format!("{} runs version {}", active.name, active.version));
        }
        None => {}
    }
    let client = args.reading.server.client()?;
    match &args.name {
        None => {
            let empty = "no agents: put agent files into the folder of --agents";
            list(&args.reading, client.agents(&AgentQuery::default()), LIST_LIMIT, AGENTS, empty).await
        }
        Some(name) => show(&args.reading, client.agent(name)).await,
    }
}

const WORKERS: &[TableColumn<WorkerView>] = &[
    text("worker", |it| shown(&it.worker.id)),
    text("host", |it| shown(&it.worker.host)),
    text("roles", |it| shown(&it.worker.roles)),
    text("modes", |it| shown(&it.worker.modes)),
    number("busy", |it| shown(&it.worker.busy)),
    number("slots", |it| shown(&it.worker.slots)),
    text("alive", |it| shown(&it.alive)),
    text("heartbeat", |it| moment(it.worker.heartbeat_at)),
];

pub async fn workers(reading: &ReadArgs) -> Result<(), Failure> {
    list(reading, reading.server.client()?.workers(), LIST_LIMIT, WORKERS, "no workers are registered").await
}

const USAGE: &[TableColumn<UsageSum>] = &[
    text("for", |row| shown(&row.key)),
    number("calls", |row| shown(&row.calls)),
    number("failed", |row| shown(&row.failed_calls)),
    number("unpriced", |row| shown(&row.unpriced_calls)),
    number("tokens in", |row| shown(&row.input_tokens)),
    number("cached", |row| shown(&row.cached_tokens)),
    number("tokens out", |row| shown(&row.output_tokens)),
    number("cost", |row| cost(row.cost_nanos)),
];

pub async fn usage(args: &UsageArgs) -> Result<(), Failure> {
    let by = match args.by {
        UsageBy::Agent => UsageDimension::Agent,
        UsageBy::Model => UsageDimension::Model,
        UsageBy::Day => UsageDimension::Day,
        UsageBy::Task => UsageDimension::Task,
    };
    let call = args.reading.server.client()?.usage(&UsageQuery { by, from: None, to: None });
    if args.reading.output != OutputFormat::Table {
        return show(&args.reading, call).await;
    }
    let UsageReply { rows, .. } = call.await?;
    render::rows(&rows, USAGE, "no provider was called yet")
}

/// Prints the log filter, after changing it if requested.
pub async fn log_level(args: &LogLevelArgs) -> Result<(), Failure> {
    let client = args.reading.server.client()?;
    let call = match &args.filter {
        None => client.log(),
        Some(filter) => client.change_log(&LogChange { filter: filter.clone(), for_seconds: args.time }),
    };
    if args.reading.output != OutputFormat::Table {
        return show(&args.reading, call).await;
    }
    let LogView { filter, then, remaining_seconds } = call.await?;
    match remaining_seconds {
        None => out::line(&filter),
        Some(left) => out::line(&format!("{filter}, for {left} s; then {}", shown(&then))),
    }
}
