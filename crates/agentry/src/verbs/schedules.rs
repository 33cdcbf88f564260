//! `schedules`: when agents run by themselves.

use reqwest::Method;
use serde_json::{Value, json};

use super::{act, list, send};
use crate::cli::{Backfill, NextSlots, Schedules, Verb};
use crate::failure::Failure;
use crate::out;
use crate::render::{self, Column, Format, at, moment, number, text};

const SCHEDULES: &[Column] = &[
    text("schedule", |schedule| at(schedule, "/name")),
    text("agent", |schedule| at(schedule, "/agent")),
    text("when", |schedule| match schedule["spec"]["timing"]["every_ms"].as_f64() {
        Some(every_ms) => format!("every {} s", every_ms / 1_000.0),
        None => format!("{} ({})", at(schedule, "/spec/timing/cron"), at(schedule, "/spec/timing/timezone")),
    }),
    text("paused", |schedule| at(schedule, "/paused")),
    text("next", |schedule| moment(schedule, "/next_slots/0")),
    text("last", |schedule| moment(schedule, "/last_slot")),
    number("missed", |schedule| at(schedule, "/missed")),
    number("skipped", |schedule| at(schedule, "/skipped")),
];

pub async fn schedules(verb: Verb<Schedules>) -> Result<(), Failure> {
    match verb.command.unwrap_or(Schedules::List(verb.reading)) {
        Schedules::List(reading) => {
            let empty = "no schedules: a scheduled agent's file makes one, and so does POST /v1/schedules";
            list(&reading, &["v1", "schedules"], SCHEDULES, empty).await
        }
        Schedules::Show(args) => {
            let schedule = args.reading.server.client()?.get(&["v1", "schedules", &args.id], &[]).await?;
            render::document(args.reading.output, &schedule)
        }
        Schedules::Next(args) => next(&args).await,
        Schedules::Backfill(args) => backfill(&args).await,
        Schedules::Trigger(args) => {
            act(&args, Method::POST, &["v1", "schedules", &args.id, "trigger"], "is triggered").await
        }
        Schedules::Pause(args) => {
            send(&args.server, Method::PATCH, &["v1", "schedules", &args.id], &json!({"paused": true})).await?;
            out::line(&format!("{} is paused", args.id))
        }
        Schedules::Resume(args) => {
            send(&args.server, Method::PATCH, &["v1", "schedules", &args.id], &json!({"paused": false})).await?;
            out::line(&format!("{} fires again", args.id))
        }
    }
}

/// The slots to come, one a line.
async fn next(args: &NextSlots) -> Result<(), Failure> {
    let query = [("next", args.count.to_string())];
    let schedule = args.reading.server.client()?.get(&["v1", "schedules", &args.id], &query).await?;
    let slots = schedule["next_slots"].as_array().cloned().unwrap_or_default();
    if args.reading.output != Format::Table {
        return render::document(args.reading.output, &Value::Array(slots));
    }
    if slots.is_empty() {
        let why = if schedule["paused"] == true { "it is paused" } else { "it is disabled, or has had its last one" };
        return out::line(&format!("{} fires at no slot: {why}", args.id));
    }
    slots.iter().try_for_each(|slot| out::line(&moment(slot, "")))
}

async fn backfill(args: &Backfill) -> Result<(), Failure> {
    let mut body = json!({"from": args.from, "to": args.to, "dry_run": args.dry_run});
    if let Some(limit) = args.limit {
        body["limit"] = limit.into();
    }
    let reply = send(&args.server, Method::POST, &["v1", "schedules", &args.id, "backfill"], &body).await?;
    let [slots, fired, before] = ["/slots", "/fired", "/already_decided"].map(|pointer| at(&reply, pointer));
    let verb = if args.dry_run { "would fire" } else { "fired" };
    out::line(&format!("{}: {fired} of {slots} slots {verb}; {before} had been decided before", args.id))
}
