//! `schedules`: schedules of agents.

use agentry_api::{BackfillReply, BackfillRequest, ScheduleDetail, ScheduleRequest, ScheduleView};
use agentry_core::schedule::Timing;

use super::{LIST_LIMIT, act, list, show};
use crate::cli::{BackfillArgs, NextSlotsArgs, ResourceArgs, ScheduleCommand, TargetArgs};
use crate::failure::Failure;
use crate::out;
use crate::render::{self, OutputFormat, TableColumn, moment, number, shown, text};

const SCHEDULES: &[TableColumn<ScheduleView>] = &[
    text("schedule", |schedule| shown(&schedule.name)),
    text("agent", |schedule| shown(&schedule.agent)),
    text("when", |schedule| when(&schedule.spec.timing)),
    text("paused", |schedule| shown(&schedule.paused)),
    text("next", |schedule| moment(schedule.next_slots.first().copied())),
    text("last", |schedule| moment(schedule.last_slot)),
    number("missed", |schedule| shown(&schedule.missed)),
    number("skipped", |schedule| shown(&schedule.skipped)),
];

fn when(timing: &Timing) -> String {
    match timing {
        #[allow(clippy::cast_precision_loss, reason = "an interval has at most a year")]
        Timing::Interval { every_ms } => format!("every {} s", *every_ms as f64 / 1_000.0),
        Timing::Cron { cron, timezone } => format!("{cron} ({timezone})"),
    }
}

pub async fn schedules(verb: ResourceArgs<ScheduleCommand>) -> Result<(), Failure> {
    match verb.command.unwrap_or(ScheduleCommand::List(verb.reading)) {
        ScheduleCommand::List(reading) => {
            let empty = "no schedules: a scheduled agent's file makes one, and so does POST /v1/schedules";
            list(&reading, reading.server.client()?.schedules(), LIST_LIMIT, SCHEDULES, empty).await
        }
        ScheduleCommand::Show(args) => {
            show(&args.reading, args.reading.server.client()?.schedule(&args.id, None)).await
        }
        ScheduleCommand::Next(args) => next(&args).await,
        ScheduleCommand::Backfill(args) => backfill(&args).await,
        ScheduleCommand::Trigger(args) => act(&args, args.server.client()?.trigger(&args.id), "is triggered").await,
        ScheduleCommand::Pause(args) => pause(&args, true, "is paused").await,
        ScheduleCommand::Resume(args) => pause(&args, false, "fires again").await,
    }
}

async fn pause(args: &TargetArgs, paused: bool, done: &str) -> Result<(), Failure> {
    let change = ScheduleRequest { paused: Some(paused), ..ScheduleRequest::default() };
    act(args, args.server.client()?.change_schedule(&args.id, &change), done).await
}

/// Prints the slots to come, one a line.
async fn next(args: &NextSlotsArgs) -> Result<(), Failure> {
    let call = args.reading.server.client()?.schedule(&args.id, Some(args.count.into()));
    let ScheduleDetail { schedule, .. } = call.await?;
    if args.reading.output != OutputFormat::Table {
        return render::document(args.reading.output, &schedule.next_slots);
    }
    if schedule.next_slots.is_empty() {
        let why = if schedule.paused { "it is paused" } else { "it is disabled, or has had its last one" };
        return out::line(&format!("{} fires at no slot: {why}", args.id));
    }
    schedule.next_slots.into_iter().try_for_each(|slot| out::line(&moment(slot)))
}

async fn backfill(args: &BackfillArgs) -> Result<(), Failure> {
    let limit = args.limit.and_then(|limit| usize::try_from(limit).ok());
    let range = BackfillRequest { from: args.from.clone(), to: args.to.clone(), limit, dry_run: args.dry_run };
    let reply = args.server.client()?.backfill(&args.id, &range).await?;
    let BackfillReply { slots, fired, already_decided, .. } = reply;
    let verb = if args.dry_run { "would fire" } else { "fired" };
    out::line(&format!("{}: {fired} of {slots} slots {verb}; {already_decided} had been decided before", args.id))
}
