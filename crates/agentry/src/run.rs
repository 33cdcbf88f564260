//! `agentry run`: one task, on a server or inside this process.
//!
//! Inside this process the whole platform runs on a free loopback port for as long as the task takes, so that both
//! ways go through the same API.

use std::sync::Arc;
use std::time::Duration;

use agentry_config::{Engine, Role, Settings};
use serde_json::{Map, Value, json};

use crate::cli;
use crate::client::{Client, StreamItem};
use crate::failure::Failure;
use crate::log::Steering;
use crate::platform::{self, Platform};
use crate::render::{self, Format, at};
use crate::tape::Tape;
use crate::{out, settings, verbs};

/// How long the platform inside this process may take to end after its only task has.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs one task.
///
/// # Errors
/// When it is not accepted, or was waited for and did not complete.
pub async fn run(args: cli::Run) -> Result<(), Failure> {
    let log = crate::log::start_quiet()?;
    let taped = args.record.is_some() || args.replay.is_some();
    if let (false, Some(url)) = (taped, settings::named_server(args.url.as_ref(), args.place.config.as_ref())?) {
        let key = settings::api_key(args.key.as_ref(), args.place.config.as_ref())?;
        let client = Client::new(&url)?.with_key(key);
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
async fn run_taped(args: &cli::Run, mut settings: Settings, log: Arc<Steering>) -> Result<(), Failure> {
    let fresh = tempfile::tempdir().map_err(|error| Failure::new(format!("no temporary folder: {error}")))?;
    if args.place.data.is_none() {
        settings.data = fresh.path().to_owned();
    }
    settings.roles = vec![Role::Api, Role::Worker];
    let input = request(args)?["input"].take();
    let Some(tape) = Tape::open(args, &input, &settings)? else { return Err(Failure::usage("no recording is named")) };
    if tape.is_replay() {
        settings.sim = false;
    }
    let answered = answer(args, &settings, Some(&tape), log).await;
    tape.end(answered)
}

async fn answer(args: &cli::Run, settings: &Settings, tape: Option<&Tape>, log: Arc<Steering>) -> Result<(), Failure> {
    let platform = Platform::start_taped(settings, args.place.sim_url.clone(), tape, log).await?;
    let client = Client::new(platform.url())?.with_key(Some(platform.own_key()));
    let answered = tokio::select! {
        answered = ask(&client, args, true) => answered,
        signal = crate::serve::stop_signal() => signal.and(Err(Failure::new("interrupted"))),
    };
    platform.stop(DRAIN).await?;
    answered
}

async fn ask(client: &Client, args: &cli::Run, wait: bool) -> Result<(), Failure> {
    let accepted = client.post(&["v1", "tasks"], &[], &request(args)?).await?;
    let id = at(&accepted, "/id");
    if !wait {
        return match args.output {
            Format::Table => out::line(&format!("{id}  {}", at(&accepted, "/status"))),
            format => render::document(format, &accepted),
        };
    }
    let mut answer = Answer { live: args.stream && args.output == Format::Table, wrote: false, task: Value::Null };
    let path = ["v1", "tasks", id.as_str(), "events"];
    client.stream(&path, &[], |item| answer.take(client.base(), &item)).await?;
    answer.finish(&id, args.output)
}

fn request(args: &cli::Run) -> Result<Value, Failure> {
    let input = if args.json {
        serde_json::from_str(&args.input).map_err(|error| {
            Failure::usage(format!("the input is not JSON: {error}")).help("leave --json out for text")
        })?
    } else {
        Value::String(args.input.clone())
    };
    let mut body = Map::from_iter([("agent".to_owned(), json!(args.agent)), ("input".to_owned(), input)]);
    if args.stream {
        body.insert("stream".to_owned(), json!(true));
    }
    if let Some(session) = &args.session {
        body.insert("session".to_owned(), json!(session));
    }
    Ok(Value::Object(body))
}

/// The answer as it comes.
struct Answer {
    /// Whether its pieces are printed as they come.
    live: bool,
    /// Whether any was.
    wrote: bool,
    /// The task once it has ended.
    task: Value,
}

impl Answer {
    /// Returns false at the end.
    fn take(&mut self, base: &str, item: &StreamItem) -> Result<bool, Failure> {
        match item.event.as_str() {
            "delta" if self.live => {
                self.wrote = true;
                out::print(item.data["text"].as_str().unwrap_or_default())?;
            }
            "asked" => {
                let (question, id) = (at(&item.data, "/body/question"), at(&item.data, "/body/clarification"));
                out::complain(&format!(
                    "waiting for an answer: {question}\n  = help: agentry clarifications answer {id} \"…\" --url {base}\n"
                ));
            }
            "end" => {
                self.task = item.data.clone();
                return Ok(false);
            }
            _ => {}
        }
        Ok(true)
    }

    fn finish(self, id: &str, format: Format) -> Result<(), Failure> {
        if self.task.is_null() {
            let help = format!("the task goes on: `agentry tasks show {id}` tells how it ended");
            return Err(Failure::new(format!("the stream of task {id} ended before the task did")).help(help));
        }
        if format != Format::Table {
            render::document(format, &self.task)?;
        } else if self.wrote {
            out::line("")?;
        }
        let status = at(&self.task, "/status");
        match status.as_str() {
            "completed" if format == Format::Table && !self.wrote => out::line(&verbs::answer(&self.task)),
            "completed" => Ok(()),
            _ => Err(Failure::new(format!("task {id} is {status}: {}", at(&self.task, "/error/message")))),
        }
    }
}
