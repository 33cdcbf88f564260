//! `agentry run`: one task, on a server or inside this process.
//!
//! Without a server the whole platform runs in this process, on a free loopback port, so that both cases use the API.

use std::sync::Arc;
use std::time::Duration;

use agentry_api::{Client, ServerEvent, TaskEvent, TaskRequest, TaskView};
use agentry_config::{Engine, Role, Settings};
use agentry_core::journal::JournalBody;
use agentry_core::task::TaskStatus;
use serde_json::Value;

use crate::cli;
use crate::failure::Failure;
use crate::log::LogController;
use crate::platform::{self, Platform};
use crate::render::{self, OutputFormat, shown};
use crate::tape::Tape;
use crate::{out, settings, verbs};

/// The time that the platform in this process gets to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs one task.
pub async fn run(args: cli::RunTaskArgs) -> Result<(), Failure> {
    let log = crate::log::start_quiet()?;
    let taped = args.record.is_some() || args.replay.is_some();
    if let (false, Some(url)) = (taped, settings::named_server(args.url.as_ref(), args.place.config.as_ref())?) {
        let key = settings::api_key(args.key.as_ref(), args.place.config.as_ref())?;
        let client = Client::builder(&url).key(key).build()?;
        return ask(&client, &args, args.wait || args.stream).await;
    }
    let mut settings = settings::of_fleet(&args.place)?;
    settings.listen = platform::any_port();
    // For one task in this process, regardless of the settings of servers.
    (settings.engine, settings.roles) = (Engine::Embedded, Role::ALL.to_vec());
    settings.traces.endpoint = None;
    if taped {
        return run_taped(&args, settings, log).await;
    }
    answer(&args, &settings, None, log).await
}

/// Runs one task with a recording: on fresh data, so that calls depend on files and input only, and without schedules, so
/// that there are no other calls.
async fn run_taped(args: &cli::RunTaskArgs, mut settings: Settings, log: Arc<LogController>) -> Result<(), Failure> {
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
    args: &cli::RunTaskArgs,
    settings: &Settings,
    tape: Option<&Tape>,
    log: Arc<LogController>,
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

async fn ask(client: &Client, args: &cli::RunTaskArgs, wait: bool) -> Result<(), Failure> {
    let mut request = TaskRequest::new(&args.agent, input(args)?);
    (request.stream, request.session) = (args.stream, args.session.clone());
    let accepted = client.submit(&request).await?;
    if !wait {
        return match args.output {
            OutputFormat::Table => out::line(&format!("{}  {}", accepted.id, shown(&accepted.status))),
            format => render::document(format, &accepted),
        };
    }
    let mut answer = AnswerPrinter { live: args.stream && args.output == OutputFormat::Table, shown: String::new() };
    let mut events = client.task_events(accepted.id).follow().await?;
    while let Some(event) = events.next().await? {
        if let Some(task) = answer.take(client.base(), &event)? {
            return answer.finish(&task, &event.data, args.output);
        }
    }
    let help = format!("the task goes on: `agentry tasks show {}` tells how it ended", accepted.id);
    Err(Failure::new(format!("the stream of task {} ended before the task did", accepted.id)).help(help))
}

fn input(args: &cli::RunTaskArgs) -> Result<Value, Failure> {
    if !args.json {
        return Ok(Value::String(args.input.clone()));
    }
    serde_json::from_str(&args.input)
        .map_err(|error| Failure::usage(format!("the input is not JSON: {error}")).help("leave --json out for text"))
}

/// Prints the output of a task.
struct AnswerPrinter {
    /// True if partial output is printed at once.
    live: bool,
    /// The partial output that was printed since the answer began.
    shown: String,
}

impl AnswerPrinter {
    /// Handles an event; returns the task at its end.
    fn take(&mut self, base: &str, event: &ServerEvent) -> Result<Option<Box<TaskView>>, Failure> {
        match event.of_task() {
            Some(TaskEvent::Delta(text)) if self.live => {
                self.shown.push_str(&text);
                out::print(&text)?;
            }
            Some(TaskEvent::Restart) if !self.shown.is_empty() => {
                self.shown.clear();
                out::print("\n")?;
                out::eprint("the answer was cut off and begins again\n");
            }
            Some(TaskEvent::Entry(entry)) => {
                if let JournalBody::Asked { question, clarification: id, .. } = entry.body {
                    out::eprint(&format!(
                        "waiting for an answer: {question}\n  = help: agentry clarifications answer {id} \"…\" --url {base}\n"
                    ));
                }
            }
            Some(TaskEvent::End(task)) => return Ok(Some(task)),
            _ => {}
        }
        Ok(None)
    }

    /// Prints the output of the task, or all its fields in other formats.
    fn finish(self, task: &TaskView, fields: &Value, format: OutputFormat) -> Result<(), Failure> {
        if format != OutputFormat::Table {
            render::document(format, fields)?;
        } else if !self.shown.is_empty() {
            out::line("")?;
        }
        match task.status {
            // Partial output may be the end of the answer only, or text that is not the answer.
            TaskStatus::Completed if format == OutputFormat::Table && self.shown != verbs::answer(task) => {
                out::line(&verbs::answer(task))
            }
            TaskStatus::Completed => Ok(()),
            status => {
                let error = shown(&task.error.as_ref().map(|error| &error.message));
                Err(Failure::new(format!("task {} is {}: {error}", task.id, shown(&status))))
            }
        }
    }
}
