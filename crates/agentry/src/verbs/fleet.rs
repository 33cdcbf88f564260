//! `agents`, `workers`, `usage`: how the fleet is doing.

use reqwest::Method;
use serde_json::{Value, json};

use super::list;
use crate::cli::{AgentAct, Agents, LogLevel, Reading, Usage, UsageBy};
use crate::failure::Failure;
use crate::out;
use crate::render::{self, Column, Format, at, dollars, moment, number, text};

const AGENTS: &[Column] = &[
    text("agent", |agent| at(agent, "/name")),
    text("mode", |agent| at(agent, "/mode")),
    text("version", |agent| at(agent, "/version").chars().take(8).collect()),
    text("state", |agent| at(agent, "/status")),
    text("model", |agent| at(agent, "/model")),
    text("note", note),
];

/// Why an agent is not as it should be: its file's error, why it is not healthy, or what to look at.
fn note(agent: &Value) -> String {
    ["/error", "/reason", "/warnings"]
        .map(|pointer| at(agent, pointer))
        .into_iter()
        .find(|text| text != "–")
        .unwrap_or_default()
}

pub async fn agents(args: &Agents) -> Result<(), Failure> {
    match &args.act {
        Some(AgentAct::Remove(act)) => {
            let text = "is removed; what was accepted for it still runs";
            return super::act(act, Method::DELETE, &["v1", "agents", &act.id], text).await;
        }
        Some(AgentAct::Activate(args)) => {
            let body = json!({"version": args.version});
            super::send(&args.server, Method::POST, &["v1", "agents", &args.name, "activate"], &body).await?;
            return out::line(&format!("{} runs version {}", args.name, args.version));
        }
        None => {}
    }
    match &args.name {
        None => {
            list(&args.reading, &["v1", "agents"], AGENTS, "no agents: put agent files into the folder of --agents")
                .await
        }
        Some(name) => {
            let agent = args.reading.server.client()?.get(&["v1", "agents", name], &[]).await?;
            render::document(args.reading.output, &agent)
        }
    }
}

const WORKERS: &[Column] = &[
    text("worker", |worker| at(worker, "/id")),
    text("host", |worker| at(worker, "/host")),
    text("roles", |worker| at(worker, "/roles")),
    text("modes", |worker| at(worker, "/modes")),
    number("busy", |worker| at(worker, "/busy")),
    number("slots", |worker| at(worker, "/slots")),
    text("alive", |worker| at(worker, "/alive")),
    text("heartbeat", |worker| moment(worker, "/heartbeat_at")),
];

pub async fn workers(reading: &Reading) -> Result<(), Failure> {
    list(reading, &["v1", "workers"], WORKERS, "no workers are registered").await
}

const USAGE: &[Column] = &[
    text("for", |row| at(row, "/key")),
    number("calls", |row| at(row, "/calls")),
    number("failed", |row| at(row, "/failed_calls")),
    number("unpriced", |row| at(row, "/unpriced_calls")),
    number("tokens in", |row| at(row, "/input_tokens")),
    number("cached", |row| at(row, "/cached_tokens")),
    number("tokens out", |row| at(row, "/output_tokens")),
    number("cost", |row| dollars(row["cost_nanos"].as_u64().unwrap_or(0))),
];

pub async fn usage(args: &Usage) -> Result<(), Failure> {
    let by = match args.by {
        UsageBy::Agent => "agent",
        UsageBy::Model => "model",
        UsageBy::Day => "day",
        UsageBy::Task => "task",
    };
    let usage = args.reading.server.client()?.get(&["v1", "usage"], &[("by", by.to_owned())]).await?;
    let rows = usage["rows"].as_array().cloned().unwrap_or_default();
    if args.reading.output != Format::Table {
        return render::document(args.reading.output, &usage);
    }
    render::rows(Format::Table, &rows, USAGE, "no provider was called yet")
}

/// Shows what a process logs, after a change when one is asked for.
pub async fn log_level(args: &LogLevel) -> Result<(), Failure> {
    let client = args.reading.server.client()?;
    let log = match &args.filter {
        None => client.get(&["v1", "log"], &[]).await?,
        Some(filter) => {
            let body = json!({"filter": filter, "for_seconds": args.time});
            client.send(Method::PUT, &["v1", "log"], Some(&body)).await?
        }
    };
    match (args.reading.output, log["remaining_seconds"].as_u64()) {
        (Format::Table, None) => out::line(&at(&log, "/filter")),
        (Format::Table, Some(left)) => {
            out::line(&format!("{}, for {left} s; then {}", at(&log, "/filter"), at(&log, "/then")))
        }
        (format, _) => render::document(format, &log),
    }
}
