//! `agentry run`: one task, on a server or inside this process.
//!
//! Inside this process the whole platform runs on a free loopback port for as long as the task takes, so that both
//! ways go through the same API.

use std::sync::Arc;
use std::time::Duration;

use agentry_api::{Client, ServerEvent, TaskEvent, TaskRequest, TaskView};
use agentry_config::{Engine, Role, Settings};
use agentry_core::journal::JournalBody;
use agentry_core::task::TaskStatus;
use serde_json::Value;

use crate::cli;
use crate::failure::Failure;
use crate::log::Steering;
use crate::platform::{self, Platform};
use crate::render::{self, Format, shown};
use crate::tape::Tape;
use crate::{out, settings, verbs};

/// How long the platform inside this process may take to end after its only task has.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs one task.
///
/// # Errors
/// When it is not accepted, or was waited for and did not complete.
pub async fn run(args: cli::RunArgs) -> Result<(), Failure> {
    let log = crate::log::start_quiet()?;
    let taped = args.record.is_some() || args.replay.is_some();
    if let (false, Some(url)) = (taped, settings::named_server(args.url.as_ref(), args.place.config.as_ref())?) {
        let key = settings::api_key(args.key.as_ref(), args.place.config.as_ref())?;
        let client = Client::builder(&url).key(key).build()?;
        return ask(&client, &args, args.wait || args.stream).await;
    }
    let mut settings = settings::of_fleet(&args.place)?;
    settings.listen = platform::any_port();
    // Alone in this process and for one task, whatever the settings of servers say.
    (settings.engine, settings.roles) = (Engine::Embedded, Role::ALL.to_vec());
    settings.traces.endpoint = None;
    if taped {
        return run_taped(&args, settings, log).await;
    }
    answer(&args, &settings, None, log).await
}

/// With a recording: on fresh data, so that nothing but the files and the input decides what is asked, and without
/// schedules, so that nothing else is asked meanwhile.
async fn run_taped(args: &cli::RunArgs, mut settings: Settings, log: Arc<Steering>) -> Result<(), Failure> {
    let fresh = tempfile::tempdir().map_err(|error| Failure::new(format!("no temporary folder: {error}")))?;
    if args.place.data.is_none() {
        settings.data = fresh.path().to_owned();
    }
    settings.roles = vec![Role::Api, Role::Worker];
    let input = input(args)?;
    let Some(tape) = Tape::open(args, &input, &settings)? else { return Err(Failure::usage("no recording is named")) };
    if tape.is_replay() {
        settings.sim = false;
    }
    let answered = answer(args, &settings, Some(&tape), log).await;
    tape.end(answered)
}

async fn answer(
    args: &cli::RunArgs,
    settings: &Settings,
    tape: Option<&Tape>,
    log: Arc<Steering>,
) -> Result<(), Failure> {
    let platform = Platform::start_taped(settings, args.place.sim_url.clone(), tape, log).await?;
    let client = Client::builder(platform.url()).key(Some(platform.own_key())).build()?;
    let answered = tokio::select! {
        answered = ask(&client, args, true) => answered,
        signal = crate::serve::stop_signal() => signal.and(Err(Failure::new("interrupted"))),
    };
    platform.stop(DRAIN).await?;
    answered
}

async fn ask(client: &Client, args: &cli::RunArgs, wait: bool) -> Result<(), Failure> {
    let mut request = TaskRequest::new(&args.agent, input(args)?);
    (request.stream, request.session) = (args.stream, args.session.clone());
    let accepted = client.submit(&request).await?;
    if !wait {
        return match args.output {
            Format::Table => out::line(&format!("{}  {}", accepted.id, shown(&accepted.status))),
            format => render::document(format, &accepted),
        };
    }
    let mut answer = Answer { live: args.stream && args.output == Format::Table, wrote: false };
    let mut events = client.task_events(accepted.id).follow().await?;
    while let Some(event) = events.next().await? {
        if let Some(task) = answer.take(client.base(), &event)? {
            return answer.finish(&task, &event.data, args.output);
        }
    }
    let help = format!("the task goes on: `agentry tasks show {}` tells how it ended", accepted.id);
    Err(Failure::new(format!("the stream of task {} ended before the task did", accepted.id)).help(help))
}

fn input(args: &cli::RunArgs) -> Result<Value, Failure> {
    if !args.json {
        return Ok(Value::String(args.input.clone()));
    }
    serde_json::from_str(&args.input)
        .map_err(|error| Failure::usage(format!("the input is not JSON: {error}")).help("leave --json out for text"))
}

/// The answer as it comes.
struct Answer {
    /// Whether its pieces are printed as they come.
    live: bool,
    /// Whether any was.
    wrote: bool,
}

impl Answer {
    /// Returns the task at its end.
    fn take(&mut self, base: &str, event: &ServerEvent) -> Result<Option<Box<TaskView>>, Failure> {
        match event.of_task() {
            Some(TaskEvent::Delta(text)) if self.live => {
                self.wrote = true;
                out::print(&text)?;
            }
            Some(TaskEvent::Entry(entry)) => {
                if let JournalBody::Asked { question, clarification: id, .. } = entry.body {
                    out::complain(&format!(
                        "waiting for an answer: {question}\n  = help: agentry clarifications answer {id} \"…\" --url {base}\n"
                    ));
                }
            }
            Some(TaskEvent::End(task)) => return Ok(Some(task)),
            _ => {}
        }
        Ok(None)
    }

    /// Prints the task, or as a program reads it, all its fields.
    fn finish(self, task: &TaskView, fields: &Value, format: Format) -> Result<(), Failure> {
        if format != Format::Table {
            render::document(format, fields)?;
        } else if self.wrote {
            out::line("")?;
        }
        match task.status {
            TaskStatus::Completed if format == Format::Table && !self.wrote => out::line(&verbs::answer(task)),
            TaskStatus::Completed => Ok(()),
            status => {
                let error = shown(&task.error.as_ref().map(|error| &error.message));
                Err(Failure::new(format!("task {} is {}: {error}", task.id, shown(&status))))
            }
        }
    }
}
